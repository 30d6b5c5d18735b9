// RUN/supervise.jsonl: what befell a supervised run, one JSON object a line, over all calls of `supervise`; and the share of its time that
// made progress.
//
//   {"time":1763755200.5,"event":"died","exit":5,"rank":2,"pid":4711,"step":41,"phase":"dispatch, 0F3","idle_seconds":0.02}
#ifndef JEVONS_LAUNCH_SUPERVISE_JOURNAL_H_
#define JEVONS_LAUNCH_SUPERVISE_JOURNAL_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/status.h"
#include "trainer/files/append_file.h"

namespace jevons {

struct JournalEvent {
  double time = 0;  // seconds since 1970
  // begin, end: of a supervisor; start: of a job; training: its first step; died, hung, lost, exit: its end, by a rank that died or hung, a host
  // that does not answer, or by itself; stop: a signal was passed on; layout: another than before; quarantine: a host is left out;
  // set_aside: a damaged checkpoint; from_memory: one that was saved from the hosts' memory
  std::string event;
  std::optional<int> exit = {}, rank = {};
  std::optional<int64_t> pid = {}, step = {};  // steps done
  std::string host = {};                       // of several, the one where it happened
  std::string phase = {};                      // and action
  std::optional<double> idle_seconds = {};     // of died, hung and exit: since the last progress of any rank
  std::optional<double> seconds_lost =
      {};                   // of training: since the last job's last progress, and what of its steps is made again
  std::string detail = {};  // for people; of begin, on one host: the heartbeat file
};

std::string ToJournalLine(const JournalEvent& event);  // ends in a newline
std::optional<JournalEvent> FromJournalLine(const std::string& line);

// Empty where there is none; lines that are no events are left out.
std::vector<JournalEvent> ReadJournal(const std::string& run);

class Journal {
 public:
  // Makes the folder where it is new. UsageError where another supervisor has the run.
  static absl::StatusOr<Journal> Open(const std::string& run);
  Journal(Journal&& other) noexcept
      : file_(std::move(other.file_)), lock_(std::exchange(other.lock_, -1)), events_(std::move(other.events_)) {}
  ~Journal();
  // `event.time` is set here. A disk that does not take it is no reason to end: a warning.
  void Append(JournalEvent event);
  const std::vector<JournalEvent>& events() const { return events_; }

 private:
  Journal(AppendFile file, int lock, std::vector<JournalEvent> events)
      : file_(std::move(file)), lock_(lock), events_(std::move(events)) {}
  AppendFile file_;
  int lock_;
  std::vector<JournalEvent> events_;
};

// Effective training time ratio: seconds in which steps were made that were kept, of all seconds in which the run was supervised. What was
// lost is counted by steps: of those of a job that died, as many as the next one made again.
struct Ettr {
  double wall = 0, productive = 0;  // seconds
  int restarts = 0;
  double ratio() const { return wall > 0 ? productive / wall : 0; }
};
// `now`: until when a supervisor counts that has not ended; for one that was killed, the time of the last event.
Ettr EttrOf(std::span<const JournalEvent> events, double now);
// Seconds since the last job's last progress until `now`, and those of its steps from `resumed` on: what the restart lost.
double SecondsLost(std::span<const JournalEvent> events, double now, int64_t resumed);
std::string EttrText(const Ettr& ettr);

double UnixSeconds();

}  // namespace jevons

#endif  // JEVONS_LAUNCH_SUPERVISE_JOURNAL_H_
