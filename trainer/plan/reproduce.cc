#include "trainer/plan/reproduce.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;
constexpr double kPostTrainingHours = 5e3;
// Fitted on the line it is used for: how much attention the busiest context rank has, relative to the mean. The layout of the
// extension is unpublished; 1 is a context dealt evenly, 2 one that lies in order.
constexpr double kContextImbalance = 1.56;

// GPU hours of the two phases that extend the context: 1000 steps each of 1920 sequences of 32K and 480 of 128K (report, 4.3).
// The context is split until a GPU has as many tokens as before.
absl::StatusOr<double> ExtensionHours(const Plan& pretraining, double imbalance, const Constants& constants) {
  constexpr struct { int64_t length, batch, steps; } kPhases[] = {{32768, 1920, 1000}, {131072, 480, 1000}};
  double hours = 0;
  for (const auto& phase : kPhases) {
    Layout layout = pretraining.layout;
    layout.sequence = phase.length;
    layout.batch = phase.batch;
    layout.cp = phase.length / pretraining.layout.sequence;
    layout.context_imbalance = imbalance;
    JEVONS_ASSIGN_OR_RETURN(const Plan plan, MakePlan(pretraining.model, layout, pretraining.cluster, constants));
    hours += plan.step_seconds * static_cast<double>(phase.steps * layout.gpus) / 3600;
  }
  return hours;
}

absl::Status AddHours(const RunConfig& config, const Constants& constants, Claim& claim) {
  const Plan& plan = claim.plan;
  const double training = plan.gpu_hours(RunTokens(config));
  JEVONS_ASSIGN_OR_RETURN(const double extension, ExtensionHours(plan, kContextImbalance, constants));
  JEVONS_ASSIGN_OR_RETURN(const double even, ExtensionHours(plan, 1, constants));
  JEVONS_ASSIGN_OR_RETURN(const double in_order, ExtensionHours(plan, 2, constants));
  const std::string split = absl::StrFormat(
      "FITTED: its layout is unpublished; %.0fK with the context dealt evenly, %.0fK in order, here %.2f of the mean", even / 1e3,
      in_order / 1e3, kContextImbalance);
  const std::string equal = absl::StrFormat("NOT PREDICTED: its tokens are unpublished; 5K hours are those of %.1fB tokens",
                                            kPostTrainingHours * 3600 * plan.tokens_per_second_per_gpu() / 1e9);
  claim.hours = {{"pre-training", "K GPU h", 2664, training / 1e3, ""},
                 {"context extension", "K GPU h", 119, extension / 1e3, split},
                 {"post-training", "K GPU h", 5, kPostTrainingHours / 1e3, equal}};
  const double sum = training + extension + kPostTrainingHours;
  claim.hours.push_back({"total", "K GPU h", 2788, sum / 1e3, ""});
  claim.hours.push_back({"total", "$M", 5.576, sum * plan.cluster.hour().dollars_per_gpu() / 1e6, ""});
  return absl::OkStatus();
}

void AddStep(Claim& claim) {
  const Plan& plan = claim.plan;
  const StepLines& lines = plan.lines;
  claim.step = {{"time per step", "s", 19.926, plan.step_seconds, "one constant is fitted on it: unevenness"},
                {"1F", "s", 1.13, lines.forward, ""},
                {"bubble", "s", 2.06, lines.bubble, "with waiting for the slowest pipeline"},
                {"1B", "s", 1.99, lines.backward, "whole backward passes counted here where the schedule does not part them"},
                {"1W", "s", 0.48, lines.weight, ""},
                {"1F1B", "s", 13.95, lines.overlapped, ""},
                {"opt", "s", 0.29, lines.optimizer, ""},
                {"tokens per day", "B", 272.80, plan.tokens_per_second() * 86400 / 1e9, ""},
                {"MFU causal", "%", 38.94, 100 * plan.mfu(true), ""},
                {"MFU non-causal", "%", 43.73, 100 * plan.mfu(false), ""}};
}

// A dense model as good by a rule of thumb: as many parameters as the geometric mean of all and active ones, 157B.
ModelShape DenseOfEqualLoss() {
  constexpr int64_t kHidden = 12288, kKeysAndValues = 2 * 1024;
  return {.name = "dense 158B",
          .hidden = kHidden,
          .vocab = 129280,
          .layers = 92,
          .dense_layers = 92,
          .mtp_modules = 0,
          .attention = {{.n = kHidden + kKeysAndValues, .k = kHidden}, {.n = kHidden, .k = kHidden}},
          .heads = 96,
          .qk_dim = 128,
          .v_dim = 128,
          .query_width = kHidden,
          .kv_width = kKeysAndValues,
          .latent_width = 0,
          .dense_width = 3 * kHidden};
}

void AddVariant(const std::string& name, const ModelShape& model, const Layout& layout, const ClusterConfig& cluster,
                const Constants& constants, double tokens, Claim& claim) {
  ClaimVariant variant{.name = name, .status = {}};
  const absl::StatusOr<Plan> plan = MakePlan(model, layout, cluster, constants);
  variant.status = plan.status();
  if (plan.ok()) {
    variant.gpu_hours = plan->gpu_hours(tokens);
    variant.dollars = plan->dollars(tokens);
    variant.memory_gib = plan->memory[plan->fullest].total() / kGiB;
    variant.fits = plan->fits();
  }
  claim.variants.push_back(variant);
}

void AddVariants(const RunConfig& config, const ClusterConfig& cluster, const ClusterConfig& h100, const Constants& constants,
                 Claim& claim) {
  const ModelShape& model = claim.plan.model;
  const Layout base = claim.plan.layout;
  const double tokens = RunTokens(config);
  const auto add = [&](const std::string& name, const ModelShape& shape, const Layout& layout, const ClusterConfig& where) {
    AddVariant(name, shape, layout, where, constants, tokens, claim);
  };
  add("as published", model, base, cluster);
  Layout l = base;
  l.precision = Precision::kBf16;
  add("BF16 products, dispatch and caches", model, l, cluster);
  l = base;
  l.overlap = false;
  add("no overlap of communication", model, l, cluster);
  l = base;
  l.limit_nodes = false;
  add("tokens to any node", model, l, cluster);
  l = base;
  l.schedule = ScheduleKind::k1F1B;
  l.overlap = false;
  add("plain 1F1B, no overlap", model, l, cluster);
  l.schedule = ScheduleKind::kZBH1;
  add("zero-bubble H1, no overlap", model, l, cluster);
  ModelShape without = model;
  without.mtp_modules = 0;
  l = base;
  l.cut.clear();  // the published one makes room for the module
  add("without the MTP module", without, l, cluster);
  l.ep = 1;
  l.tp = 8;
  l.pp = 8;
  l.schedule = ScheduleKind::k1F1B;
  add("dense model of equal loss, 158B (rule of thumb), TP8 PP8", DenseOfEqualLoss(), l, cluster);
  ClusterConfig other = h100;
  other.set_gpus(cluster.gpus());
  *other.mutable_hour() = cluster.hour();
  add("H100 (NVLink of 450 GB/s) at the same price", model, base, other);
  other = cluster;
  other.mutable_network()->set_gbs(cluster.network().gbs() / 2);
  add("half the network", model, base, other);
  for (const double price : {1.0, 3.0, 4.0}) {
    other = cluster;
    other.mutable_hour()->set_dollars_per_gpu(price);
    add(absl::StrFormat("$%.0f per GPU hour", price), model, base, other);
  }
}

}  // namespace

absl::StatusOr<Claim> ReproduceDeepSeekV3(const RunConfig& config, const ClusterConfig& cluster, const ClusterConfig& h100,
                                          const Constants& constants) {
  Claim claim;
  JEVONS_ASSIGN_OR_RETURN(const Layout layout, CutLayoutOf(config, cluster.gpus()));
  JEVONS_ASSIGN_OR_RETURN(claim.plan, MakePlan(ShapeOf(config.model()), layout, cluster, constants));
  JEVONS_RETURN_IF_ERROR(AddHours(config, constants, claim));
  AddStep(claim);
  AddVariants(config, cluster, h100, constants, claim);
  return claim;
}

std::string ClaimText(const Claim& claim) {
  const auto table = [](const std::vector<ClaimLine>& lines) {
    std::string text = absl::StrFormat("%-20s %-8s %10s %10s %7s\n", "", "", "published", "predicted", "error");
    for (const ClaimLine& line : lines)
      absl::StrAppendFormat(&text, "%-20s %-8s %10.5g %10.5g %+6.1f%%  %s\n", line.name, line.unit, line.published,
                            line.predicted, 100 * line.error(), line.note);
    return text;
  };
  std::string text = absl::StrFormat(
      "DeepSeek-V3 on %d %s: %s\n\nDeepSeek-V3 report, table 1, at $%.4g per GPU hour\n%s\narXiv 2505.09343, table 4\n%s",
      claim.plan.layout.gpus, claim.plan.cluster.name(), claim.plan.layout.ToString(),
      claim.plan.cluster.hour().dollars_per_gpu(), table(claim.hours), table(claim.step));
  text += "\npre-training, what if                                        K GPU h      $M  change      GiB\n";
  for (const ClaimVariant& v : claim.variants) {
    if (!v.status.ok()) {
      absl::StrAppendFormat(&text, "%-58s cannot be: %s\n", v.name, v.status.message());
      continue;
    }
    absl::StrAppendFormat(&text, "%-58s %9.0f %7.3f %+6.1f%% %8.1f%s\n", v.name, v.gpu_hours / 1e3, v.dollars / 1e6,
                          100 * (v.dollars / claim.variants[0].dollars - 1), v.memory_gib, v.fits ? "" : "  does not fit");
  }
  const Goodput goodput = EstimateGoodput(claim.plan);
  absl::StrAppendFormat(
      &text,
      "\nNot in the headline: failures and checkpoints (goodput %.1f%%, by the cluster's table), the batch ramp (steps are taken "
      "at\n"
      "full size), experiments before the run (3.3 to 10 times its cost by one estimate), buying instead of renting.\n"
      "Kernels are fitted on published kernel tables and one trace; `unevenness` alone is fitted on the step's 19.926 s.\n",
      100 * goodput.useful());
  return text;
}

nlohmann::ordered_json ClaimJson(const Claim& claim) {
  using Json = nlohmann::ordered_json;
  Json json = {{"layout", claim.plan.layout.ToString()}, {"goodput", EstimateGoodput(claim.plan).useful()}};
  const auto lines = [](const std::vector<ClaimLine>& from) {
    Json list = Json::array();
    for (const ClaimLine& line : from) {
      list.push_back({{"name", line.name},
                      {"unit", line.unit},
                      {"published", line.published},
                      {"predicted", line.predicted},
                      {"error", line.error()},
                      {"note", line.note}});
    }
    return list;
  };
  json["hours"] = lines(claim.hours);
  json["step"] = lines(claim.step);
  json["variants"] = Json::array();
  for (const ClaimVariant& v : claim.variants) {
    json["variants"].push_back(v.status.ok() ? Json{{"name", v.name},
                                                    {"gpu_hours", v.gpu_hours},
                                                    {"dollars", v.dollars},
                                                    {"memory_gib", v.memory_gib},
                                                    {"fits", v.fits}}
                                             : Json{{"name", v.name}, {"error", std::string(v.status.message())}});
  }
  return json;
}

}  // namespace jevons
