#include "trainer/spec/flops.h"

#include "absl/strings/str_format.h"
#include "trainer/spec/params.h"

namespace jevons {
namespace {

constexpr double kForwardAndBackward = 3;  // the gradients of both factors of a product cost one more product each

// Forward FLOPs of the products with all parameters of one part.
double ProductFlops(const std::vector<ParamSpec>& table, ModelPart part, bool mtp, int64_t layers) {
  double flops = 0;
  for (const ParamSpec& spec : table) {
    if (spec.part == part && (spec.layer > layers) == mtp) flops += 2.0 * static_cast<double>(spec.active);
  }
  return flops;
}

// Scores and weighted sum of one layer's attention.
double CoreFlops(const AttentionConfig& attention, int64_t sequence_length, CoreCount core) {
  const double keys =
      core == CoreCount::kCausal ? (static_cast<double>(sequence_length) + 1) / 2 : static_cast<double>(sequence_length);
  const double width = attention.nope_dim() + attention.rope_dim() + attention.value_dim();
  return 2 * static_cast<double>(attention.heads()) * width * keys;
}

}  // namespace

double FlopCount::forward() const {
  double sum = 0;
  for (const FlopTerm& term : terms) sum += term.forward;
  return sum;
}

double FlopCount::training() const { return kForwardAndBackward * forward(); }

double FlopCount::training_without_mtp() const {
  double sum = 0;
  for (const FlopTerm& term : terms) sum += term.mtp ? 0 : term.forward;
  return kForwardAndBackward * sum;
}

FlopCount CountFlops(const ModelConfig& model, int64_t sequence_length, CoreCount core) {
  const std::vector<ParamSpec> table = ParameterTable(model);
  const double core_flops = CoreFlops(model.attention(), sequence_length, core);
  const double modules = static_cast<double>(model.mtp().depth());
  const double head = ProductFlops(table, ModelPart::kHead, /*mtp=*/false, model.layers());
  FlopCount count;
  const auto add = [&](const char* name, double forward, bool mtp) { count.terms.push_back({name, forward, mtp}); };
  add("embedding", 0, false);  // a look-up
  for (const bool mtp : {false, true}) {
    const std::string prefix = mtp ? "MTP " : "";
    const auto products = [&](const char* name, ModelPart part) {
      add((prefix + name).c_str(), ProductFlops(table, part, mtp, model.layers()), mtp);
    };
    if (mtp) products("projection", ModelPart::kMtpProjection);
    products("attention projections", ModelPart::kAttention);
    add((prefix + "attention core").c_str(), core_flops * (mtp ? modules : static_cast<double>(model.layers())), mtp);
    if (!mtp) products("dense FFN", ModelPart::kDenseFfn);
    products("router", ModelPart::kRouter);
    products("shared experts", ModelPart::kSharedExperts);
    products("routed experts", ModelPart::kRoutedExperts);
    add((prefix + "head").c_str(), mtp ? head * modules : head,
        mtp);  // each module goes through the shared head
  }
  return count;
}

std::string FlopTable(const ModelConfig& model, int64_t sequence_length) {
  const FlopCount causal = CountFlops(model, sequence_length, CoreCount::kCausal);
  const FlopCount full = CountFlops(model, sequence_length, CoreCount::kFull);
  std::string table = absl::StrFormat("%-28s %16s %16s\n", "MFLOP per token", "forward", "training");
  for (const FlopTerm& term : causal.terms) {
    absl::StrAppendFormat(&table, "%-28s %16.3f %16.3f\n", term.name, term.forward / 1e6,
                          kForwardAndBackward * term.forward / 1e6);
  }
  const auto sum = [&](const char* name, double training) {
    absl::StrAppendFormat(&table, "%-28s %16.3f %16.3f\n", name, training / kForwardAndBackward / 1e6, training / 1e6);
  };
  sum("total causal, without MTP", causal.training_without_mtp());
  sum("total causal", causal.training());
  sum("total full, without MTP", full.training_without_mtp());
  sum("total full", full.training());
  absl::StrAppendFormat(&table, "sequence length %d: %.4g GFLOP per token causal, %.4g full (without MTP)\n", sequence_length,
                        causal.training_without_mtp() / 1e9, full.training_without_mtp() / 1e9);
  return table;
}

}  // namespace jevons
