#include "launch/supervisor.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <thread>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "kernels/base/log.h"
#include "trainer/checkpoint/reader.h"

namespace jevons {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kTick = std::chrono::milliseconds(20);
constexpr double kRanksElsewhere = 10;  // seconds after which ranks that are all on other hosts are taken to listen

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

bool Stopped(int64_t pid) { return FactsOf(pid).state == 'T'; }

// What the kernel lets us see of where a process is: "state T (stopped), waits in do_signal_stop, stack ...".
std::string WhereItIs(int64_t pid) {
  const auto read = [&](const char* name) {
    std::ifstream file(absl::StrCat("/proc/", pid, "/", name));
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  std::string text;
  const std::string status = read("status");
  if (const size_t state = status.find("State:"); state != std::string::npos)
    text = absl::StrCat("state ", absl::StripAsciiWhitespace(status.substr(state + 6, status.find('\n', state) - state - 6)));
  if (const std::string wchan = read("wchan"); !wchan.empty() && wchan != "0") absl::StrAppend(&text, ", waits in ", wchan);
  if (const std::string stack = read("stack"); !stack.empty())
    absl::StrAppend(&text, ", stack ", absl::StrReplaceAll(absl::StripAsciiWhitespace(stack), {{"[<0>] ", ""}, {"\n", " < "}}));
  return text;
}

std::string Who(const RankState& state) {
  return absl::StrFormat("rank %d (process %d) in step %d, %s", state.rank, state.pid, state.step, PhaseText(state));
}

int WorstExitCode(const std::vector<RankState>& ranks) {
  int code = 0;
  for (const RankState& state : ranks) code = std::max(code, state.exit_code);
  return code;
}

// Whether a launcher's exit code says that a signal ended a rank, or the launcher itself.
bool BySignal(int exit_code) { return exit_code > 128; }

}  // namespace

Supervisor::Supervisor(const SuperviseOptions& options, Journal journal, HeartbeatFile heartbeat)
    : options_(options),
      journal_(std::move(journal)),
      heartbeat_(std::move(heartbeat)),
      policy_(options.restarts),
      watch_(options.hang_seconds, Stopped) {}

int Supervisor::Run() {
  journal_.Append({.event = "begin", .pid = getpid(), .detail = heartbeat_.path()});
  int code = 0;
  for (;;) {
    const absl::StatusOr<Outcome> outcome = RunJob();
    if (!outcome.ok()) {
      LogError(outcome.status().message());
      code = static_cast<int>(ExitCodeOf(outcome.status()));
      break;
    }
    Record(*outcome);
    code = outcome->exit_code;
    if (options_.stop->load() != 0) break;
    int judged = code;
    if (code == static_cast<int>(ExitCode::kIntegrity)) {
      const absl::StatusOr<bool> aside = SetDamagedAside();
      if (!aside.ok()) LogError(aside.status().message());
      if (aside.ok() && *aside) judged = static_cast<int>(ExitCode::kFailure);  // another start will read another checkpoint
    }
    const RestartDecision decision = policy_.Next(judged, step_);
    if (!decision.restart) {
      if (!decision.reason.empty()) LogError(absl::StrFormat("the run is not started again: exit code %d, and %s", code, decision.reason));
      break;
    }
    LogWarning(absl::StrFormat("starting again%s (restart %d)", decision.delay > 0 ? absl::StrFormat(" in %g s", decision.delay) : "", policy_.restarts()));
    if (!Delay(decision.delay)) {
      code = static_cast<int>(ExitCode::kPreempted);
      break;
    }
  }
  journal_.Append({.event = "end", .exit = code});
  if (const Ettr ettr = EttrOf(journal_.events(), UnixSeconds()); ettr.productive > 0) LogInfo(EttrText(ettr));
  return code;
}

absl::StatusOr<Supervisor::Outcome> Supervisor::RunJob() {
  heartbeat_.Clear();
  watch_.Forget();
  job_seconds_ = idle_seconds_ = since_exit_ = 0;
  newest_change_ = 0;
  step_ = -1;
  training_ = false;
  JEVONS_RETURN_IF_ERROR(jobs_.Start(options_.command, heartbeat_.variable()));
  journal_.Append({.event = "start", .pid = jobs_.launcher()});
  std::optional<Outcome> outcome;
  for (auto last = Clock::now(); !outcome;) {
    std::this_thread::sleep_for(kTick);
    const auto now = Clock::now();
    outcome = Look(Seconds(now - std::exchange(last, now)));
  }
  std::vector<pid_t> pids;
  for (const RankState& state : RankStates(heartbeat_))
    if (Lives(state)) pids.push_back(static_cast<pid_t>(state.pid));
  JEVONS_RETURN_IF_ERROR(jobs_.End(pids));
  return *outcome;
}

// One look at everything; the outcome once the job has ended, or has to be.
std::optional<Supervisor::Outcome> Supervisor::Look(double seconds) {
  job_seconds_ += seconds;
  const std::optional<int> exit_code = jobs_.ExitCode();
  const std::vector<RankState> ranks = RankStates(heartbeat_);
  NoteTraining(ranks);
  int64_t newest = 0;
  for (const RankState& state : ranks) {
    newest = std::max(newest, state.changed);
    step_ = std::max(step_, state.step);
  }
  idle_seconds_ = newest != std::exchange(newest_change_, newest) ? 0 : idle_seconds_ + seconds;
  if (exit_code) {
    if (!BySignal(*exit_code)) return Outcome{.exit_code = *exit_code};
    // A launcher that a signal meets while it ends: its ranks had told how they do.
    if (!ranks.empty() && std::all_of(ranks.begin(), ranks.end(), [](const RankState& state) { return state.exit_code >= 0; }))
      return Outcome{.exit_code = WorstExitCode(ranks)};
    Outcome killed{.exit_code = static_cast<int>(ExitCode::kPeerLost), .event = "died", .detail = absl::StrFormat("exit code %d of the launcher", *exit_code)};
    if (const auto dead = DeadRank(ranks)) killed.rank = dead->rank;
    return killed;
  }
  PassSignalOn(!ranks.empty() || (!options_.ranks_are_here && job_seconds_ > kRanksElsewhere));
  if (auto dead = DeadRank(ranks)) return dead;
  // Ranks that end in order take their launcher with them.
  const auto ends = std::find_if(ranks.begin(), ranks.end(), [](const RankState& state) { return state.exit_code >= 0 && !Lives(state); });
  since_exit_ = ends == ranks.end() ? 0 : since_exit_ + seconds;
  if (since_exit_ > Jobs::kPatience) {
    return Outcome{.exit_code = WorstExitCode(ranks), .rank = *ends, .detail = absl::StrFormat("the launcher did not end within %g s of its ranks", Jobs::kPatience)};
  }
  if (const auto hang = watch_.Look(ranks, seconds)) return HungRank(*hang);
  if (options_.ranks_are_here && ranks.empty() && job_seconds_ > HangWatch::kStarting)
    return Outcome{.exit_code = static_cast<int>(ExitCode::kPeerLost), .event = "hung", .detail = absl::StrFormat("no rank has come within %g s", HangWatch::kStarting)};
  return std::nullopt;
}

void Supervisor::NoteTraining(const std::vector<RankState>& ranks) {
  if (training_) return;
  const auto trains = std::find_if(ranks.begin(), ranks.end(), [](const RankState& state) { return state.stage == HeartbeatStage::kTraining; });
  if (trains == ranks.end()) return;
  training_ = true;
  const double lost = SecondsLost(journal_.events(), UnixSeconds(), trains->step);
  journal_.Append({.event = "training", .step = trains->step, .seconds_lost = lost});
}

// As SIGUSR1, to the launcher, which hands it to all ranks, also to those on other hosts: mpirun answers others by killing them. Only when
// ranks listen: before, it would be lost or would end them. And once: a launcher that is about to end no longer listens.
void Supervisor::PassSignalOn(bool ranks_have_come) {
  const int signal = options_.stop->load();
  if (signal == 0 || !ranks_have_come || std::exchange(told_, true)) return;
  LogInfo(absl::StrFormat("%s: the ranks are told to save a checkpoint and to stop", strsignal(signal)));
  journal_.Append({.event = "stop", .step = step_, .detail = strsignal(signal)});
  jobs_.Signal(SIGUSR1);
}

// A rank that went without a word. Where one has told an error, the launcher ends the others.
std::optional<Supervisor::Outcome> Supervisor::DeadRank(const std::vector<RankState>& ranks) const {
  const auto dead = std::find_if_not(ranks.begin(), ranks.end(), Lives);
  if (dead == ranks.end()) return std::nullopt;
  // What it said last, it may have said since.
  const std::vector<RankState> now = RankStates(heartbeat_);
  if (std::any_of(now.begin(), now.end(), [&](const RankState& state) { return state.exit_code > 0 || (state.rank == dead->rank && state.exit_code == 0); }))
    return std::nullopt;
  return Outcome{.exit_code = static_cast<int>(ExitCode::kPeerLost), .event = "died", .rank = *dead, .detail = {}};
}

Supervisor::Outcome Supervisor::HungRank(const Hang& hang) const {
  return {.exit_code = static_cast<int>(ExitCode::kPeerLost),
          .event = "hung",
          .rank = hang.state,
          .detail = absl::StrFormat("%s for %.1f s; %s", hang.what, hang.silent, WhereItIs(hang.state.pid))};
}

void Supervisor::Record(const Outcome& outcome) {
  JournalEvent event{.event = outcome.event, .exit = outcome.exit_code, .idle_seconds = idle_seconds_, .detail = outcome.detail};
  if (step_ >= 0) event.step = step_;
  if (outcome.rank) {
    event.rank = outcome.rank->rank;
    event.pid = outcome.rank->pid;
    event.phase = PhaseText(*outcome.rank);
  }
  journal_.Append(event);
  if (outcome.event == "exit" && outcome.detail.empty()) return;  // it has said why itself
  const std::string who = outcome.rank ? Who(*outcome.rank) : "the job";
  LogError(absl::StrCat(who, outcome.event == "died" ? " died" : "", outcome.detail.empty() ? "" : ": ", outcome.detail));
}

// Whether a good checkpoint is the newest now, and was not before.
absl::StatusOr<bool> Supervisor::SetDamagedAside() {
  FileSystem& files = PosixFileSystem();
  JEVONS_ASSIGN_OR_RETURN(const NewestGood found, FindNewestGood(files, options_.run + "/checkpoints"));
  if (found.path.empty() || found.damaged.empty()) return false;
  for (const std::string& damaged : found.damaged) {
    JEVONS_RETURN_IF_ERROR(files.Rename(damaged, damaged + ".damaged"));
    journal_.Append({.event = "set_aside", .detail = damaged + ".damaged"});
  }
  LogWarning(absl::StrFormat("damaged: %s (now with .damaged at the end); the run goes on from %s, the newest good checkpoint",
                             absl::StrJoin(found.damaged, ", "), found.path));
  return true;
}

// False where a signal came meanwhile.
bool Supervisor::Delay(double seconds) {
  const auto begin = Clock::now();
  while (options_.stop->load() == 0 && Seconds(Clock::now() - begin) < seconds) std::this_thread::sleep_for(kTick);
  return options_.stop->load() == 0;
}

}  // namespace jevons
