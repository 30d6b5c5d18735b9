#include "trainer/ladder/report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace jevons {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kHour = 3600, kMega = 1e6;
constexpr const char* kComputeNames[] = {"C"};
constexpr const char* kSizeNames[] = {"N", "D"};

std::vector<std::string> VariantsOf(const LadderConfig& ladder) {
  std::vector<std::string> names;
  for (const LadderVariant& variant : ladder.variant()) names.push_back(variant.name());
  return names;
}

std::string IntervalText(const std::optional<LawInterval>& interval) {
  return interval ? absl::StrFormat(" [%.4g, %.4g]", interval->low, interval->high) : "";
}

Json IntervalJson(const std::optional<LawInterval>& interval) { return interval ? Json{interval->low, interval->high} : Json(); }

// One law of one variant.
struct FittedLaw {
  std::string variant, law;
  bool sizes = false;  // L(N, D), not L(C)
  absl::StatusOr<LossFit> fit;
};

std::vector<FittedLaw> FitAll(const LadderConfig& ladder, std::span<const LadderPoint> points, std::optional<SeedNoise> noise) {
  std::vector<FittedLaw> laws;
  for (const std::string& variant : VariantsOf(ladder)) {
    for (const bool sizes : {false, true}) {
      for (const bool pinned : {true, false}) {
        const auto E = pinned ? std::optional(ladder.asymptote()) : std::nullopt;
        laws.push_back({.variant = variant,
                        .law = absl::StrCat(sizes ? "L(N,D)" : "L(C)", pinned ? ", pinned" : ", free"),
                        .sizes = sizes,
                        .fit = sizes ? FitSizesAndTokens(points, variant, E, noise)
                                     : FitAlong(LadderAxis::kFlops, points, variant, E, noise)});
      }
    }
  }
  return laws;
}

std::optional<LawInterval> ExponentInterval(const LossFit& fit, size_t term) {
  return IntervalOf(fit, [&](const LossLaw& law) { return std::optional(law.terms[term].exponent); });
}

// What a finished group has come to; none where it is not.
const LadderPoint* PointOf(std::span<const LadderPoint> points, const std::string& group) {
  const auto found = std::find_if(points.begin(), points.end(), [&](const LadderPoint& point) { return point.group == group; });
  return found == points.end() ? nullptr : &*found;
}

std::string FitText(const FittedLaw& law, double compute) {
  std::string text = absl::StrFormat("%-12s %-14s ", law.variant, law.law);
  if (!law.fit.ok()) return text + absl::StrCat("not fitted: ", law.fit.status().message(), "\n");
  const LossFit& fit = *law.fit;
  text += law.sizes ? LawText(fit.law, kSizeNames) : LawText(fit.law, kComputeNames);
  for (size_t j = 0; j < fit.law.terms.size(); ++j)
    if (const auto interval = ExponentInterval(fit, j))
      absl::StrAppendFormat(&text, "%s%.3g to %.3g", j == 0 ? "; exponent " : ", ", interval->low, interval->high);
  absl::StrAppend(&text, fit.resampling == Resampling::kNone ? "; too few rungs for an interval"
                                                             : absl::StrCat("; intervals from ", ResamplingName(fit.resampling)));
  if (law.sizes) {
    const BestSplit split = BestSplitAt(fit.law, compute);
    absl::StrAppendFormat(&text, "; best at C = %.3g: N %.3g, D/N %.3g", compute, split.parameters,
                          split.tokens / split.parameters);
  }
  return text + "\n";
}

std::string ForecastText(const Forecast& forecast, const LadderPoint* point) {
  std::string text = absl::StrFormat("%-12s %-14s ", forecast.group, forecast.law);
  if (!forecast.loss) return text + absl::StrCat("not foretold: ", forecast.refusal, "\n");
  absl::StrAppendFormat(&text, "%.4f%s", *forecast.loss, IntervalText(forecast.interval));
  if (forecast.interval) absl::StrAppend(&text, " from ", ResamplingName(forecast.resampling));
  if (point == nullptr) return text + ", not run yet\n";
  absl::StrAppendFormat(&text, ", measured %.4f: %+.2f%%", point->loss, 100 * (point->loss / *forecast.loss - 1));
  if (forecast.interval)
    absl::StrAppend(&text,
                    point->loss >= forecast.interval->low && point->loss <= forecast.interval->high ? ", inside" : ", outside");
  return text + "\n";
}

std::string LeverageText(std::span<const Leverage> leverages) {
  std::string text;
  std::vector<std::string> groups;
  for (const Leverage& leverage : leverages)
    if (std::find(groups.begin(), groups.end(), leverage.group) == groups.end()) groups.push_back(leverage.group);
  for (const std::string& group : groups) {
    absl::StrAppendFormat(&text, "%-12s", group);
    for (const Leverage& leverage : leverages) {
      if (leverage.group != group) continue;
      const std::string ratio = leverage.ratio ? absl::StrFormat("%.3gx%s%s", *leverage.ratio, IntervalText(leverage.interval),
                                                                 leverage.extrapolated ? " (extrapolated)" : "")
                                               : "beyond the asymptote";
      absl::StrAppendFormat(&text, "  %s %s", kLadderAxisNames[static_cast<size_t>(leverage.axis)], ratio);
    }
    text += "\n";
  }
  return text;
}

Json MaybeJson(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

Json RungJson(const Rung& rung, const std::optional<RungResult>& result) {
  Json json = {{"name", rung.name},
               {"group", rung.group},
               {"variant", rung.variant},
               {"size", rung.size},
               {"seed", rung.seed},
               {"tokens_factor", rung.tokens_factor},
               {"held_out", rung.held_out},
               {"parameters", rung.parameters},
               {"total_parameters", rung.total_parameters},
               {"tokens", rung.tokens},
               {"flops", rung.flops()},
               {"learning_rate", rung.config.optimizer().learning_rate().peak()},
               {"batch_tokens", rung.config.train().batch_sequences() * rung.config.data().sequence_length()},
               {"steps", rung.config.train().steps()},
               {"foretold_seconds", rung.seconds},
               {"foretold_dollars", MaybeJson(rung.dollars)}};
  json["result"] = result ? Json{{"loss", result->loss},
                                 {"bits_per_byte", result->bits_per_byte},
                                 {"seconds", result->seconds},
                                 {"device_hours", result->device_hours},
                                 {"dollars", MaybeJson(result->dollars)}}
                          : Json();
  return json;
}

Json LawJson(const FittedLaw& law) {
  Json json = {{"variant", law.variant}, {"law", law.law}};
  if (!law.fit.ok()) {
    json["refusal"] = law.fit.status().message();
    return json;
  }
  const LossFit& fit = *law.fit;
  json["asymptote"] = fit.law.asymptote;
  json["intervals_from"] = ResamplingName(fit.resampling);
  for (size_t j = 0; j < fit.law.terms.size(); ++j)
    json["terms"].push_back({{"factor", fit.law.terms[j].factor},
                             {"exponent", fit.law.terms[j].exponent},
                             {"exponent_interval", IntervalJson(ExponentInterval(fit, j))}});
  return json;
}

void AddResults(const LadderState& state, std::span<const LadderPoint> points, Json& json) {
  const std::vector<std::string> variants = VariantsOf(state.ladder);
  const double asymptote = state.ladder.asymptote();
  const std::optional<SeedNoise> noise = NoiseOf(points);
  json["seed_deviation"] = noise ? Json(noise->deviation) : Json();
  for (const FittedLaw& law : FitAll(state.ladder, points, noise)) json["laws"].push_back(LawJson(law));
  for (const Forecast& forecast : state.forecasts) {
    const LadderPoint* point = PointOf(points, forecast.group);
    json["forecasts"].push_back({{"group", forecast.group},
                                 {"law", forecast.law},
                                 {"loss", MaybeJson(forecast.loss)},
                                 {"interval", IntervalJson(forecast.interval)},
                                 {"intervals_from", ResamplingName(forecast.resampling)},
                                 {"refusal", forecast.refusal},
                                 {"measured", point != nullptr ? Json(point->loss) : Json()},
                                 {"miss", point != nullptr && forecast.loss ? Json(point->loss / *forecast.loss - 1) : Json()}});
  }
  for (const Leverage& leverage : LeveragesOf(points, variants, asymptote, noise))
    json["leverage"].push_back({{"group", leverage.group},
                                {"axis", kLadderAxisNames[static_cast<size_t>(leverage.axis)]},
                                {"ratio", MaybeJson(leverage.ratio)},
                                {"interval", IntervalJson(leverage.interval)},
                                {"extrapolated", leverage.extrapolated}});
  for (const EqualBudget& row : EqualBudgetsOf(points, variants, asymptote, noise))
    json["equal_budgets"].push_back({{"axis", kLadderAxisNames[static_cast<size_t>(row.axis)]},
                                     {"budget", row.budget},
                                     {"variant", row.variant},
                                     {"loss", row.loss},
                                     {"interval", IntervalJson(row.interval)}});
}

}  // namespace

LadderCost CostOf(const LadderState& state) {
  LadderCost cost;
  for (size_t i = 0; i < state.rungs.size(); ++i) {
    if (const auto& result = state.results[i]) {
      cost.spent_seconds += result->seconds;
      cost.spent_dollars += result->dollars.value_or(0);
    } else {
      cost.left_seconds += state.rungs[i].seconds;
      cost.left_dollars += state.rungs[i].dollars.value_or(0);
    }
  }
  return cost;
}

std::string LadderPlanText(const LadderState& state) {
  const LadderConfig& ladder = state.ladder;
  std::string text =
      absl::StrFormat("%s: %d rungs, %d sizes of %s; rates and batches by %s, tokens %s\n", ladder.name(), state.rungs.size(),
                      ladder.size_size(), absl::StrJoin(VariantsOf(ladder), ", "), LadderLawName_Name(ladder.law().name()),
                      ladder.law().has_tokens_per_parameter() ? absl::StrFormat("%g times N", ladder.law().tokens_per_parameter())
                                                              : "as it divides compute");
  absl::StrAppendFormat(&text, "%-22s %9s %9s %9s %9s %9s %7s %7s %8s %9s %8s\n", "rung", "N [M]", "total [M]", "D [M]",
                        "C [FLOP]", "rate", "batch", "steps", "hours", "dollars", "loss");
  for (size_t i = 0; i < state.rungs.size(); ++i) {
    const Rung& rung = state.rungs[i];
    const auto& result = state.results[i];
    const auto dollars = result ? result->dollars : rung.dollars;
    const TrainConfig& train = rung.config.train();
    absl::StrAppendFormat(&text, "%-22s %9.4g %9.4g %9.4g %9.3g %9.3g %7d %7d %s%7.3g %9s %8s\n", rung.name,
                          rung.parameters / kMega, rung.total_parameters / kMega, rung.tokens / kMega, rung.flops(),
                          rung.config.optimizer().learning_rate().peak(),
                          train.batch_sequences() * rung.config.data().sequence_length(), train.steps(), result ? " " : "~",
                          (result ? result->seconds : rung.seconds) / kHour, dollars ? absl::StrFormat("%.3g", *dollars) : "-",
                          result ? absl::StrFormat("%.4f", result->loss) : "-");
  }
  const LadderCost cost = CostOf(state);
  const bool priced = ladder.machine().has_price_per_device_hour();
  const auto money = [&](double dollars) { return priced ? absl::StrFormat(" and $%.3g", dollars) : ""; };
  absl::StrAppendFormat(&text,
                        "all: %.3g hours of %g devices%s; spent %.3g hours%s, left ~%.3g hours%s (~: foretold, by the gflops and "
                        "slowdown that the ladder states)%s\n",
                        (cost.spent_seconds + cost.left_seconds) / kHour, ladder.machine().devices(),
                        money(cost.spent_dollars + cost.left_dollars), cost.spent_seconds / kHour, money(cost.spent_dollars),
                        cost.left_seconds / kHour, money(cost.left_dollars),
                        priced ? "" : "; price not set (machine.price_per_device_hour)");
  return text;
}

std::string LadderResultsText(const LadderState& state) {
  const LadderConfig& ladder = state.ladder;
  const std::vector<std::string> variants = VariantsOf(ladder);
  const std::vector<LadderPoint> points = PointsOf(state.rungs, state.results);
  const std::optional<SeedNoise> noise = NoiseOf(points);
  double compute = 0;
  for (const LadderPoint& point : points) compute = std::max(compute, point.flops);
  std::string text = noise ? absl::StrFormat("noise of seeds: %.3g%% of the loss (%d degrees of freedom)\n",
                                             100 * noise->deviation, noise->degrees)
                           : "noise of seeds: not known, no rung has two; intervals are from rungs drawn anew\n";
  text += "\nlaws of all finished rungs (C in FLOP; N without embedding and head; intervals are 90%)\n";
  for (const FittedLaw& law : FitAll(ladder, points, noise)) text += FitText(law, compute);
  if (!state.forecasts.empty()) text += "\nheld out, as foretold before it was run\n";
  for (const Forecast& forecast : state.forecasts) text += ForecastText(forecast, PointOf(points, forecast.group));
  if (const std::string leverage = LeverageText(LeveragesOf(points, variants, ladder.asymptote(), noise)); !leverage.empty())
    absl::StrAppend(&text, "\nleverage: how many times as much ", variants[0], " takes to come to the same loss\n", leverage);
  LadderAxis axis = LadderAxis::kFlops;
  std::string line;
  for (const EqualBudget& row : EqualBudgetsOf(points, variants, ladder.asymptote(), noise)) {
    if (line.empty() || row.axis != axis)
      absl::StrAppendFormat(&line, "%s%-8s %9.4g ", line.empty() ? "\nloss at equal budgets\n" : "\n",
                            kLadderAxisNames[static_cast<size_t>(row.axis)], row.budget);
    axis = row.axis;
    absl::StrAppendFormat(&line, "  %s %.4f%s", row.variant, row.loss, IntervalText(row.interval));
  }
  return text + (line.empty() ? "" : line + "\n");
}

nlohmann::ordered_json LadderJson(const LadderState& state) {
  const LadderCost cost = CostOf(state);
  const bool priced = state.ladder.machine().has_price_per_device_hour();
  Json json = {{"name", state.ladder.name()}, {"law", LadderLawName_Name(state.ladder.law().name())}, {"rungs", Json::array()}};
  for (size_t i = 0; i < state.rungs.size(); ++i) json["rungs"].push_back(RungJson(state.rungs[i], state.results[i]));
  json["spent_hours"] = cost.spent_seconds / kHour;
  json["left_hours"] = cost.left_seconds / kHour;
  json["spent_dollars"] = priced ? Json(cost.spent_dollars) : Json();
  json["left_dollars"] = priced ? Json(cost.left_dollars) : Json();
  if (const std::vector<LadderPoint> points = PointsOf(state.rungs, state.results); !points.empty())
    AddResults(state, points, json);
  return json;
}

std::string LadderCsv(const LadderState& state) {
  std::string text =
      "rung,variant,size,seed,tokens_factor,held_out,parameters,total_parameters,tokens,flops,learning_rate,batch_tokens,steps,"
      "foretold_seconds,loss,bits_per_byte,seconds,device_hours,dollars\n";
  for (size_t i = 0; i < state.rungs.size(); ++i) {
    const Rung& rung = state.rungs[i];
    const auto& result = state.results[i];
    absl::StrAppendFormat(&text, "%s,%s,%s,%d,%g,%d,%.0f,%.0f,%.0f,%.6g,%.6g,%d,%d,%.6g", rung.name, rung.variant, rung.size,
                          rung.seed, rung.tokens_factor, rung.held_out, rung.parameters, rung.total_parameters, rung.tokens,
                          rung.flops(), rung.config.optimizer().learning_rate().peak(),
                          rung.config.train().batch_sequences() * rung.config.data().sequence_length(),
                          rung.config.train().steps(), rung.seconds);
    if (result) {
      absl::StrAppendFormat(&text, ",%.17g,%.17g,%.6g,%.6g,%s\n", result->loss, result->bits_per_byte, result->seconds,
                            result->device_hours, result->dollars ? absl::StrFormat("%.6g", *result->dollars) : "");
    } else {
      text += ",,,,,\n";
    }
  }
  return text;
}

}  // namespace jevons
