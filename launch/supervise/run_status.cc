#include "launch/supervise/run_status.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "configs/load.h"
#include "launch/supervise/rank_table.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/metrics/jsonl.h"
#include "trainer/spec/schedules.h"

namespace jevons {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kTail = 1 << 16;  // bytes of metrics that are read: some dozens of steps
constexpr size_t kShownEvents = 8;

// Whether a run holds its folder's lock.
bool IsLocked(const std::string& run) {
  const int handle = open(run.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (handle < 0) return false;
  const bool locked = flock(handle, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  close(handle);
  return locked;
}

std::optional<double> ValueOf(const std::optional<MetricsRecord>& record, absl::string_view name) {
  return record ? record->Value(name) : std::nullopt;
}

void ReadMetrics(RunStatus& status) {
  std::ifstream file(status.run + "/metrics.jsonl", std::ios::binary | std::ios::ate);
  if (!file) return;
  const int64_t bytes = file.tellg();
  file.seekg(std::max<int64_t>(0, bytes - kTail));
  std::optional<MetricsRecord> first;
  for (std::string line; std::getline(file, line);) {
    const auto record = FromJsonLine(line + "\n");
    if (!record || !ValueOf(record, "loss/main")) continue;
    // Where a run was resumed there is a pause.
    const auto training = std::find_if(status.events.rbegin(), status.events.rend(),
                                       [](const JournalEvent& event) { return event.event == "training"; });
    if (training != status.events.rend() && record->wall_time < training->time) continue;
    if (!first) first = record;
    status.newest = record;
  }
  if (first && status.newest->step > first->step)
    status.seconds_per_step =
        (status.newest->wall_time - first->wall_time) / static_cast<double>(status.newest->step - first->step);
}

// Where a supervisor says that they are; nothing where it has ended.
void ReadRanks(RunStatus& status) {
  const auto begin = std::find_if(status.events.rbegin(), status.events.rend(),
                                  [](const JournalEvent& event) { return event.event == "begin"; });
  if (begin == status.events.rend()) return;
  if (begin->detail.empty()) {
    RankTable table = ReadRankTable(status.run);
    status.hosts = std::move(table.hosts);
    status.ranks = std::move(table.ranks);
  } else if (const auto file = HeartbeatFile::Open(begin->detail, /*writable=*/false); file.ok()) {
    status.ranks = RankStates(*file);
  }
  for (const RankState& state : status.ranks) status.steps = std::max(status.steps, state.steps);
}

// Of a run that is not supervised, what its newest checkpoint says.
absl::Status ReadSteps(RunStatus& status) {
  if (status.steps > 0 || status.checkpoints.empty()) return absl::OkStatus();
  FileSystem& files = PosixFileSystem();
  JEVONS_ASSIGN_OR_RETURN(const std::string path, CheckpointPath(files, status.run + "/checkpoints", status.checkpoints.back()));
  const auto reader = CheckpointReader::Open(files, path);
  if (!reader.ok()) return absl::OkStatus();  // status shows what there is
  JEVONS_ASSIGN_OR_RETURN(const RunConfig config, ParseRunConfig(reader->config_text(), path, {}));
  if (const RunSchedule schedule(config); schedule.bounded()) status.steps = schedule.steps();
  return absl::OkStatus();
}

std::string Duration(double seconds) {
  const auto s = static_cast<int64_t>(seconds);
  if (s < 60) return absl::StrFormat("%d s", s);
  if (s < 3600) return absl::StrFormat("%d min %d s", s / 60, s % 60);
  return absl::StrFormat("%d h %d min", s / 3600, s % 3600 / 60);
}

std::string TimeOfDay(double time) {
  const auto seconds = static_cast<time_t>(time);
  tm local{};
  localtime_r(&seconds, &local);
  char text[32];
  strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &local);
  return text;
}

std::string HostOf(const RunStatus& status, const RankState& state) {
  return status.hosts.empty() ? "" : status.hosts[static_cast<size_t>(state.host)];
}

}  // namespace

std::string EventText(const JournalEvent& event) {
  std::string text = absl::StrFormat("%s  %-9s", TimeOfDay(event.time), event.event);
  if (event.exit) absl::StrAppend(&text, " exit code ", *event.exit);
  if (event.rank) absl::StrAppend(&text, " rank ", *event.rank);
  if (!event.host.empty()) absl::StrAppend(&text, " on ", event.host);
  // Of a rank as of a job it says what was done, and a person asks what was done at: metrics.jsonl and `replay` count from 1.
  if (event.step)
    absl::StrAppend(&text, event.event == "from_memory" ? " step " : " in step ",
                    *event.step + (event.event == "from_memory" ? 0 : 1));
  if (!event.phase.empty()) absl::StrAppend(&text, " ", event.phase);
  if (event.seconds_lost && *event.seconds_lost > 0) absl::StrAppendFormat(&text, " %.1f s lost", *event.seconds_lost);
  if (!event.detail.empty() && event.event != "begin") absl::StrAppend(&text, " ", event.detail);
  return text;
}

std::optional<double> RunStatus::eta() const {
  if (!newest || seconds_per_step <= 0 || steps < newest->step) return std::nullopt;
  return static_cast<double>(steps - newest->step) * seconds_per_step;
}

absl::StatusOr<RunStatus> ReadRunStatus(const std::string& run) {
  if (!std::filesystem::is_directory(run)) return IntegrityError(run + ": no such folder; name a run");
  RunStatus status;
  status.run = run;
  status.now = UnixSeconds();
  status.events = ReadJournal(run);
  JEVONS_ASSIGN_OR_RETURN(status.checkpoints, CommittedSteps(PosixFileSystem(), run + "/checkpoints"));
  ReadMetrics(status);
  status.running = IsLocked(run);
  ReadRanks(status);
  JEVONS_RETURN_IF_ERROR(ReadSteps(status));
  if (status.events.empty() && !status.newest && status.checkpoints.empty() && !status.running)
    return IntegrityError(run + ": no run; name what was given to --output");
  return status;
}

std::string StatusText(const RunStatus& status) {
  std::string text;
  const auto add = [&](absl::string_view name, absl::string_view what) {
    absl::StrAppendFormat(&text, "%-12s %s\n", name, what);
  };
  add("run",
      absl::StrCat(status.run, status.running ? ", running" : ", not running", status.events.empty() ? ", not supervised" : ""));
  if (status.newest) {
    add("step", absl::StrCat(status.newest->step, status.steps > 0 ? absl::StrCat(" of ", status.steps) : "",
                             absl::StrFormat(", loss %.4f", ValueOf(status.newest, "loss/main").value_or(0))));
    std::string speed = absl::StrFormat("%.0f tokens/s", ValueOf(status.newest, "tokens_per_second").value_or(0));
    if (status.seconds_per_step > 0) absl::StrAppendFormat(&speed, ", %.3g s per step", status.seconds_per_step);
    if (const auto eta = status.eta(); eta && status.running) absl::StrAppend(&speed, ", ETA ", Duration(*eta));
    add("speed", speed);
    const auto dollars = ValueOf(status.newest, "cost/dollars");
    add("cost", absl::StrFormat("%.2f device hours, %s", ValueOf(status.newest, "cost/device_seconds").value_or(0) / 3600,
                                dollars ? absl::StrFormat("$%.2f", *dollars) : "price not set"));
  }
  for (const RankState& state : status.ranks) {
    add(absl::StrCat("rank ", state.rank),
        absl::StrFormat("process %d%s%s%s, in step %d, %s, %.2f s ago", state.pid, status.hosts.empty() ? "" : " on ",
                        HostOf(status, state), state.lives ? "" : " (gone)", state.step + 1, PhaseText(state), state.silent));
  }
  add("checkpoints", status.checkpoints.empty() ? "none" : "of steps " + absl::StrJoin(status.checkpoints, ", "));
  if (status.events.empty()) return text;
  add("supervised", EttrText(EttrOf(status.events, status.ranks.empty() ? 0 : status.now)));
  for (size_t i = status.events.size() - std::min(kShownEvents, status.events.size()); i < status.events.size(); ++i)
    add("", EventText(status.events[i]));
  return text;
}

std::string StatusJson(const RunStatus& status) {
  Json json = {{"run", status.run}, {"running", status.running}};
  const auto number = [](const std::optional<double>& value) { return value ? Json(*value) : Json(); };
  json["step"] = status.newest ? Json(status.newest->step) : Json();
  json["steps"] = status.steps > 0 ? Json(status.steps) : Json();
  json["loss"] = number(ValueOf(status.newest, "loss/main"));
  json["tokens_per_second"] = number(ValueOf(status.newest, "tokens_per_second"));
  json["seconds_per_step"] = status.seconds_per_step > 0 ? Json(status.seconds_per_step) : Json();
  json["eta_seconds"] = number(status.eta());
  json["device_seconds"] = number(ValueOf(status.newest, "cost/device_seconds"));
  json["dollars"] = number(ValueOf(status.newest, "cost/dollars"));
  json["ranks"] = Json::array();
  for (const RankState& state : status.ranks) {
    json["ranks"].push_back({{"rank", state.rank},
                             {"pid", state.pid},
                             {"alive", state.lives},
                             {"step", state.step},
                             {"phase", PhaseText(state)},
                             {"heartbeat_age_seconds", state.silent}});
    if (!status.hosts.empty()) json["ranks"].back()["host"] = HostOf(status, state);
  }
  json["checkpoints"] = status.checkpoints;
  if (!status.events.empty()) {
    const Ettr ettr = EttrOf(status.events, status.ranks.empty() ? 0 : status.now);
    json["ettr"] = {{"ratio", ettr.ratio()},
                    {"productive_seconds", ettr.productive},
                    {"wall_seconds", ettr.wall},
                    {"restarts", ettr.restarts}};
  }
  json["events"] = Json::array();
  for (size_t i = status.events.size() - std::min(kShownEvents, status.events.size()); i < status.events.size(); ++i)
    json["events"].push_back(Json::parse(ToJournalLine(status.events[i])));
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace jevons
