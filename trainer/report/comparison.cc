#include "trainer/report/comparison.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/load.h"

namespace jevons {
namespace {

constexpr double kBudgets[] = {0.1, 0.25, 0.5, 0.75, 1};  // of what all runs have reached

using Value = std::optional<double>;

Value LastOf(const Curve& curve) { return curve.empty() ? Value() : curve.y.back(); }
Value LeastOf(const Curve& curve) { return curve.empty() ? Value() : *std::min_element(curve.y.begin(), curve.y.end()); }

Value MeanFrom(const Curve& curve, size_t begin) {
  if (begin >= curve.y.size()) return std::nullopt;
  return std::accumulate(curve.y.begin() + static_cast<int64_t>(begin), curve.y.end(), 0.0) /
         static_cast<double>(curve.y.size() - begin);
}

Value Quotient(Value a, Value b, double factor) { return a && b && *b > 0 ? Value(*a / *b * factor) : std::nullopt; }

// Two with one text have the same config but for seeds and names.
std::string TextButSeeds(RunConfig config) {
  config.clear_run();
  config.mutable_train()->clear_seed();
  config.mutable_data()->clear_seed();
  return ResolvedText(config);
}

std::vector<Column> Columns(std::span<const RunHistory> runs, bool by_seeds) {
  std::vector<Column> columns;
  std::map<std::string, size_t> known;
  for (size_t i = 0; i < runs.size(); ++i) {
    const auto [found, added] = known.emplace(by_seeds ? TextButSeeds(runs[i].config) : absl::StrCat(i), columns.size());
    if (added) columns.push_back({runs[i].name, {}});
    columns[found->second].runs.push_back(i);
  }
  for (Column& column : columns)
    if (column.runs.size() > 1) absl::StrAppend(&column.name, " and ", column.runs.size() - 1, " more");
  return columns;
}

class Comparer {
 public:
  Comparer(std::span<const RunHistory> runs, const CompareOptions& options) : runs_(runs), options_(options) {
    if (!options.prices.empty()) price_ = options.prices[0];
    result_.at = options.at;
    result_.columns = Columns(runs, options.by_seeds);
    std::vector<RunConfig> configs;
    for (const RunHistory& run : runs) {
      result_.runs.push_back({run.path, run.name, run.config.run().tags()});
      configs.push_back(run.config);
    }
    result_.config = DifferingFields(configs);
  }

  absl::StatusOr<RunComparison> Run() {
    for (const RunHistory& run : runs_) JEVONS_RETURN_IF_ERROR(CheckAxis(run));
    Reached();
    Experts();
    Cost();
    JEVONS_RETURN_IF_ERROR(AtEqualBudgets());
    if (options_.loss) ToReach(*options_.loss);
    Notes();
    return std::move(result_);
  }

 private:
  using Of = std::function<Value(const RunHistory&)>;

  absl::Status CheckAxis(const RunHistory& run) const {
    const char* axis = kAxisNames[static_cast<size_t>(options_.at)];
    if (options_.at == Axis::kReference && run.reference.mfu == 0)
      return UsageError(
          absl::StrFormat("--at %s: cost.reference_mfu of %s is not set; --at dollars has what was paid", axis, run.path));
    if (PlaceOf(run, run.steps.back(), options_.at, price_)) return absl::OkStatus();
    const bool money = options_.at == Axis::kDollars || options_.at == Axis::kReference;
    return UsageError(absl::StrFormat("--at %s: the metrics of %s do not say it%s", axis, run.path,
                                      money ? "; no price was set (cost.price_per_device_hour): give one by --price" : ""));
  }

  // What no column knows is no row.
  void Add(Figure figure, const Of& of) {
    figure.section = section_;
    bool any = false;
    for (const Column& column : result_.columns) {
      Measured measured;
      for (const size_t run : column.runs)
        if (const Value value = of(runs_[run])) measured.values.push_back(*value);
      const bool whole = measured.values.size() == column.runs.size();
      figure.columns.push_back(whole ? std::optional(std::move(measured)) : std::nullopt);
      any |= whole;
    }
    if (any) result_.figures.push_back(std::move(figure));
  }

  void Reached() {
    section_ = "reached";
    Add({.name = "steps", .label = "steps"}, [](const RunHistory& run) { return static_cast<double>(run.steps.back().step); });
    Add({.name = "tokens", .label = "tokens"}, [](const RunHistory& run) { return run.Last("tokens"); });
    Add({.name = "flops", .label = "training FLOP"},
        [](const RunHistory& run) { return PlaceOf(run, run.steps.back(), Axis::kFlops, {}); });
    Add({.name = "loss", .label = "loss, smoothed, last", .relative = true},
        [](const RunHistory& run) { return LastOf(TrainingLoss(run, Axis::kTokens, {})); });
    Add({.name = "best_loss", .label = "loss, smoothed, best", .relative = true},
        [](const RunHistory& run) { return LeastOf(TrainingLoss(run, Axis::kTokens, {})); });
    Add({.name = "validation_loss", .label = "validation loss, last", .relative = true},
        [](const RunHistory& run) { return LastOf(ValidationLoss(run, Axis::kTokens, {})); });
    Add({.name = "best_validation_loss", .label = "validation loss, best", .relative = true},
        [](const RunHistory& run) { return LeastOf(ValidationLoss(run, Axis::kTokens, {})); });
    Add({.name = "bits_per_byte", .label = "bits per byte, last", .relative = true}, [](const RunHistory& run) {
      return run.validations.empty() ? std::nullopt : run.validations.back().Value("validation/bits_per_byte");
    });
  }

  void Experts() {
    section_ = "experts";
    Add({.name = "load_max_over_mean", .label = "max/mean load, second half"}, [](const RunHistory& run) {
      const Curve load = run.OverTokens("load/max_over_mean");
      return MeanFrom(load, load.y.size() / 2);
    });
    Add({.name = "dead_experts", .label = "dead experts, last step"},
        [](const RunHistory& run) { return run.Last("load/dead_experts"); });
  }

  void Cost() {
    section_ = "cost";
    const auto last = [](const char* name) { return [name](const RunHistory& run) { return run.Last(name); }; };
    const auto hours = [](const char* name) {
      return [name](const RunHistory& run) { return Quotient(run.Last(name), 3600, 1); };
    };
    const auto dollars = [this](const RunHistory& run) { return PlaceOf(run, run.steps.back(), Axis::kDollars, price_); };
    Add({.name = "tokens_per_second", .label = "tokens/s, mean of steps"},
        [](const RunHistory& run) { return MeanFrom(run.OverTokens("tokens_per_second"), 0); });
    Add({.name = "mfu", .label = "MFU, mean of steps"}, [](const RunHistory& run) { return MeanFrom(run.OverTokens("mfu"), 0); });
    Add({.name = "seconds", .label = "seconds paid for"}, last("cost/seconds"));
    Add({.name = "device_hours", .label = "device hours paid for"}, hours("cost/device_seconds"));
    Add({.name = "lost_device_hours", .label = "  of them lost"}, hours("cost/lost_device_seconds"));
    Add({.name = "restarts", .label = "  restarts"},
        [](const RunHistory& run) { return run.starts.empty() ? Value() : static_cast<double>(run.starts.size() - 1); });
    Add({.name = "device_hours_per_trillion_tokens", .label = "device hours per 1e12 tokens"},
        [](const RunHistory& run) { return Quotient(run.Last("cost/device_seconds"), run.Last("tokens"), 1e12 / 3600); });
    Add({.name = "dollars", .label = "dollars"}, dollars);
    Add({.name = "dollars_per_million_tokens", .label = "$ per million tokens"},
        [&](const RunHistory& run) { return Quotient(dollars(run), run.Last("tokens"), 1e6); });
    for (size_t i = 1; i < options_.prices.size(); ++i) AddPrice(options_.prices[i]);
    Add({.name = "reference_dollars", .label = "dollars at the reference"},
        [this](const RunHistory& run) { return PlaceOf(run, run.steps.back(), Axis::kReference, price_); });
  }

  void AddPrice(double price) {
    const auto dollars = [price](const RunHistory& run) { return PlaceOf(run, run.steps.back(), Axis::kDollars, price); };
    Add({.name = absl::StrFormat("dollars_at_%g", price), .label = absl::StrFormat("dollars at $%g an hour", price)}, dollars);
    Add({.name = absl::StrFormat("dollars_per_million_tokens_at_%g", price), .label = "  $ per million tokens"},
        [&](const RunHistory& run) { return Quotient(dollars(run), run.Last("tokens"), 1e6); });
  }

  absl::Status AtEqualBudgets() {
    section_ = absl::StrCat("at equal ", kAxisNames[static_cast<size_t>(options_.at)]);
    double begin = 0, end = std::numeric_limits<double>::infinity();
    for (const RunHistory& run : runs_) {
      const Curve loss = TrainingLoss(run, options_.at, price_);
      if (loss.empty()) return UsageError(run.path + ": all its losses are NaN or Inf");
      begin = std::max(begin, loss.x.front());
      end = std::min(end, loss.x.back());
    }
    if (begin > end)
      return UsageError(absl::StrFormat("the runs have no budget in common: one ends at %s, another begins at %s",
                                        AxisText(options_.at, end), AxisText(options_.at, begin)));
    const auto add = [&](const char* name, const char* label, const auto& curve_of) {
      for (const double part : kBudgets) {
        const double budget = begin + part * (end - begin);
        Add({.name = name,
             .label = absl::StrCat(label, " at ", AxisText(options_.at, budget)),
             .relative = true,
             .budget = budget},
            [&](const RunHistory& run) { return curve_of(run, options_.at, price_).At(budget); });
      }
    };
    add("loss_at", "loss", TrainingLoss);
    add("validation_loss_at", "validation loss", ValidationLoss);
    return absl::OkStatus();
  }

  void ToReach(double loss) {
    section_ = absl::StrFormat("to reach a loss of %g", loss);
    const auto add = [&](const char* of, const char* label, const auto& curve_of) {
      for (size_t axis = 0; axis < kAxisNames.size(); ++axis)
        Add({.name = absl::StrCat(kAxisNames[axis], "_to_", of),
             .label = absl::StrCat(kAxisLabels[axis], label),
             .relative = true},
            [&](const RunHistory& run) { return curve_of(run, static_cast<Axis>(axis), price_).Reaches(loss); });
    };
    add("loss", ", smoothed training loss", TrainingLoss);
    add("validation_loss", ", validation loss", ValidationLoss);
    if (result_.figures.empty() || result_.figures.back().section != section_)
      result_.notes.push_back(absl::StrFormat("no run reached a loss of %g", loss));
  }

  void Notes() {
    result_.notes.push_back(
        "training losses are smoothed by steps (0.9); between two records values are on a straight line; - is not known, or not "
        "reached");
    result_.notes.push_back("FLOP: causal, forward and backward, MTP modules counted; MFU: without them, as published ones");
    result_.notes.push_back("seconds and dollars are those paid for: lost work, validation and checkpoints included");
    result_.notes.push_back(absl::StrFormat(
        "DeepSeek-V3: %.0fK H800 hours per 1e12 tokens, $%.2f per million tokens at $%g an hour",
        kDeepSeekV3HoursPerTrillion / 1e3, kDeepSeekV3HoursPerTrillion * kDeepSeekV3PricePerHour / 1e6, kDeepSeekV3PricePerHour));
    for (const RunHistory& run : runs_)
      if (run.unreadable > 0)
        result_.notes.push_back(absl::StrFormat("%s: %d lines of its metrics are no records", run.path, run.unreadable));
  }

  std::span<const RunHistory> runs_;
  const CompareOptions& options_;
  Price price_;
  std::string section_;
  RunComparison result_;
};

}  // namespace

double Measured::mean() const { return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size()); }

double Measured::spread() const {
  if (values.size() < 2) return 0;
  double squares = 0;
  for (const double value : values) squares += (value - mean()) * (value - mean());
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

absl::StatusOr<RunComparison> CompareRuns(std::span<const RunHistory> runs, const CompareOptions& options) {
  return Comparer(runs, options).Run();
}

}  // namespace jevons
