#include "launch/supervise/supervisor.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/base/log.h"
#include "launch/cli.h"
#include "launch/supervise/layout_for.h"
#include "launch/supervise/rank_table.h"
#include "trainer/checkpoint/epoch.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/memory_parts.h"
#include "trainer/checkpoint/reader.h"

namespace jevons {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kTick = std::chrono::milliseconds(20);
constexpr double kLostPatience = 1;     // seconds for the launcher's own processes where a host is lost
constexpr double kTellRanks = 1;        // seconds between two tables of what ranks do
constexpr double kRanksElsewhere = 10;  // seconds after which ranks that are all on other hosts are taken to listen

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

std::string Who(const RankState& state) {
  return absl::StrFormat("rank %d (process %d) in step %d, %s", state.rank, state.pid, state.step + 1, PhaseText(state));
}

int WorstExitCode(const std::vector<RankState>& ranks) {
  int code = 0;
  for (const RankState& state : ranks) code = std::max(code, state.exit_code);
  return code;
}

// When the run's summary was written, which is when it ends. A file that is opened is as its folder's other hosts left it, also on NFS.
std::filesystem::file_time_type SummaryTime(const std::string& run) {
  const std::string path = run + "/summary.json";
  const std::ifstream opened(path);
  std::error_code none;
  const auto time = std::filesystem::last_write_time(path, none);
  return none ? std::filesystem::file_time_type::min() : time;
}

// Whether a launcher's exit code says that a signal ended a rank, or the launcher itself.
bool BySignal(int exit_code) { return exit_code > 128; }

}  // namespace

Supervisor::Supervisor(const SuperviseOptions& options, Journal journal, Roster roster, std::string heartbeats)
    : options_(options),
      journal_(std::move(journal)),
      roster_(std::move(roster)),
      heartbeats_(std::move(heartbeats)),
      policy_(options.restarts),
      watch_(options.hang_seconds) {}

int Supervisor::Run() {
  journal_.Append({.event = "begin", .pid = getpid(), .detail = roster_.several() ? "" : heartbeats_});
  TellRanks({});
  // What a supervisor that was killed has left in memory.
  if (const absl::Status gathered = roster_.Gather(UnixSeconds()); gathered.ok()) {
    SaveFromMemory();
    roster_.ForgetParts();
  }
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
    // A run that has ended in order has its checkpoint; of one that has computed NaN nothing newer than that is worth keeping.
    if (code == static_cast<int>(ExitCode::kFailure) || code == static_cast<int>(ExitCode::kPeerLost)) SaveFromMemory();
    roster_.ForgetParts();
    if (options_.stop->load() != 0) break;
    int judged = code;
    if (code == static_cast<int>(ExitCode::kIntegrity)) {
      const absl::StatusOr<bool> aside = SetDamagedAside();
      if (!aside.ok()) LogError(aside.status().message());
      if (aside.ok() && *aside) judged = static_cast<int>(ExitCode::kFailure);  // another start will read another checkpoint
    }
    const RestartDecision decision = policy_.Next(judged, step_, NewestStep());
    if (!decision.restart) {
      if (!decision.reason.empty())
        LogError(absl::StrFormat("the run is not started again: exit code %d, and %s", code, decision.reason));
      break;
    }
    LogWarning(absl::StrFormat("starting again%s (restart %d)",
                               decision.delay > 0 ? absl::StrFormat(" in %g s", decision.delay) : "", policy_.restarts()));
    if (outcome->host && roster_.Failed(*outcome->host, UnixSeconds())) {
      const std::string& host = roster_.NameOf(*outcome->host);
      const std::string why = absl::StrFormat("failed %d times within %g s", Quarantine::kFailures, Quarantine::kMemory);
      journal_.Append({.event = "quarantine", .host = host, .detail = why});
      LogWarning(absl::StrFormat("the run goes on without %s, which has %s", host, why));
    }
    if (!Delay(decision.delay)) {
      code = static_cast<int>(ExitCode::kPreempted);
      break;
    }
  }
  TellRanks({});
  journal_.Append({.event = "end", .exit = code});
  if (const Ettr ettr = EttrOf(journal_.events(), UnixSeconds()); ettr.productive > 0) LogInfo(EttrText(ettr));
  return code;
}

// Of several hosts, on those that are there, in a layout that is legal for as many.
absl::StatusOr<std::vector<std::string>> Supervisor::Command() {
  std::vector<std::string> command = options_.launcher;
  std::vector<std::string> layout;
  if (roster_.several()) {
    const std::vector<HostSlots> hosts = roster_.slots();
    int64_t slots = 0;
    std::string hostfile;
    std::vector<std::string> names;
    for (const HostSlots& host : hosts) {
      slots += host.slots;
      absl::StrAppendFormat(&hostfile, "%s slots=%d\n", host.name, host.slots);
      names.push_back(host.name);
    }
    JEVONS_ASSIGN_OR_RETURN(const RankLayout legal, LayoutFor(options_.config, slots, roster_.complete()));
    const std::string path = options_.run + "/supervise.hosts";
    JEVONS_RETURN_IF_ERROR(WriteFile(path, hostfile));
    command.insert(command.end(),
                   {"--hostfile", path, "-np", absl::StrCat(legal.ranks), "-x", kHeartbeatVariable, "-x", kMemoryVariable});
    layout = legal.assignments;
    layout.push_back(absl::StrCat("ranks=", legal.ranks));
    if (layout != layout_) {
      const std::string text =
          absl::StrFormat("%d rank%s on %s%s%s", legal.ranks, legal.ranks == 1 ? "" : "s", absl::StrJoin(names, ", "),
                          legal.assignments.empty() ? "" : ", ", absl::StrJoin(legal.assignments, ", "));
      if (!layout_.empty()) LogWarning("the run goes on in another layout: " + text);
      journal_.Append({.event = "layout", .detail = text});
      layout_ = layout;
    }
    layout.pop_back();
  }
  command.insert(command.end(), options_.train.begin(), options_.train.end());
  for (const std::string& assignment : layout) command.insert(command.end(), {"--set", assignment});
  return command;
}

absl::StatusOr<Supervisor::Outcome> Supervisor::RunJob() {
  JEVONS_RETURN_IF_ERROR(roster_.Gather(UnixSeconds()));
  roster_.Clear();
  watch_.Forget();
  job_seconds_ = idle_seconds_ = since_exit_ = 0;
  newest_change_ = 0;
  summary_time_ = SummaryTime(options_.run);
  step_ = -1;
  training_ = false;
  JEVONS_ASSIGN_OR_RETURN(std::vector<std::string> command, Command());
  jobs_.Spare(roster_.shells());
  JEVONS_RETURN_IF_ERROR(jobs_.Start(std::move(command), {absl::StrCat(kHeartbeatVariable, "=", roster_.heartbeats()),
                                                          absl::StrCat(kMemoryVariable, "=", MemoryFolderOf(options_.run))}));
  journal_.Append({.event = "start", .pid = jobs_.launcher()});
  std::optional<Outcome> outcome;
  for (auto last = Clock::now(); !outcome;) {
    std::this_thread::sleep_for(kTick);
    const auto now = Clock::now();
    outcome = Look(Seconds(now - std::exchange(last, now)));
  }
  const bool lost = outcome->event == "lost";
  if (lost) roster_.Drop(*outcome->host, UnixSeconds());
  const bool any_rank = !roster_.Ranks().empty();
  roster_.KillRanks();
  // A launcher that waits for a lost host waits for long.
  JEVONS_RETURN_IF_ERROR(jobs_.End(any_rank, lost ? kLostPatience : Jobs::kPatience));
  BlameMachine(*outcome);
  return *outcome;
}

// One look at everything; the outcome once the job has ended, or has to be.
std::optional<Supervisor::Outcome> Supervisor::Look(double seconds) {
  job_seconds_ += seconds;
  const std::optional<int> exit_code = jobs_.ExitCode();
  const std::vector<RankState> ranks = roster_.Ranks();
  NoteTraining(ranks);
  if ((untold_seconds_ += seconds) > kTellRanks) TellRanks(ranks);
  int64_t newest = 0;
  for (const RankState& state : ranks) {
    newest = std::max(newest, state.changed);
    step_ = std::max(step_, state.step);
  }
  idle_seconds_ = newest != std::exchange(newest_change_, newest) ? 0 : idle_seconds_ + seconds;
  if (exit_code) {
    if (*exit_code == 0 && !HasFinished(ranks))
      return Outcome{.exit_code = static_cast<int>(ExitCode::kPeerLost),
                     .event = "died",
                     .detail = "the launcher's exit code is 0, but no rank has finished the run"};
    if (!BySignal(*exit_code)) return Outcome{.exit_code = *exit_code};
    // A launcher that a signal meets while it ends: its ranks had told how they do.
    if (!ranks.empty() && std::all_of(ranks.begin(), ranks.end(), [](const RankState& state) { return state.exit_code >= 0; }))
      return Outcome{.exit_code = WorstExitCode(ranks)};
    Outcome killed{.exit_code = static_cast<int>(ExitCode::kPeerLost),
                   .event = "died",
                   .detail = absl::StrFormat("exit code %d of the launcher", *exit_code)};
    if (const auto dead = DeadRank(ranks)) {
      killed.rank = dead->rank;
      killed.host = dead->host;
    }
    return killed;
  }
  PassSignalOn(!ranks.empty() || (!options_.ranks_are_seen && job_seconds_ > kRanksElsewhere));
  if (auto dead = DeadRank(ranks)) return dead;
  if (const auto host = roster_.Lost())
    return Outcome{.exit_code = static_cast<int>(ExitCode::kPeerLost),
                   .event = "lost",
                   .host = host,
                   .detail = roster_.NameOf(*host) + " does not answer"};
  // Ranks that end in order take their launcher with them.
  const auto ends =
      std::find_if(ranks.begin(), ranks.end(), [](const RankState& state) { return state.exit_code >= 0 && !state.lives; });
  since_exit_ = ends == ranks.end() ? 0 : since_exit_ + seconds;
  if (since_exit_ > Jobs::kPatience) {
    return Outcome{.exit_code = WorstExitCode(ranks),
                   .rank = *ends,
                   .detail = absl::StrFormat("the launcher did not end within %g s of its ranks", Jobs::kPatience)};
  }
  if (const auto hang = watch_.Look(ranks, seconds)) return HungRank(*hang);
  if (options_.ranks_are_seen && ranks.empty() && job_seconds_ > HangWatch::kStarting)
    return Outcome{.exit_code = static_cast<int>(ExitCode::kPeerLost),
                   .event = "hung",
                   .detail = absl::StrFormat("no rank has come within %g s", HangWatch::kStarting)};
  return std::nullopt;
}

// srun says 0 of tasks that it could not start. Ranks that are all on other hosts are known by what they leave.
bool Supervisor::HasFinished(const std::vector<RankState>& ranks) const {
  return SummaryTime(options_.run) != summary_time_ ||
         std::any_of(ranks.begin(), ranks.end(), [](const RankState& state) { return state.exit_code == 0; });
}

void Supervisor::NoteTraining(const std::vector<RankState>& ranks) {
  if (training_) return;
  const auto trains =
      std::find_if(ranks.begin(), ranks.end(), [](const RankState& state) { return state.stage == HeartbeatStage::kTraining; });
  if (trains == ranks.end()) return;
  training_ = true;
  const double lost = SecondsLost(journal_.events(), UnixSeconds(), trains->step);
  journal_.Append({.event = "training", .step = trains->step, .seconds_lost = lost});
}

// `status` may be asked on any host. Where it cannot be written that says less, and nothing else is worse.
void Supervisor::TellRanks(const std::vector<RankState>& ranks) {
  untold_seconds_ = 0;
  if (roster_.several()) WriteRankTable(options_.run, {roster_.names(), ranks}).IgnoreError();
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
  const auto dead = std::find_if_not(ranks.begin(), ranks.end(), [](const RankState& state) { return state.lives; });
  if (dead == ranks.end() || dead->exit_code == 0) return std::nullopt;
  if (std::any_of(ranks.begin(), ranks.end(), [](const RankState& state) { return state.exit_code > 0 || state.at_fault; }))
    return std::nullopt;
  return Outcome{
      .exit_code = static_cast<int>(ExitCode::kPeerLost), .event = "died", .rank = *dead, .host = dead->host, .detail = {}};
}

// Where the ranks have ended the job themselves because a machine computes other bits than it did, or than others.
void Supervisor::BlameMachine(Outcome& outcome) {
  if (outcome.host) return;
  const std::vector<RankState> ranks = roster_.Ranks();
  const auto found = std::find_if(ranks.begin(), ranks.end(), [](const RankState& state) { return state.at_fault; });
  if (found == ranks.end()) return;
  outcome.rank = *found;
  outcome.host = found->host;
  outcome.detail = "the ranks have found its machine at fault";
}

Supervisor::Outcome Supervisor::HungRank(const Hang& hang) {
  return {.exit_code = static_cast<int>(ExitCode::kPeerLost),
          .event = "hung",
          .rank = hang.state,
          .host = hang.state.host,
          .detail = absl::StrFormat("%s for %.1f s; %s", hang.what, hang.silent, roster_.WhereItIs(hang.state))};
}

void Supervisor::Record(const Outcome& outcome) {
  JournalEvent event{.event = outcome.event, .exit = outcome.exit_code, .idle_seconds = idle_seconds_, .detail = outcome.detail};
  if (step_ >= 0) event.step = step_;
  if (outcome.host && roster_.several()) event.host = roster_.NameOf(*outcome.host);
  if (outcome.rank) {
    event.rank = outcome.rank->rank;
    event.pid = outcome.rank->pid;
    event.phase = PhaseText(*outcome.rank);
  }
  journal_.Append(event);
  if (outcome.event == "exit" && outcome.detail.empty()) return;  // it has said why itself
  const std::string who =
      absl::StrCat(outcome.rank ? Who(*outcome.rank) : "the job", event.host.empty() ? "" : " on ", event.host);
  LogError(absl::StrCat(who, outcome.event == "died" ? " died" : "", outcome.detail.empty() ? "" : ": ", outcome.detail));
}

// Whether a good checkpoint is the newest now, and was not before.
absl::StatusOr<bool> Supervisor::SetDamagedAside() {
  FileSystem& files = PosixFileSystem();
  JEVONS_ASSIGN_OR_RETURN(const NewestGood found, FindNewestGood(files, options_.run + "/checkpoints"));
  if (found.path.empty() || found.damaged.empty()) return false;
  for (const std::string& damaged : found.damaged) {
    JEVONS_ASSIGN_OR_RETURN(const std::string aside, jevons::SetDamagedAside(files, damaged));
    journal_.Append({.event = "set_aside", .detail = aside});
    LogWarning(absl::StrFormat("%s is damaged, and now called %s", damaged, aside));
  }
  LogWarning(absl::StrFormat("the run goes on from %s, the newest good checkpoint", found.path));
  return true;
}

// -1 where there is no checkpoint.
int64_t Supervisor::NewestStep() const {
  const absl::StatusOr<std::vector<int64_t>> steps = CommittedSteps(PosixFileSystem(), options_.run + "/checkpoints");
  return steps.ok() && !steps->empty() ? steps->back() : -1;
}

// Makes the newest state that the memory has whole a checkpoint on disk, where it is newer than those.
void Supervisor::SaveFromMemory() {
  FileSystem& files = PosixFileSystem();
  const std::string directory = options_.run + "/checkpoints";
  const auto save = [&]() -> absl::Status {
    JEVONS_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, CommittedSteps(files, directory));
    const std::vector<MemoryPart> whole = NewestWhole(roster_.Parts(), steps.empty() ? -1 : steps.back());
    if (whole.empty()) return absl::OkStatus();
    const auto begin = Clock::now();
    JEVONS_ASSIGN_OR_RETURN(const int64_t epoch, TakeEpoch(files, directory));
    const std::string partial = JoinPath(directory, PartialName(whole[0].step, epoch));
    JEVONS_RETURN_IF_ERROR(files.MakeDirectory(partial));
    JEVONS_RETURN_IF_ERROR(roster_.CopyParts(whole, partial));
    JEVONS_RETURN_IF_ERROR(CommitCopied(files, directory, partial, whole[0].ranks, epoch));
    const std::string seconds = absl::StrFormat("%.2f s", Seconds(Clock::now() - begin));
    journal_.Append({.event = "from_memory", .step = whole[0].step, .detail = seconds});
    LogInfo(absl::StrFormat("checkpoint of step %d saved from memory, in %s", whole[0].step, seconds));
    return absl::OkStatus();
  };
  if (const absl::Status status = save(); !status.ok())
    LogWarning(absl::StrFormat("what is in memory could not be saved, the run goes on from the newest checkpoint on disk: %s",
                               std::string(status.message())));
}

// False where a signal came meanwhile.
bool Supervisor::Delay(double seconds) {
  const auto begin = Clock::now();
  while (options_.stop->load() == 0 && Seconds(Clock::now() - begin) < seconds) std::this_thread::sleep_for(kTick);
  return options_.stop->load() == 0;
}

}  // namespace jevons
