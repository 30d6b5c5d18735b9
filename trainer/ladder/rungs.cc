#include "trainer/ladder/rungs.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/overrides.h"
#include "configs/validate.h"
#include "kernels/base/status.h"
#include "trainer/ladder/laws.h"
#include "trainer/spec/flops.h"
#include "trainer/spec/params.h"
#include "trainer/spec/schedules.h"

namespace jevons {
namespace {

using Strings = google::protobuf::RepeatedPtrField<std::string>;

absl::Status ApplyAll(const Strings& assignments, const std::string& field, RunConfig& config) {
  for (const std::string& assignment : assignments) JEVONS_RETURN_IF_ERROR(Annotate(ApplyOverride(assignment, config), field));
  return absl::OkStatus();
}

// The model and data of a rung, without what the law adds.
absl::StatusOr<RunConfig> ModelOf(const LadderConfig& ladder, int size, int variant, const RunConfig& base) {
  RunConfig config = base;
  JEVONS_RETURN_IF_ERROR(ApplyAll(ladder.set(), "set", config));
  JEVONS_RETURN_IF_ERROR(ApplyAll(ladder.variant(variant).set(), absl::StrCat("variant[", variant, "].set"), config));
  JEVONS_RETURN_IF_ERROR(ApplyAll(ladder.size(size).set(), absl::StrCat("size[", size, "].set"), config));
  ModelConfig& model = *config.mutable_model();
  const LadderVariant& v = ladder.variant(variant);
  if (v.experts() > 0) model.mutable_moe()->set_routed_experts(v.experts());
  if (v.has_experts() && v.experts() == 0) model.set_dense_layers(model.layers());
  if (ladder.machine().has_price_per_device_hour())
    config.mutable_cost()->set_price_per_device_hour(ladder.machine().price_per_device_hour());
  return config;
}

// That every number is legal, before any is computed with. The law sets what is not there yet.
absl::Status CheckModel(RunConfig config, std::span<const std::string> overrides) {
  ApplyRecipe({.tokens = 1, .batch_tokens = 1, .learning_rate = 1}, config);
  for (const std::string& assignment : overrides) JEVONS_RETURN_IF_ERROR(ApplyOverride(assignment, config));
  JEVONS_RETURN_IF_ERROR(ValidationStatus(config, /*world_size=*/0));
  if (config.model().vocab_size() == 0)
    return UsageError(
        "model.vocab_size = 0: the data decides, and rungs are planned without it; add set: \"model.vocab_size=2048\"");
  return absl::OkStatus();
}

absl::StatusOr<Rung> MakeRung(const LadderConfig& ladder, const RunConfig& model, Rung rung, const LadderSize& size,
                              const LadderVariant& variant, std::span<const std::string> overrides) {
  rung.config = model;
  for (const std::string& assignment : overrides) JEVONS_RETURN_IF_ERROR(ApplyOverride(assignment, rung.config));
  const LadderModel seen = LadderModelOf(rung.config.model(), rung.config.data().sequence_length());
  ApplyRecipe(RecipeOf(ladder.law(), seen, rung.tokens_factor), rung.config);
  rung.config.mutable_train()->set_seed(rung.seed);
  rung.config.mutable_data()->set_seed(rung.seed);
  for (const std::string& assignment : overrides) JEVONS_RETURN_IF_ERROR(ApplyOverride(assignment, rung.config));
  JEVONS_RETURN_IF_ERROR(ValidationStatus(rung.config, /*world_size=*/0));
  const FlopCount flops = CountFlops(rung.config.model(), rung.config.data().sequence_length(), CoreCount::kCausal);
  rung.parameters = seen.parameters;
  rung.total_parameters = static_cast<double>(CountParameters(rung.config.model()).total);
  rung.flops_per_token = flops.training();
  rung.tokens = RunSchedule(rung.config).total_tokens();
  rung.seconds = rung.flops() * variant.slowdown() / (size.gflops() * 1e9);
  if (ladder.machine().has_price_per_device_hour())
    rung.dollars = rung.seconds / 3600 * ladder.machine().devices() * ladder.machine().price_per_device_hour();
  return rung;
}

}  // namespace

absl::StatusOr<std::vector<Rung>> PlanRungs(const LadderConfig& ladder, const RunConfig& base,
                                            std::span<const std::string> overrides) {
  std::vector<Rung> rungs;
  for (int s = 0; s < ladder.size_size(); ++s) {
    const LadderSize& size = ladder.size(s);
    const std::vector<double> factors = size.tokens_factor().empty()
                                            ? std::vector{1.0}
                                            : std::vector<double>(size.tokens_factor().begin(), size.tokens_factor().end());
    const std::vector<uint64_t> seeds =
        size.seed().empty() ? std::vector{uint64_t{1}} : std::vector<uint64_t>(size.seed().begin(), size.seed().end());
    for (int v = 0; v < ladder.variant_size(); ++v) {
      const LadderVariant& variant = ladder.variant(v);
      JEVONS_ASSIGN_OR_RETURN(const RunConfig model, ModelOf(ladder, s, v, base));
      const std::string name = absl::StrCat(variant.name(), "-", size.name());
      JEVONS_RETURN_IF_ERROR(Annotate(CheckModel(model, overrides), name));
      for (const double factor : factors) {
        const std::string group = factor == 1 ? name : absl::StrFormat("%s-x%g", name, factor);
        for (const uint64_t seed : seeds) {
          Rung rung{.name = absl::StrCat(group, "-seed", seed),
                    .group = group,
                    .variant = variant.name(),
                    .size = size.name(),
                    .seed = seed,
                    .tokens_factor = factor,
                    .held_out = s + 1 == ladder.size_size(),
                    .config = {}};
          absl::StatusOr<Rung> made = MakeRung(ladder, model, std::move(rung), size, variant, overrides);
          if (!made.ok()) return Annotate(made.status(), group);
          rungs.push_back(*std::move(made));
        }
      }
    }
  }
  return rungs;
}

absl::StatusOr<std::optional<RungResult>> ReadRungResult(const Rung& rung, const std::string& folder) {
  const std::string path = folder + "/summary.json";
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  // None yet, torn by a kill, or of a run that was shorter then: the rung is run, and writes it anew.
  if (!json.is_object() || json.value("steps", int64_t{0}) != rung.config.train().steps()) return std::nullopt;
  const auto number = [&](const char* name) {
    return json.contains(name) && json[name].is_number() ? json[name].get<double>() : 0.0;
  };
  RungResult result{.tokens = number("tokens"),
                    .loss = number("last_validation_loss"),
                    .bits_per_byte = number("bits_per_byte"),
                    .device_hours = number("device_hours")};
  if (!(result.loss > 0))
    return IntegrityError(absl::StrFormat(
        "%s: has no validation loss, which rungs are compared by; make the data with `jevons prepare --validation-fraction 0.05`",
        path));
  result.seconds = 3600 * result.device_hours / std::max(number("devices"), 1e-9);
  if (json.contains("dollars") && json["dollars"].is_number()) result.dollars = json["dollars"].get<double>();
  return result;
}

}  // namespace jevons
