#include "launch/ladder_climb.h"

#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/differences.h"
#include "configs/load.h"
#include "kernels/base/log.h"
#include "launch/supervise/job.h"
#include "trainer/files/file_system.h"
#include "trainer/files/folder_lock.h"

namespace jevons {
namespace {

constexpr auto kTick = std::chrono::milliseconds(20);
constexpr int64_t kMostBytes = int64_t{16} << 20;  // of a file that this writes

std::string ConfigPath(const std::string& output, const Rung& rung) { return JoinPath(output, rung.name + ".textproto"); }
std::string PredictionPath(const std::string& output) { return JoinPath(output, "prediction.json"); }

// Whole or not at all.
absl::Status ReplaceFile(const std::string& path, const std::string& text) {
  FileSystem& files = PosixFileSystem();
  const std::string partial = path + ".partial";
  JEVONS_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, files.Open(partial, OpenMode::kWrite));
  JEVONS_RETURN_IF_ERROR(WriteAll(*file, std::as_bytes(std::span(text)), partial));
  JEVONS_RETURN_IF_ERROR(file->Fsync());
  JEVONS_RETURN_IF_ERROR(file->Close());
  JEVONS_RETURN_IF_ERROR(files.Rename(partial, path));
  return files.SyncDirectory(ParentPath(path));
}

absl::StatusOr<std::optional<std::string>> ReadIfThere(const std::string& path) {
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> info, PosixFileSystem().Stat(path));
  if (!info) return std::nullopt;
  JEVONS_ASSIGN_OR_RETURN(std::string text, ReadWholeFile(PosixFileSystem(), path, kMostBytes));
  return text;
}

absl::Status CheckBegun(const std::string& output, const Rung& rung) {
  const std::string path = ConfigPath(output, rung);
  JEVONS_ASSIGN_OR_RETURN(const std::optional<std::string> begun, ReadIfThere(path));
  if (!begun) return absl::OkStatus();
  // Both with all defaults: a field that the program has got since then is no difference.
  JEVONS_ASSIGN_OR_RETURN(RunConfig before, ParseRunConfig(*begun, path, {}));
  JEVONS_ASSIGN_OR_RETURN(before, ParseRunConfig(ResolvedText(before), path, {}));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig now, ParseRunConfig(ResolvedText(rung.config), rung.name, {}));
  const std::string differences = Differences(before, now);
  if (differences.empty()) return absl::OkStatus();
  return UsageError(
      absl::StrFormat("%s: the rung was begun as another run than the ladder says now: %s; name another --output, or remove this "
                      "file and the folder beside it",
                      path, differences));
}

absl::Status ChildStatus(int exit_code, const std::string& message) {
  switch (static_cast<ExitCode>(exit_code)) {
    case ExitCode::kOk: return absl::OkStatus();
    case ExitCode::kUsage: return UsageError(message);
    case ExitCode::kIntegrity: return IntegrityError(message);
    case ExitCode::kNumerical: return NumericalError(message);
    case ExitCode::kPeerLost: return PeerLostError(message);
    case ExitCode::kPreempted: return PreemptedError(message);
    default: return FailureError(message);
  }
}

// The run of one rung, to its end or until it has stopped.
absl::Status RunRung(const ClimbOptions& options, const Rung& rung) {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return FailureError("/proc/self/exe: " + error.message());
  // A run's summary is no data of ours.
  std::vector<std::string> command = {"sh", "-c", "exec \"$@\" >&2", "sh", program, "supervise"};
  command.insert(command.end(), options.supervise.begin(), options.supervise.end());
  command.insert(command.end(),
                 {"--", "train", "--config", ConfigPath(options.output, rung), "--output", JoinPath(options.output, rung.name)});
  Jobs jobs;
  JEVONS_RETURN_IF_ERROR(jobs.Start(std::move(command), {}));
  bool told = false;
  for (;;) {
    if (const auto code = jobs.ExitCode()) {
      if (options.stop->load() != 0)
        return PreemptedError(absl::StrFormat("%s has stopped; the same command goes on", rung.name));
      return ChildStatus(
          *code,
          absl::StrFormat("%s: its run ended with exit code %d, as said above; the same command goes on from its last checkpoint",
                          rung.name, *code));
    }
    if (options.stop->load() != 0 && !std::exchange(told, true)) jobs.Signal(SIGTERM);
    std::this_thread::sleep_for(kTick);
  }
}

absl::Status Foretell(const std::string& output, LadderState& state) {
  std::vector<LadderPoint> points = PointsOf(state.rungs, state.results);
  std::erase_if(points, [](const LadderPoint& point) { return point.held_out; });
  state.forecasts = ForecastsOf(state.rungs, points, state.ladder.asymptote());
  JEVONS_RETURN_IF_ERROR(ReplaceFile(PredictionPath(output), ForecastsJson(state.forecasts)));
  LogInfo(absl::StrFormat("%s: the losses of the held-out rungs, before they are run", PredictionPath(output)));
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckLimits(const ClimbOptions& options, const LadderConfig& ladder, const std::string& what, double seconds,
                         double dollars) {
  constexpr char kRemedy[] = "raise it, or lower law.tokens_per_parameter, or leave out sizes, variants or seeds";
  if (options.hours && !(seconds <= 3600 * *options.hours))
    return UsageError(absl::StrFormat("--hours = %g: %s takes %.3g hours; %s", *options.hours, what, seconds / 3600, kRemedy));
  if (!options.budget) return absl::OkStatus();
  if (!ladder.machine().has_price_per_device_hour())
    return UsageError(absl::StrFormat(
        "--budget = %g: machine.price_per_device_hour of the ladder is not set: say what an hour of a device costs",
        *options.budget));
  if (!(dollars <= *options.budget))
    return UsageError(absl::StrFormat("--budget = %g: %s takes $%.3g; %s", *options.budget, what, dollars, kRemedy));
  return absl::OkStatus();
}

absl::Status ReadLadder(const std::string& output, LadderState& state) {
  for (size_t i = 0; i < state.rungs.size(); ++i) {
    JEVONS_RETURN_IF_ERROR(CheckBegun(output, state.rungs[i]));
    JEVONS_ASSIGN_OR_RETURN(state.results[i], ReadRungResult(state.rungs[i], JoinPath(output, state.rungs[i].name)));
  }
  JEVONS_ASSIGN_OR_RETURN(const std::optional<std::string> foretold, ReadIfThere(PredictionPath(output)));
  if (!foretold) return absl::OkStatus();
  JEVONS_ASSIGN_OR_RETURN(state.forecasts, ParseForecasts(*foretold, PredictionPath(output)));
  return absl::OkStatus();
}

absl::Status Climb(const ClimbOptions& options, LadderState& state) {
  JEVONS_RETURN_IF_ERROR(MakeDirectories(PosixFileSystem(), options.output));
  FolderLock lock;
  JEVONS_RETURN_IF_ERROR(lock.Take(options.output));
  JEVONS_RETURN_IF_ERROR(ReadLadder(options.output, state));
  const LadderCost cost = CostOf(state);
  JEVONS_RETURN_IF_ERROR(CheckLimits(options, state.ladder, "the ladder", cost.spent_seconds + cost.left_seconds,
                                     cost.spent_dollars + cost.left_dollars));
  const std::string csv = JoinPath(options.output, "ladder.csv");
  JEVONS_RETURN_IF_ERROR(ReplaceFile(csv, LadderCsv(state)));
  for (size_t i = 0; i < state.rungs.size(); ++i) {
    if (state.results[i]) continue;
    const Rung& rung = state.rungs[i];
    if (rung.held_out && state.forecasts.empty()) JEVONS_RETURN_IF_ERROR(Foretell(options.output, state));
    // What is spent may be more than was foretold.
    const LadderCost now = CostOf(state);
    JEVONS_RETURN_IF_ERROR(CheckLimits(options, state.ladder, absl::StrCat("what is spent, with ", rung.name, ","),
                                       now.spent_seconds + rung.seconds, now.spent_dollars + rung.dollars.value_or(0)));
    if (options.stop->load() != 0)
      return PreemptedError(absl::StrFormat("stopped before %s; the same command goes on", rung.name));
    JEVONS_RETURN_IF_ERROR(ReplaceFile(ConfigPath(options.output, rung), ResolvedText(rung.config)));
    LogInfo(absl::StrFormat("rung %d of %d: %s, %d steps, some %.3g hours", i + 1, state.rungs.size(), rung.name,
                            rung.config.train().steps(), rung.seconds / 3600));
    JEVONS_RETURN_IF_ERROR(RunRung(options, rung));
    JEVONS_ASSIGN_OR_RETURN(state.results[i], ReadRungResult(rung, JoinPath(options.output, rung.name)));
    if (!state.results[i])
      return IntegrityError(
          absl::StrFormat("%s/summary.json: is not that of a finished run of %d steps, though its run has ended well",
                          JoinPath(options.output, rung.name), rung.config.train().steps()));
    JEVONS_RETURN_IF_ERROR(ReplaceFile(csv, LadderCsv(state)));
  }
  return absl::OkStatus();
}

}  // namespace jevons
