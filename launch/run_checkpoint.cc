#include "launch/run_checkpoint.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/load.h"
#include "configs/validate.h"
#include "kernels/base/log.h"
#include "launch/checkpoint_path.h"
#include "launch/gpu.h"
#include "launch/runtime.h"
#include "parallel/comm/watchdog.h"
#include "trainer/checkpoint/agreement.h"
#include "trainer/run/state.h"

namespace jevons {

namespace {

bool Says(std::span<const std::string> overrides, absl::string_view field) {
  return std::any_of(overrides.begin(), overrides.end(),
                     [&](const std::string& text) { return absl::StartsWith(text, absl::StrCat(field, "=")); });
}

}  // namespace

absl::StatusOr<RunConfig> ConfigForRanks(const RunConfig& kept, const std::string& source, std::span<const std::string> overrides,
                                         int ranks) {
  const std::string text = ResolvedText(kept);
  const auto parse = [&](std::vector<std::string> all) {
    all.insert(all.end(), overrides.begin(), overrides.end());
    return ParseRunConfig(text, source, all);
  };
  std::vector<std::string> layout = {"parallel.ep=1", "parallel.pp=1", "parallel.threads=0", "parallel.ep_nodes=0",
                                     "parallel.dispatch=AUTO"};
  if (kept.parallel().pp() > 1)  // a cut and a schedule for as many stages as there were
    for (const char* field : {"parallel.stages=\"\"", "parallel.schedule=ONE_F_ONE_B", "parallel.virtual_stages=1"})
      layout.push_back(field);
  JEVONS_ASSIGN_OR_RETURN(RunConfig config, parse(layout));
  if (const int64_t pp = config.parallel().pp(); !Says(overrides, "parallel.ep") && pp > 0 && ranks % pp == 0) {
    const ModelConfig& model = config.model();
    const bool experts = model.layers() > model.dense_layers() || model.mtp().depth() > 0;
    int64_t ep = ranks / pp;
    while (ep > 1 && (ep > (experts ? model.moe().routed_experts() : 1) || ranks / pp % ep != 0)) --ep;
    config.mutable_parallel()->set_ep(ep);
  }
  JEVONS_RETURN_IF_ERROR(ValidationStatus(config, ranks));
  return config;
}

absl::StatusOr<OpenedCheckpoint> OpenForUse(const CheckpointOptions& options, Needs needs, int ranks) {
  JEVONS_ASSIGN_OR_RETURN(CheckpointReader reader, OpenCheckpointAt(PosixFileSystem(), options.path));
  if (options.ema) JEVONS_RETURN_IF_ERROR(UseAverage(reader));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig own, StageConfigOf(reader));
  JEVONS_ASSIGN_OR_RETURN(RunConfig config, ConfigForRanks(own, NameOfConfig(reader), options.overrides, ranks));
  // The run's own tokenizer, unless another place is named; to data belongs the one that it was made with.
  const bool named = config.data().tokenizer() != own.data().tokenizer() || config.data().path() != own.data().path();
  if (const std::string kept = KeptTokenizer(reader.path()); needs != Needs::kValidation && !named && !kept.empty())
    config.mutable_data()->set_tokenizer(kept);
  const bool tokenizer = !config.data().tokenizer().empty() || !config.data().path().empty();
  RunInputs inputs;
  if (needs == Needs::kModel && !tokenizer) {
    inputs.config = config;
  } else {
    if (needs == Needs::kValidation) JEVONS_RETURN_IF_ERROR(CheckValidation(config.data()));
    JEVONS_ASSIGN_OR_RETURN(
        inputs, needs == Needs::kValidation ? ResolveInputs(config, reader.labels()) : ResolveTokenizer(config, reader.labels()));
  }
  return OpenedCheckpoint{std::move(reader), std::move(inputs)};
}

absl::StatusOr<LoadedStep> LoadStep(CheckpointReader& reader, const RunConfig& config, Communicator& host) {
  JEVONS_RETURN_IF_ERROR(CheckCut(config, host.size()));
  JEVONS_ASSIGN_OR_RETURN(const MeshShape shape, MeshShapeOn(config, host));
  SetWatchdogDeadline(config.parallel().watchdog_seconds());
  LoadedStep loaded;
  JEVONS_ASSIGN_OR_RETURN(loaded.gpus, OpenGpus(config, host));
  Communicator& world = loaded.gpus ? *loaded.gpus : host;
  const CpuUse cpu = SetThreads(config, world);
  if (host.size() > 1)
    LogInfo(absl::StrFormat("%d ranks of %d threads, ep %d, pp %d, products in %s", host.size(), cpu.threads,
                            config.parallel().ep(), config.parallel().pp(), ProductsText(config)));
  loaded.mesh = std::make_unique<Mesh>(world, shape);
  loaded.step = std::make_unique<TrainStep>(config, *loaded.mesh);
  JEVONS_RETURN_IF_ERROR(AgreeOnStatus(world, LoadWeights(reader, *loaded.step)));
  return loaded;
}

std::function<void(int64_t, int64_t)> TellProgress() {
  using Clock = std::chrono::steady_clock;
  constexpr double kSecondsBetween = 10;
  return [begin = Clock::now(), told = 0.0](int64_t done, int64_t sequences) mutable {
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    if (seconds - told < kSecondsBetween || done == sequences) return;
    told = seconds;
    LogInfo(absl::StrFormat("%d of %d sequences, about %.0f s to go", done, sequences,
                            seconds * static_cast<double>(sequences - done) / static_cast<double>(done)));
  };
}

}  // namespace jevons
