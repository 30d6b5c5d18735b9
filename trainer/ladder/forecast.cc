#include "trainer/ladder/forecast.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

using Json = nlohmann::ordered_json;

constexpr Resampling kResamplings[] = {Resampling::kSeeds, Resampling::kRungs, Resampling::kNone};

Forecast Foretell(const Rung& rung, int runs, const std::string& law, const absl::StatusOr<LossFit>& fit,
                  const std::vector<double>& x) {
  Forecast forecast{.group = rung.group, .law = law, .loss = {}};
  if (!fit.ok()) {
    forecast.refusal = std::string(fit.status().message());
    return forecast;
  }
  forecast.loss = fit->law.At(x);
  forecast.interval = IntervalOfRuns(*fit, x, runs);
  forecast.resampling = fit->resampling;
  return forecast;
}

}  // namespace

std::string ResamplingName(Resampling resampling) {
  switch (resampling) {
    case Resampling::kSeeds: return "seeds";
    case Resampling::kRungs: return "rungs";
    case Resampling::kNone: return "none";
  }
  return "";
}

std::vector<Forecast> ForecastsOf(std::span<const Rung> rungs, std::span<const LadderPoint> points, double asymptote) {
  const std::optional<SeedNoise> noise = NoiseOf(points);
  std::vector<Forecast> forecasts;
  for (size_t i = 0; i < rungs.size(); ++i) {
    const Rung& rung = rungs[i];
    if (!rung.held_out || (i > 0 && rungs[i - 1].group == rung.group)) continue;
    const auto runs =
        static_cast<int>(std::count_if(rungs.begin(), rungs.end(), [&](const Rung& other) { return other.group == rung.group; }));
    for (const bool pinned : {true, false}) {
      const auto E = pinned ? std::optional(asymptote) : std::nullopt;
      const std::string kind = pinned ? ", pinned" : ", free";
      if (rung.tokens_factor == 1)
        forecasts.push_back(
            Foretell(rung, runs, "L(C)" + kind, FitAlong(LadderAxis::kFlops, points, rung.variant, E, noise), {rung.flops()}));
      forecasts.push_back(Foretell(rung, runs, "L(N,D)" + kind, FitSizesAndTokens(points, rung.variant, E, noise),
                                   {rung.parameters, rung.tokens}));
    }
  }
  return forecasts;
}

std::string ForecastsJson(std::span<const Forecast> forecasts) {
  Json json = Json::array();
  for (const Forecast& forecast : forecasts) {
    Json entry = {{"group", forecast.group}, {"law", forecast.law}, {"loss", forecast.loss ? Json(*forecast.loss) : Json()}};
    if (forecast.interval) entry["interval"] = {forecast.interval->low, forecast.interval->high};
    if (forecast.loss) entry["interval_from"] = ResamplingName(forecast.resampling);
    if (!forecast.refusal.empty()) entry["refusal"] = forecast.refusal;
    json.push_back(entry);
  }
  return json.dump(2) + "\n";
}

absl::StatusOr<std::vector<Forecast>> ParseForecasts(const std::string& text, const std::string& name) {
  const absl::Status damaged = IntegrityError(
      absl::StrFormat("%s: is not what a ladder has foretold; if the held-out rungs are not run yet, remove it", name));
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_array()) return damaged;
  std::vector<Forecast> forecasts;
  for (const Json& entry : json) {
    const auto is_text = [&](const char* key) { return entry.contains(key) && entry[key].is_string(); };
    if (!entry.is_object() || !is_text("group") || !is_text("law")) return damaged;
    Forecast forecast{.group = entry["group"], .law = entry["law"], .loss = {}};
    if (entry.contains("loss") && entry["loss"].is_number()) forecast.loss = entry["loss"].get<double>();
    if (const auto interval = entry.find("interval"); interval != entry.end()) {
      if (!interval->is_array() || interval->size() != 2 || !(*interval)[0].is_number() || !(*interval)[1].is_number())
        return damaged;
      forecast.interval = LawInterval{.low = (*interval)[0].get<double>(), .high = (*interval)[1].get<double>()};
    }
    for (const Resampling resampling : kResamplings)
      if (is_text("interval_from") && entry["interval_from"] == ResamplingName(resampling)) forecast.resampling = resampling;
    if (is_text("refusal")) forecast.refusal = entry["refusal"];
    forecasts.push_back(std::move(forecast));
  }
  return forecasts;
}

}  // namespace jevons
