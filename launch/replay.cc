// jevons replay: one step of a run once more.
#include "trainer/run/replay.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <optional>

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
#include "trainer/run/state.h"

namespace jevons {
namespace {

constexpr char kExamples[] =
    "jevons replay run --step 120\n"
    "mpirun -np 4 jevons replay run --step 120 --set parallel.ep=4 --json    # with sums that are EXACT any layout gives the "
    "same bits\n"
    "jevons replay run --step 3 --config run.textproto                       # before the oldest checkpoint: from the beginning";

struct Options {
  std::string run;
  int64_t step = 0;
  ConfigOptions config;
  bool json = false;
};

struct Start {
  ReplayOptions replay;
  std::optional<CheckpointReader> checkpoint;  // none: the beginning
};

// The newest checkpoint before the step. None where there is none and a config says how the run began.
absl::StatusOr<std::optional<CheckpointReader>> CheckpointBefore(const Options& options) {
  FileSystem& files = PosixFileSystem();
  const std::string folder = JoinPath(options.run, "checkpoints");
  JEVONS_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, CommittedSteps(files, folder));
  const auto after = std::lower_bound(steps.begin(), steps.end(), options.step);
  if (after != steps.begin()) {
    JEVONS_ASSIGN_OR_RETURN(const std::string path, CheckpointPath(files, folder, *std::prev(after)));
    return CheckpointReader::Open(files, path);
  }
  if (!options.config.path.empty()) return std::optional<CheckpointReader>();
  if (steps.empty())
    return IntegrityError(absl::StrFormat(
        "%s: no checkpoint has been committed here; give the run's --config to replay from its beginning", options.run));
  return UsageError(
      absl::StrFormat("--step %d: the oldest checkpoint of %s is of step %d; give a later step, or the run's --config to replay "
                      "from its beginning",
                      options.step, options.run, steps.front()));
}

absl::StatusOr<RunConfig> ConfigOf(const Options& options, const std::optional<CheckpointReader>& checkpoint, int ranks) {
  if (!checkpoint) return LoadRunConfig(options.config.path, options.config.overrides);
  if (!options.config.path.empty())
    return UsageError(absl::StrFormat("--config %s: the checkpoint %s has the run's; leave it out, --set changes the layout",
                                      options.config.path, checkpoint->path()));
  if (ranks == 1) {
    JEVONS_ASSIGN_OR_RETURN(const RunConfig own, RunConfigOf(*checkpoint));
    return ConfigForRanks(own, *checkpoint, options.config.overrides, 1);
  }
  return ParseRunConfig(checkpoint->config_text(), checkpoint->path() + " (its config)", options.config.overrides);
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
  AddConfigOptions(*command, options->config, /*required=*/false);
  command->add_flag("--json", options->json, "print one JSON object");
  command->callback(
      [options, exit_code] { *exit_code = RunOnRanks([&](Communicator& world) { return RunReplay(*options, world); }); });
}

}  // namespace jevons
