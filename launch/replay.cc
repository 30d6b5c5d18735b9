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
#include "trainer/spec/schedules.h"

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

// The newest checkpoint before the step; the oldest of it and later. None where there is none.
absl::StatusOr<std::optional<CheckpointReader>> CheckpointBeside(const Options& options, bool before) {
  FileSystem& files = PosixFileSystem();
  const std::string folder = JoinPath(options.run, "checkpoints");
  JEVONS_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, CommittedSteps(files, folder));
  const auto after = std::lower_bound(steps.begin(), steps.end(), options.step);
  if (after == (before ? steps.begin() : steps.end())) return std::optional<CheckpointReader>();
  JEVONS_ASSIGN_OR_RETURN(const std::string path, CheckpointPath(files, folder, before ? *std::prev(after) : *after));
  return CheckpointReader::Open(files, path);
}

// What the step was trained by, and where that is written.
struct OwnConfig {
  std::string source;
  RunConfig config;
};

// That of the start that made the step: the newest start's is in the run's folder, an earlier one's in the checkpoints that it wrote. Where none of those is
// left, that of the checkpoint before the step.
absl::StatusOr<OwnConfig> ConfigOf(const Options& options, const CheckpointReader* before) {
  const std::vector<RunStart> starts = ReadStarts(options.run);
  // The last that began before the step, whatever earlier ones made of it; none after it is the newest.
  const auto next =
      std::find_if(starts.rbegin(), starts.rend(), [&](const RunStart& start) { return start.step < options.step; }).base();
  const std::string file = JoinPath(options.run, kConfigFile);
  if (!before && !std::filesystem::exists(file))
    return IntegrityError(absl::StrFormat(
        "--step %d: %s has no checkpoint before it, and no %s to begin with; name the folder of a run, or a step after "
        "its oldest checkpoint",
        options.step, options.run, kConfigFile));
  std::optional<CheckpointReader> after;
  if (next != starts.end()) {
    JEVONS_ASSIGN_OR_RETURN(after, CheckpointBeside(options, /*before=*/false));
    if (after && after->step() > next->step) after.reset();
  }
  const CheckpointReader* reader = nullptr;
  if (after)
    reader = &*after;
  else if (next != starts.end() || !std::filesystem::exists(file))
    reader = before;
  if (reader != nullptr) {
    JEVONS_ASSIGN_OR_RETURN(RunConfig config, RunConfigOf(*reader));
    return OwnConfig{NameOfConfig(*reader), std::move(config)};
  }
  JEVONS_ASSIGN_OR_RETURN(RunConfig config, ReadRunConfig(options.run));
  return OwnConfig{file, std::move(config)};
}

absl::StatusOr<Start> Prepare(const Options& options, Communicator& world) {
  JEVONS_ASSIGN_OR_RETURN(std::optional<CheckpointReader> checkpoint, CheckpointBeside(options, /*before=*/true));
  JEVONS_ASSIGN_OR_RETURN(const OwnConfig own, ConfigOf(options, checkpoint ? &*checkpoint : nullptr));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig config, world.size() == 1
                                                      ? ConfigForRanks(own.config, own.source, options.overrides, 1)
                                                      : ParseRunConfig(ResolvedText(own.config), own.source, options.overrides));
  JEVONS_RETURN_IF_ERROR(ValidationStatus(config, world.size()));
  JEVONS_ASSIGN_OR_RETURN(RunInputs inputs, ResolveInputs(config, checkpoint ? checkpoint->labels() : Labels()));
  JEVONS_RETURN_IF_ERROR(ValidationStatus(inputs.config, world.size()));
  if (const int64_t steps = RunSchedule(inputs.config).steps(); options.step > steps)
    return UsageError(absl::StrFormat("--step %d: the run ends with step %d, says %s", options.step, steps, own.source));
  return Start{.replay = {.inputs = std::move(inputs), .run = options.run, .config_source = own.source, .step = options.step},
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
