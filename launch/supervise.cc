// jevons supervise: a training job that nobody has to look after.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "kernels/base/machine.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/stop_signal.h"
#include "launch/supervisor.h"

namespace jevons {
namespace {

constexpr char kExamples[] =
    "jevons supervise --ranks 4 -- train --config configs/presets/quickstart_cpu.textproto --set data.path=runs/data "
    "--set parallel.ep=4 --output run\n"
    "jevons supervise --launcher \"mpirun --hostfile hosts -np 32\" -- train --config run.textproto --output /shared/run";

constexpr char kExplanation[] = R"(
Where a rank dies or hangs it names rank, step and phase, ends the job and starts it again from the newest good checkpoint; RUN/supervise.jsonl
records it, `jevons status RUN` shows it. SIGTERM, SIGINT and SIGUSR1 have the job save a checkpoint and stop. Exit codes are those of train:
  0, 75, 2, 3, 4  train's last, none of which a restart would change; of 3 where a damaged checkpoint is newest and an older one is good it
                  sets the damaged one aside and goes on
  1, 5            the job failed, or a rank died or hung, and restarts are used up)";

constexpr int64_t kMostRanks = 1 << 16;

struct Options {
  int64_t ranks = 1;
  std::optional<int> restarts;
  double hang_seconds = 4;
  std::string launcher;
  std::vector<std::string> train;
};

// What follows --output, or "".
std::string OutputOf(const std::vector<std::string>& train) {
  std::string output;
  for (size_t i = 0; i < train.size(); ++i) {
    if (train[i] == "--output" && i + 1 < train.size()) output = train[i + 1];
    if (absl::StartsWith(train[i], "--output=")) output = train[i].substr(9);
  }
  return output;
}

std::vector<std::string> LauncherOf(const Options& options) {
  if (!options.launcher.empty()) return absl::StrSplit(options.launcher, ' ', absl::SkipEmpty());
  if (options.ranks == 1) return {};
  std::vector<std::string> command = {"mpirun", "-q", "--bind-to", "none", "-np", absl::StrCat(options.ranks)};
  if (options.ranks > UsableCores()) command.push_back("--oversubscribe");
  return command;
}

absl::StatusOr<SuperviseOptions> Prepare(const Options& options) {
  if (options.train.empty() || options.train.front() != "train")
    return UsageError("what to supervise is not given: after the options write `-- train` and its options");
  if (options.ranks < 1 || options.ranks > kMostRanks) return UsageError(absl::StrFormat("--ranks = %d: say 1 to %d", options.ranks, kMostRanks));
  if (options.restarts.value_or(0) < 0) return UsageError(absl::StrFormat("--restarts = %d: say 0 or more", *options.restarts));
  if (!(options.hang_seconds > 0)) return UsageError(absl::StrFormat("--hang-seconds = %g: say more than 0", options.hang_seconds));
  if (options.ranks > 1 && !options.launcher.empty()) return UsageError("--ranks and --launcher: the launcher says how many ranks there are; give one of them");
  SuperviseOptions supervise{.command = LauncherOf(options), .run = OutputOf(options.train), .ranks_are_here = options.launcher.empty(), .restarts = options.restarts, .hang_seconds = options.hang_seconds};
  if (supervise.run.empty()) return UsageError("--output of train is not given: name the folder of the run");
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return FailureError("/proc/self/exe: " + error.message());
  supervise.command.push_back(program);
  supervise.command.insert(supervise.command.end(), options.train.begin(), options.train.end());
  return supervise;
}

int Run(const Options& options, const std::atomic<int>* stop) {
  absl::StatusOr<SuperviseOptions> supervise = Prepare(options);
  if (!supervise.ok()) return Finish(supervise.status());
  supervise->stop = stop;
  absl::StatusOr<Journal> journal = Journal::Open(supervise->run);
  if (!journal.ok()) return Finish(journal.status());
  absl::StatusOr<HeartbeatFile> heartbeat = HeartbeatFile::Create(kMostRanks);
  if (!heartbeat.ok()) return Finish(heartbeat.status());
  return Supervisor(*supervise, *std::move(journal), *std::move(heartbeat)).Run();
}

}  // namespace

void RegisterSupervise(CLI::App& program, int* exit_code) {
  CLI::App* command = AddCommand(program, "supervise", "Trains, and starts again whenever a rank dies or hangs.", kExamples);
  auto options = std::make_shared<Options>();
  command->add_option("--ranks", options->ranks, "processes on this machine, started by mpirun where there are several")->capture_default_str();
  command->add_option("--launcher", options->launcher, "what starts the ranks instead, words between blanks: mpirun or srun with its options")->type_name("COMMAND");
  command->add_option("--restarts", options->restarts, "give up after so many; unless given, after 3 in a row that brought no progress");
  command
      ->add_option("--hang-seconds", options->hang_seconds,
                   "a phase of a step may take so long, or ten times what it has taken so far; saving, validation and the start more")
      ->capture_default_str();
  command->add_option("TRAIN", options->train, "after `--`: train and its options")->type_name("");
  command->footer(kExplanation);
  command->callback([options, exit_code] { *exit_code = Run(*options, CatchStopSignals()); });
}

}  // namespace jevons
