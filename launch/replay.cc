// jevons replay: one step of a run once more.
#include "trainer/run/replay.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "configs/load.h"
#include "configs/validate.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/gpu.h"
#include "launch/memory.h"
#include "launch/run_checkpoint.h"
#include "launch/runtime.h"
#include "parallel/comm/watchdog.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/metrics/run_files.h"
#include "trainer/run/state.h"

namespace jevons {
namespace {

constexpr char kExamples[] =
    "jevons replay run --step 120\n"
    "mpirun -np 4 jevons replay run --step 120 --set parallel.ep=4 --json    # with sums that are EXACT any layout gives the "
    "same bits\n"
    "jevons replay run --step 3                                              # before the oldest checkpoint: from the beginning";

struct Options {
  std::string run;
  int64_t step = 0;
  std::vector<std::string> overrides;
  bool json = false;
};

struct Start {
  ReplayOptions replay;
  std::optional<CheckpointReader> checkpoint;  // none: the beginning
};

// The newest checkpoint before the step. None where the run's oldest is later: then the step is counted from the beginning.
absl::StatusOr<std::optional<CheckpointReader>> CheckpointBefore(const Options& options) {
  FileSystem& files = PosixFileSystem();
  const std::string folder = JoinPath(options.run, "checkpoints");
  JEVONS_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, CommittedSteps(files, folder));
  const auto after = std::lower_bound(steps.begin(), steps.end(), options.step);
  if (after == steps.begin()) return std::optional<CheckpointReader>();
  JEVONS_ASSIGN_OR_RETURN(const std::string path, CheckpointPath(files, folder, *std::prev(after)));
  return CheckpointReader::Open(files, path);
}

// The run's own: the checkpoint's, or that of its newest start.
absl::StatusOr<RunConfig> ConfigOf(const Options& options, const std::optional<CheckpointReader>& checkpoint, int ranks) {
  const std::string file = JoinPath(options.run, kConfigFile), name = checkpoint ? NameOfConfig(*checkpoint) : file;
  if (!checkpoint && !std::filesystem::exists(file))
    return IntegrityError(absl::StrFormat(
        "--step %d: %s has no checkpoint before it, and no %s to begin with; name the folder of a run, or a step after "
        "its oldest checkpoint",
        options.step, options.run, kConfigFile));
  const auto load = [&](std::span<const std::string> overrides) {
    return checkpoint ? ParseRunConfig(checkpoint->config_text(), name, overrides) : LoadRunConfig(file, overrides);
  };
  if (ranks > 1) return load(options.overrides);
  JEVONS_ASSIGN_OR_RETURN(const RunConfig own, load({}));
  return ConfigForRanks(own, name, options.overrides, 1);
}

absl::StatusOr<Start> Prepare(const Options& options, Communicator& world) {
  JEVONS_ASSIGN_OR_RETURN(std::optional<CheckpointReader> checkpoint, CheckpointBefore(options));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig config, ConfigOf(options, checkpoint, world.size()));
  JEVONS_RETURN_IF_ERROR(ValidationStatus(config, world.size()));
  JEVONS_ASSIGN_OR_RETURN(RunInputs inputs, ResolveInputs(config, checkpoint ? checkpoint->labels() : Labels()));
  JEVONS_RETURN_IF_ERROR(ValidationStatus(inputs.config, world.size()));
  if (options.step > inputs.config.train().steps())
    return UsageError(absl::StrFormat("--step %d: the run has train.steps = %d", options.step, inputs.config.train().steps()));
  return Start{.replay = {.inputs = std::move(inputs), .run = options.run, .step = options.step},
               .checkpoint = std::move(checkpoint)};
}

absl::Status RunReplay(const Options& options, Communicator& host) {
  absl::StatusOr<Start> start = Prepare(options, host);
  JEVONS_RETURN_IF_ERROR(start.ok() ? AgreeOnCommand(host, start->replay.inputs.config) : AgreeOnCommand(host, start.status()));
  const RunConfig& config = start->replay.inputs.config;
  MeshShape shape;
  if (host.size() > 1) {
    JEVONS_RETURN_IF_ERROR(CheckPipeline(config, host.size()));
    JEVONS_ASSIGN_OR_RETURN(shape, MeshShapeOn(config, host));
  }
  SetWatchdogDeadline(config.parallel().watchdog_seconds());
  JEVONS_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> gpus, OpenGpus(config, host));
  JEVONS_RETURN_IF_ERROR(CheckMemory(config, host));
  SetThreads(config, host);
  Mesh mesh(gpus ? *gpus : host, shape);
  JEVONS_ASSIGN_OR_RETURN(const ReplayedStep step,
                          Replay(start->replay, start->checkpoint ? &*start->checkpoint : nullptr, mesh));
  if (host.rank() == 0) WriteOut(options.json ? ReplayJson(step) : ReplayText(step));
  return absl::OkStatus();
}

}  // namespace

void RegisterReplay(CLI::App& program, int* exit_code) {
  CLI::App* command = AddCommand(program, "replay",
                                 "One step of a run again, bit for bit, from the newest checkpoint before it: its samples, "
                                 "losses, gradients, and the hash that metrics.jsonl "
                                 "has of a bad step. Writes nothing.",
                                 kExamples);
  auto options = std::make_shared<Options>();
  command->add_option("RUN", options->run, "folder of the run")->required();
  command->add_option("--step", options->step, "which, as metrics.jsonl counts: the first is 1")
      ->required()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  AddRepeatable(*command, "--set", options->overrides,
                "change one field of the run's config, e.g. parallel.ep=4; may be repeated")
      ->type_name("PATH=VALUE");
  command->add_flag("--json", options->json, "print one JSON object");
  command->callback(
      [options, exit_code] { *exit_code = RunOnRanks([&](Communicator& world) { return RunReplay(*options, world); }); });
}

}  // namespace jevons
