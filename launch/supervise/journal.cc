#include "launch/supervise/journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/log.h"

namespace jevons {
namespace {

using Json = nlohmann::ordered_json;

std::string PathOf(const std::string& run) { return run + "/supervise.jsonl"; }

template <typename T>
void Put(Json& json, const char* name, const std::optional<T>& value) {
  if (value) json[name] = *value;
}

template <typename T>
void Get(const Json& json, const char* name, std::optional<T>& value) {
  const auto found = json.find(name);
  if (found == json.end()) return;
  if constexpr (std::is_integral_v<T>) {
    if (found->is_number_integer() && std::in_range<T>(found->template get<int64_t>())) value = found->template get<T>();
  } else if (found->is_number()) {
    value = found->template get<T>();
  }
}

std::string TextOr(const Json& json, const char* name) {
  const auto found = json.find(name);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

bool EndsJob(const JournalEvent& event) {
  return event.event == "died" || event.event == "hung" || event.event == "lost" || event.event == "exit";
}

// A job that trained, from its first step until its last progress.
struct Work {
  double begin = 0, end = 0;
  int64_t first = 0, last = 0;  // steps done
  double seconds() const { return std::max(0.0, end - begin); }
  // Of it, what a job that goes on from `resumed` makes again.
  double Again(int64_t resumed) const {
    const auto made = static_cast<double>(last - first), again = static_cast<double>(last - std::max(resumed, first));
    return made > 0 && again > 0 ? seconds() * again / made : 0;
  }
};

// The last one of the events so far, and whether it has ended.
struct LastWork {
  std::optional<Work> work;
  bool ended = false;
  double seen = 0;  // time of the last event
  void See(const JournalEvent& event) {
    if (event.event == "begin" && work && !ended) {  // a supervisor that was killed did not see the end
      work->end = seen;
      ended = true;
    }
    seen = event.time;
    if (event.event == "training") {
      const int64_t step = event.step.value_or(0);
      work = {event.time, event.time, step, step};
      ended = false;
    } else if (EndsJob(event) && work && !ended) {
      work->end = event.time - event.idle_seconds.value_or(0);
      work->last = event.step.value_or(work->first);
      ended = true;
    }
  }
};

}  // namespace

double UnixSeconds() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

std::string ToJournalLine(const JournalEvent& event) {
  Json json = {{"time", event.time}, {"event", event.event}};
  Put(json, "exit", event.exit);
  Put(json, "rank", event.rank);
  Put(json, "pid", event.pid);
  Put(json, "step", event.step);
  if (!event.host.empty()) json["host"] = event.host;
  if (!event.phase.empty()) json["phase"] = event.phase;
  Put(json, "idle_seconds", event.idle_seconds);
  Put(json, "seconds_lost", event.seconds_lost);
  if (!event.detail.empty()) json["detail"] = event.detail;
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::optional<JournalEvent> FromJournalLine(const std::string& line) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("time") || !json["time"].is_number() || TextOr(json, "event").empty())
    return std::nullopt;
  JournalEvent event{.time = json["time"].get<double>(), .event = TextOr(json, "event")};
  Get(json, "exit", event.exit);
  Get(json, "rank", event.rank);
  Get(json, "pid", event.pid);
  Get(json, "step", event.step);
  event.host = TextOr(json, "host");
  event.phase = TextOr(json, "phase");
  Get(json, "idle_seconds", event.idle_seconds);
  Get(json, "seconds_lost", event.seconds_lost);
  event.detail = TextOr(json, "detail");
  return event;
}

std::vector<JournalEvent> ReadJournal(const std::string& run) {
  std::ifstream file(PathOf(run));
  std::vector<JournalEvent> events;
  for (std::string line; std::getline(file, line);)
    if (auto event = FromJournalLine(line)) events.push_back(*std::move(event));
  return events;
}

absl::StatusOr<Journal> Journal::Open(const std::string& run) {
  std::error_code error;
  std::filesystem::create_directories(run, error);
  if (error)
    return FailureError(absl::StrFormat("%s: cannot make the folder: %s; choose another --output", run, error.message()));
  const std::string path = PathOf(run);
  const int lock = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (lock < 0) return FailureError(absl::StrFormat("%s: cannot be opened: %s", path, std::strerror(errno)));
  if (flock(lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    close(lock);
    return UsageError(run + ": another `jevons supervise` has this run; wait for it, or choose another --output");
  }
  absl::StatusOr<AppendFile> file =
      AppendFile::OpenAfterLastLine(path);  // a supervisor that was killed may have left a part of one
  if (!file.ok()) {
    close(lock);
    return file.status();
  }
  return Journal(*std::move(file), lock, ReadJournal(run));
}

Journal::~Journal() {
  if (lock_ >= 0) close(lock_);
}

void Journal::Append(JournalEvent event) {
  event.time = UnixSeconds();
  if (const absl::Status status = file_.Append(ToJournalLine(event)); !status.ok())
    LogWarning(absl::StrFormat("the supervisor goes on without this event in its journal: %s", std::string(status.message())));
  events_.push_back(std::move(event));
}

double SecondsLost(std::span<const JournalEvent> events, double now, int64_t resumed) {
  LastWork last;
  for (const JournalEvent& event : events) last.See(event);
  return last.ended ? std::max(0.0, now - last.work->end) + last.work->Again(resumed) : 0;
}

Ettr EttrOf(std::span<const JournalEvent> events, double now) {
  Ettr ettr;
  LastWork last;
  double begun = 0, seen = 0;
  bool open = false;   // a supervisor has begun and not ended
  bool again = false;  // under this supervisor a job was started before
  for (const JournalEvent& event : events) {
    if (event.event == "begin") {
      if (open) ettr.wall += seen - begun;  // it was killed
      begun = event.time;
      open = true;
      again = false;
    }
    if (event.event == "start") ettr.restarts += std::exchange(again, true);
    if (event.event == "training" && last.ended) ettr.productive -= last.work->Again(event.step.value_or(0));
    const bool worked = last.work && !last.ended;
    last.See(event);
    if (worked && last.ended) ettr.productive += last.work->seconds();
    seen = event.time;
    if (event.event == "end" && std::exchange(open, false)) ettr.wall += event.time - begun;
  }
  if (!open) return ettr;
  ettr.wall += std::max(now, seen) - begun;
  if (last.work && !last.ended) ettr.productive += std::max(0.0, std::max(now, seen) - last.work->begin);
  return ettr;
}

std::string EttrText(const Ettr& ettr) {
  return absl::StrFormat("ETTR %.1f%%: %.1f s of training kept, of %.1f s; %d restart%s", 100 * ettr.ratio(), ettr.productive,
                         ettr.wall, ettr.restarts, ettr.restarts == 1 ? "" : "s");
}

}  // namespace jevons
