#include "trainer/report/run_history.h"

#include <cmath>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_format.h"
#include "trainer/files/file_system.h"
#include "trainer/metrics/human.h"
#include "trainer/metrics/jsonl.h"
#include "trainer/spec/flops.h"

namespace jevons {
namespace {

constexpr char kMetricsFile[] = "metrics.jsonl";

// Takes `step` and all after it out: a process makes them again.
template <typename Record>
void CutFrom(int64_t step, std::vector<Record>& records) {
  while (!records.empty() && records.back().step >= step) records.pop_back();
}

absl::Status ReadMetrics(const std::string& path, RunHistory& run) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return IntegrityError(path + ": cannot be read; name what was given to train's --output");
  for (std::string line; std::getline(file, line);) {
    auto record = FromJsonLine(line);
    if (!record) {
      ++run.unreadable;
    } else if (record->Value("loss/main")) {
      CutFrom(record->step, run.steps);
      CutFrom(record->step, run.validations);
      run.steps.push_back(*std::move(record));
    } else if (record->Value("validation/loss")) {
      CutFrom(record->step, run.validations);
      run.validations.push_back(*std::move(record));
    }
  }
  if (run.steps.empty()) return IntegrityError(path + ": no step is recorded in it: there is nothing to compare or to show");
  return absl::OkStatus();
}

template <typename Record, typename Parse>
std::vector<Record> ReadLines(const std::string& path, const Parse& parse) {
  std::vector<Record> records;
  std::ifstream file(path, std::ios::binary);
  for (std::string line; std::getline(file, line);)
    if (auto record = parse(line)) records.push_back(*std::move(record));
  return records;
}

Curve CurveOf(const RunHistory& run, const std::vector<MetricsRecord>& records, absl::string_view name, Axis axis, Price price) {
  Curve curve;
  for (const MetricsRecord& record : records) {
    const auto place = PlaceOf(run, record, axis, price), value = record.Value(name);
    if (place && value && std::isfinite(*value)) curve.Add(*place, *value);
  }
  return curve;
}

}  // namespace

absl::StatusOr<RunHistory> ReadRunHistory(const std::string& path) {
  RunHistory run;
  run.path = path;
  JEVONS_RETURN_IF_ERROR(ReadMetrics(JoinPath(path, kMetricsFile), run));
  const std::string config = JoinPath(path, kConfigFile);
  if (!std::filesystem::exists(config))
    return IntegrityError(
        config + ": there is none: a run of an older version; train's command on it, also if its steps are done, writes it");
  JEVONS_ASSIGN_OR_RETURN(run.config, ReadRunConfig(path));
  run.name = RunName(run.config, path);
  run.starts = ReadStarts(path);
  for (ExpertLoads& loads : ReadLines<ExpertLoads>(JoinPath(path, kExpertsFile), FromExpertsLine)) {
    CutFrom(loads.step, run.experts);
    if (loads.step <= run.steps.back().step) run.experts.push_back(std::move(loads));
  }
  const FlopCount flops = CountFlops(run.config.model(), run.config.data().sequence_length(), CoreCount::kCausal);
  run.flops_per_token = flops.training();
  run.mtp_flops_per_token = flops.training() - flops.training_without_mtp();
  const CostConfig& cost = run.config.cost();
  run.flops = RunFlops(RunSchedule(run.config));
  run.reference = {.mfu = cost.reference_mfu(), .peak_flops = cost.peak_tflops() * 1e12};
  return run;
}

std::optional<double> RunHistory::Last(absl::string_view name) const {
  for (auto record = steps.rbegin(); record != steps.rend(); ++record)
    if (const auto value = record->Value(name)) return value;
  return std::nullopt;
}

Curve RunHistory::OverTokens(absl::string_view name) const { return CurveOf(*this, steps, name, Axis::kTokens, {}); }

std::optional<double> PlaceOf(const RunHistory& run, const MetricsRecord& record, Axis axis, Price price) {
  const std::optional<double> tokens = record.Value("tokens");
  switch (axis) {
    case Axis::kTokens: return tokens;
    case Axis::kFlops: return tokens ? std::optional(run.flops->Training(*tokens)) : std::nullopt;
    case Axis::kSeconds: return record.Value("cost/seconds");
    case Axis::kDollars: {
      const std::optional<double> seconds = record.Value("cost/device_seconds");
      if (!price) return record.Value("cost/dollars");
      return seconds ? std::optional(*seconds / 3600 * *price) : std::nullopt;
    }
    case Axis::kReference: {
      if (!price && run.config.cost().has_price_per_device_hour()) price = run.config.cost().price_per_device_hour();
      if (!price && !run.starts.empty()) price = run.starts.back().price_per_device_hour;
      return tokens && price && run.reference.mfu > 0
                 ? std::optional(run.reference.device_seconds(run.flops->Training(*tokens)) / 3600 * *price)
                 : std::nullopt;
    }
  }
  return std::nullopt;
}

Curve TrainingLoss(const RunHistory& run, Axis axis, Price price) {
  Curve curve = CurveOf(run, run.steps, "loss/main", axis, price);
  curve.y = SmoothedLosses(std::move(curve.y));
  return curve;
}

Curve ValidationLoss(const RunHistory& run, Axis axis, Price price) {
  return CurveOf(run, run.validations, "validation/loss", axis, price);
}

std::string AxisText(Axis axis, double value) {
  switch (axis) {
    case Axis::kTokens: return ShortNumber(value) + " tokens";
    case Axis::kFlops: return absl::StrFormat("%.3g FLOP", value);
    case Axis::kSeconds: return absl::StrFormat("%.4g s", value);
    case Axis::kDollars: return absl::StrFormat("$%.4g", value);
    case Axis::kReference: return absl::StrFormat("$%.4g at the reference", value);
  }
  return "";
}

}  // namespace jevons
