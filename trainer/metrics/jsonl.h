// metrics.jsonl: the record of a run, one JSON object a line, and the source of every other view:
//   {"step":12,"time":1763755200.5,"loss/main":5.25,"tokens_per_second":2048.0}
// Values that are no numbers (NaN, Inf) are null. A step that was not applied has a record of its own kind:
//   {"step":13,"time":1763755201.5,"bad_step/loss":9.75,...,"bad_step/reason":"...","bad_step/gradient_hash":"0123456789abcdef"}
#ifndef JEVONS_TRAINER_METRICS_JSONL_H_
#define JEVONS_TRAINER_METRICS_JSONL_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/files/append_file.h"
#include "trainer/metrics/record.h"

namespace jevons {

class MetricsLog {
 public:
  // Opens PATH for a run that has `steps_done` steps in its checkpoint (0: a new run). Lines of later steps
  // were written by a run that died after the checkpoint: they are cut off, as is a torn last line. A line in
  // the middle that is no record is an integrity error, and the file stays as it is.
  static absl::StatusOr<MetricsLog> Open(const std::string& path, int64_t steps_done);

  // The last record that Open cut off: what the dead run had reached.
  const std::optional<MetricsRecord>& lost() const { return lost_; }

  absl::Status Append(const MetricsRecord& record);

 private:
  MetricsLog(AppendFile file, std::optional<MetricsRecord> lost) : file_(std::move(file)), lost_(std::move(lost)) {}
  AppendFile file_;
  std::optional<MetricsRecord> lost_;
};

std::string ToJsonLine(const MetricsRecord& record);                 // ends in a newline
std::optional<MetricsRecord> FromJsonLine(const std::string& line);  // none: not a record; null is NaN

}  // namespace jevons

#endif  // JEVONS_TRAINER_METRICS_JSONL_H_
