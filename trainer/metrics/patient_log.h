// A log that a full disk does not end: what it does not take waits, in order, and is written as soon as it takes something again.
#ifndef JEVONS_TRAINER_METRICS_PATIENT_LOG_H_
#define JEVONS_TRAINER_METRICS_PATIENT_LOG_H_

#include <deque>
#include <utility>

#include "absl/status/status.h"
#include "trainer/metrics/record.h"

namespace jevons {

// Log: MetricsLog or EventFile, whose Append leaves nothing of what failed.
template <typename Log>
class PatientLog {
 public:
  explicit PatientLog(Log log) : log_(std::move(log)) {}

  // Writes what waits, then this. The failure of the first that cannot be written; it and all later ones wait, the last kMost of them.
  absl::Status Append(const MetricsRecord& record) {
    waiting_.push_back(record);
    if (waiting_.size() > kMost) waiting_.pop_front();
    for (; !waiting_.empty(); waiting_.pop_front())
      if (absl::Status status = log_.Append(waiting_.front()); !status.ok()) return status;
    return absl::OkStatus();
  }

  size_t waiting() const { return waiting_.size(); }
  const Log& log() const { return log_; }

  static constexpr size_t kMost = 10000;  // some 10 MB

 private:
  Log log_;
  std::deque<MetricsRecord> waiting_;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_METRICS_PATIENT_LOG_H_
