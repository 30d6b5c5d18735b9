// TensorBoard's event files, written by hand: a record is
//   u64 length | u32 masked CRC-32C of the length | data | u32 masked CRC-32C of the data      (little
//   endian)
// and the data a protobuf Event {1: wall_time double, 2: step, 3: file_version, 5: Summary {1: Value {1: tag,
// 2: simple_value float}}, 7: SessionLog {1: status, START 1}}. The first record is the file version.
#ifndef JEVONS_TRAINER_METRICS_TENSORBOARD_H_
#define JEVONS_TRAINER_METRICS_TENSORBOARD_H_

#include <cstdint>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "trainer/files/append_file.h"
#include "trainer/metrics/record.h"

namespace jevons {

class EventFile {
 public:
  // A new file FOLDER/events.out.tfevents.SECONDS.HOST.PID: each start of a run writes its own, and it begins with a
  // SessionLog that makes TensorBoard drop what earlier files have of `first_step` and later ones. TensorBoard reads
  // files by name, so SECONDS is wall_time's, or more where an earlier start was in the same second.
  static absl::StatusOr<EventFile> Create(const std::string& folder, double wall_time, int64_t first_step);

  // TensorBoard shows all values that a step has of a name, where it should have one: so of records of one step the first counts.
  absl::Status Append(const MetricsRecord& record);
  const std::string& path() const { return file_.path(); }

 private:
  explicit EventFile(AppendFile file) : file_(std::move(file)) {}
  AppendFile file_;
  int64_t step_ = -1;            // of the last record
  std::set<std::string> shown_;  // that this step has already
};

uint32_t Crc32c(absl::string_view data);                       // Castagnoli, as in RFC 3720
std::string FramedRecord(absl::string_view data);              // with its length and checksums
std::string VersionEvent(double wall_time);                    // the data of a file's first record
std::string StartEvent(double wall_time, int64_t first_step);  // and of its second
std::string ScalarEvent(const MetricsRecord& record);          // the data of one record of metrics

}  // namespace jevons

#endif  // JEVONS_TRAINER_METRICS_TENSORBOARD_H_
