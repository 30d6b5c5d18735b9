// One record of what was measured; metrics.jsonl and the TensorBoard files are views of it.
#ifndef JEVONS_TRAINER_METRICS_RECORD_H_
#define JEVONS_TRAINER_METRICS_RECORD_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace jevons {

struct MetricsRecord {
  int64_t step = 0;                                             // steps done, this one included
  double wall_time = 0;                                         // seconds since 1970
  std::vector<std::pair<std::string, double>> values;           // "loss/main" -> 3.14, in the order of printing
  std::vector<std::pair<std::string, std::string>> texts = {};  // after them: "bad_step/reason" -> "the loss is NaN"

  std::optional<double> Value(absl::string_view name) const {
    for (const auto& [key, value] : values)
      if (key == name) return value;
    return std::nullopt;
  }
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_METRICS_RECORD_H_
