// A run as it went on, from its files alone: what is compared and shown.
//
//   JEVONS_ASSIGN_OR_RETURN(const RunHistory run, ReadRunHistory("runs/a"));
//   const Curve loss = TrainingLoss(run, Axis::kDollars, {});   // smoothed, over what was paid, lost work included
#ifndef JEVONS_TRAINER_REPORT_RUN_HISTORY_H_
#define JEVONS_TRAINER_REPORT_RUN_HISTORY_H_

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "kernels/base/status.h"
#include "trainer/metrics/record.h"
#include "trainer/metrics/run_files.h"
#include "trainer/report/curve.h"
#include "trainer/spec/run_flops.h"

namespace jevons {

struct RunHistory {
  std::string path, name;        // run.name, or the folder's
  RunConfig config;              // every field with its default
  std::vector<RunStart> starts;  // one for each process that worked on it
  // Each step once: where a process made steps again that another had lost, as it made them.
  std::vector<MetricsRecord> steps, validations;
  std::vector<ExpertLoads> experts;
  int64_t unreadable = 0;          // lines of metrics.jsonl that are no records
  double flops_per_token = 0;      // of training, causal, MTP modules included; of the first stage
  double mtp_flops_per_token = 0;  // of them
  std::optional<RunFlops> flops;   // of all stages; always set
  ReferenceSpeed reference = {};   // cost.reference_mfu of cost.peak_tflops

  std::string device() const {
    return starts.empty() || starts.back().device.empty() ? config.cost().device() : starts.back().device;
  }
  // Of the last step that has it.
  std::optional<double> Last(absl::string_view name) const;
  // Of all steps that have it, over their tokens.
  Curve OverTokens(absl::string_view name) const;
};

// IntegrityError where `run` has no metrics or no config.
absl::StatusOr<RunHistory> ReadRunHistory(const std::string& run);

// What runs are put side by side at.
enum class Axis {
  kTokens,
  kFlops,      // of training, each stage's tokens with theirs
  kSeconds,    // of the clock that devices were paid for, lost work included
  kDollars,    // likewise
  kReference,  // dollars if every step had run at cost.reference_mfu, and none were lost
};
inline constexpr std::array<const char*, 5> kAxisNames = {"tokens", "flops", "seconds", "dollars", "reference"};
inline constexpr std::array<const char*, 5> kAxisLabels = {"tokens", "training FLOP", "seconds paid for", "dollars",
                                                           "dollars at the reference MFU"};
std::string AxisText(Axis axis, double value);  // "1.2M tokens", "$0.42"

// Dollars for a device's hour: the given price, or none: what was paid when it was.
using Price = std::optional<double>;
// Where the record stands; none where it does not say, as dollars where no price was known.
std::optional<double> PlaceOf(const RunHistory& run, const MetricsRecord& record, Axis axis, Price price);

// Smoothed as SmoothedLosses (curve.h) says; the validation's as it is.
Curve TrainingLoss(const RunHistory& run, Axis axis, Price price);
Curve ValidationLoss(const RunHistory& run, Axis axis, Price price);

}  // namespace jevons

#endif  // JEVONS_TRAINER_REPORT_RUN_HISTORY_H_
