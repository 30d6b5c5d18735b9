// The newest value of each metric as a file that Prometheus' node_exporter shows (its textfile collector; exposition format 0.0.4):
//   # TYPE jevons_loss_main gauge
//   jevons_loss_main{run="quickstart"} 5.25
// A name is that of metrics.jsonl, with "jevons_" before it and "_" for what Prometheus does not allow. All are gauges, tokens and costs too: a
// run that goes on from a checkpoint has fewer of them than before. A bad step's figures go with the next good one.
#ifndef JEVONS_TRAINER_METRICS_PROMETHEUS_H_
#define JEVONS_TRAINER_METRICS_PROMETHEUS_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/metrics/record.h"

namespace jevons {

class PrometheusFile {
 public:
  // Makes the file, or empties that of an earlier start. run: the label of its metrics.
  static absl::StatusOr<PrometheusFile> Create(const std::string& path, const std::string& run);

  // A reader sees the file before the record or after it, whole.
  absl::Status Append(const MetricsRecord& record);

 private:
  PrometheusFile(const std::string& path, const std::string& run) : path_(path), run_(run) {}
  absl::Status Write() const;

  std::string path_, run_;
  std::map<std::string, double> values_;  // by Prometheus' name
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_METRICS_PROMETHEUS_H_
