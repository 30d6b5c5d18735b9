#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "trainer/model/model.h"

namespace jevons {
namespace {

size_t IndexOf(const WeightStore& store, const std::string& name) {
  const auto& specs = store.specs();
  for (size_t p = 0; p < specs.size(); ++p)
    if (specs[p].name == name) return p;
  JEVONS_CHECK(false, "the parameter table has no %s", name.c_str());
  return 0;
}

}  // namespace

bool InFp8(ModelPart part, const PrecisionConfig& precision) {
  const auto said = [&](bool has, ProductType type) { return (has ? type : precision.gemm()) == FP8_BLOCK; };
  switch (part) {
    case ModelPart::kAttention: return said(precision.has_attention(), precision.attention());
    case ModelPart::kDenseFfn: return said(precision.has_dense_ffn(), precision.dense_ffn());
    case ModelPart::kSharedExperts: return said(precision.has_shared_experts(), precision.shared_experts());
    case ModelPart::kRoutedExperts: return said(precision.has_routed_experts(), precision.routed_experts());
    case ModelPart::kEmbedding:
    case ModelPart::kNorm:
    case ModelPart::kRouter:
    case ModelPart::kMtpProjection:  // in BF16 in the published files, too
    case ModelPart::kHead: break;
  }
  return false;
}

ProductPlan PlanOf(const ParamSpec& spec, const PrecisionConfig& precision) {
  ProductPlan plan{.fp8 = InFp8(spec.part, precision)};
  if (!plan.fp8) return plan;
  if (precision.gradient_tiles() == BLOCKS_128X128) plan.dy_tiling = Tiling::kBlocks128x128;
  plan.promote = precision.promote();
  if (spec.part == ModelPart::kAttention && absl::StrContains(spec.name, "o_proj")) plan.x = ScaleKind::kPowerOfTwo;
  if (spec.part == ModelPart::kRoutedExperts)
    (absl::StrContains(spec.name, "down_proj") ? plan.dy : plan.x) = ScaleKind::kPowerOfTwo;
  return plan;
}

void WeightBinding::Bind(const WeightStore& store, const std::string& name, Weight& weight) {
  const size_t param = IndexOf(store, name);
  ++bound_;
  if (!store.holds(param)) return;
  weight.value = store.value(param);
  weight.plan = PlanOf(store.specs()[param], precision_);
  if (weight.plan.fp8) weight.fp8 = Codes(weight.value);
  dense_.emplace_back(param, &weight);
}

void WeightBinding::Bind(const WeightStore& store, const std::string& name, ExpertWeight& weight) {
  const size_t param = IndexOf(store, name);
  ++bound_;
  if (!store.holds(param)) return;
  weight.value = store.value(param);
  weight.plan = PlanOf(store.specs()[param], precision_);
  for (int64_t e = 0; weight.plan.fp8 && e < weight.value.shape[0]; ++e) weight.fp8.push_back(Codes(weight.value.Index(e)));
  experts_.emplace_back(param, &weight);
}

int64_t WeightBinding::BytesOf(const ModelConfig& model, int64_t local_experts, const PrecisionConfig& precision, Device backend,
                               const HeldLayers& held) {
  int64_t bytes = 0;
  for (const ParamSpec& spec : ParameterTable(model)) {
    if (!PlanOf(spec, precision).fp8 || (held && !held(spec.layer))) continue;
    bytes += (spec.expert ? local_experts : 1) * Fp8WeightBytes(backend, spec.shape[spec.shape.rank - 2], spec.shape.cols());
  }
  return bytes;
}

Fp8Weight WeightBinding::Codes(const Tensor& value) { return AllocateFp8Weight(codes_, backend_, value.rows(), value.cols()); }

void WeightBinding::Quantize(const OpContext& ops, QuantStats* lost) {
  std::vector<QuantizeWeightDesc> descs;
  for (const auto& [param, weight] : dense_)
    if (weight->plan.fp8 && weight->value) descs.push_back({weight->value, weight->fp8});
  for (const auto& [param, weight] : experts_)
    for (size_t e = 0; e < weight->fp8.size() && weight->value; ++e)
      descs.push_back({weight->value.Index(static_cast<int64_t>(e)), weight->fp8[e]});
  QuantizeWeights(ops, descs, lost);
}

void WeightBinding::Quantize(const OpContext& ops, std::span<const PassingWeight> weights, QuantStats* lost) {
  std::vector<QuantizeWeightDesc> descs;
  for (const PassingWeight& passing : weights) {
    const auto same = [&](const auto& bound) { return bound.first == passing.param; };
    if (const auto dense = std::find_if(dense_.begin(), dense_.end(), same); dense != dense_.end()) {
      descs.push_back({passing.value.Reshape(dense->second->value.shape), dense->second->fp8});
      continue;
    }
    const ExpertWeight& stack = *std::find_if(experts_.begin(), experts_.end(), same)->second;
    const int64_t whole = passing.local_expert < 0, count = whole != 0 ? stack.value.shape[0] : 1,
                  first = whole != 0 ? 0 : passing.local_expert;
    const Tensor values = passing.value.Reshape({count, stack.value.shape[1], stack.value.shape[2]});
    for (int64_t i = 0; i < count; ++i) descs.push_back({values.Index(i), stack.fp8[static_cast<size_t>(first + i)]});
  }
  QuantizeWeights(ops, descs, lost);
}

std::vector<Tensor> WeightBinding::CodesOf(size_t param, int64_t local_expert) const {
  std::vector<Tensor> codes;
  const auto add = [&](const Fp8Weight& weight) {
    for (const Fp8Operand* operand : {&weight.plain, &weight.turned})
      if (operand->codes) codes.insert(codes.end(), {operand->codes, operand->scales});
  };
  for (const auto& [bound, weight] : dense_)
    if (bound == param && weight->plan.fp8) add(weight->fp8);
  for (const auto& [bound, stack] : experts_)
    if (bound == param && stack->plan.fp8) add(stack->fp8[static_cast<size_t>(local_expert)]);
  return codes;
}

void WeightBinding::BindBlock(const ModelConfig& model, const WeightStore& store, const std::string& prefix, bool dense,
                              BlockWeights& block) {
  auto bind = [&](const char* name, auto& weight) { Bind(store, absl::StrCat(prefix, name), weight); };
  bind("input_layernorm.weight", block.input_norm);
  if (model.attention().query_rank() > 0) {
    bind("self_attn.q_a_proj.weight", block.attention.q_a);
    bind("self_attn.q_a_layernorm.weight", block.attention.q_a_norm);
    bind("self_attn.q_b_proj.weight", block.attention.q_b);
  } else {
    bind("self_attn.q_proj.weight", block.attention.q);
  }
  bind("self_attn.kv_a_proj_with_mqa.weight", block.attention.kv_a);
  bind("self_attn.kv_a_layernorm.weight", block.attention.kv_a_norm);
  bind("self_attn.kv_b_proj.weight", block.attention.kv_b);
  bind("self_attn.o_proj.weight", block.attention.o);
  bind("post_attention_layernorm.weight", block.post_attention_norm);
  if (dense) {
    bind("mlp.gate_up_proj.weight", block.ffn.gate_up);
    bind("mlp.down_proj.weight", block.ffn.down);
    return;
  }
  bind("mlp.gate.weight", block.moe.gate);
  block.moe.bias = store.bias(next_bias_++);
  if (model.moe().shared_experts() > 0) {
    bind("mlp.shared_experts.gate_up_proj.weight", block.moe.shared.gate_up);
    bind("mlp.shared_experts.down_proj.weight", block.moe.shared.down);
  }
  bind("mlp.experts.gate_up_proj.weight", block.moe.gate_up);
  bind("mlp.experts.down_proj.weight", block.moe.down);
}

WeightBinding::WeightBinding(const ModelConfig& model, const WeightStore& store, const PrecisionConfig& precision)
    : precision_(precision),
      backend_(store.backend()),
      codes_("weight codes",
             std::max<int64_t>(1, BytesOf(model, store.experts().size(), precision, store.backend(), store.held())),
             store.device()) {
  const int64_t layers = model.layers(), depth = model.mtp().depth();
  weights_.blocks.resize(static_cast<size_t>(layers));
  weights_.mtp.resize(static_cast<size_t>(depth));
  Bind(store, "model.embed_tokens.weight", weights_.embedding);
  for (int64_t i = 0; i < layers; ++i)
    BindBlock(model, store, absl::StrCat("model.layers.", i, "."), i < model.dense_layers(),
              weights_.blocks[static_cast<size_t>(i)]);
  Bind(store, "model.norm.weight", weights_.final_norm);
  Bind(store, "lm_head.weight", weights_.head);
  for (int64_t k = 0; k < depth; ++k) {
    MtpWeights& mtp = weights_.mtp[static_cast<size_t>(k)];
    const std::string prefix = absl::StrCat("model.layers.", layers + k, ".");
    Bind(store, prefix + "enorm.weight", mtp.embedding_norm);
    Bind(store, prefix + "hnorm.weight", mtp.hidden_norm);
    Bind(store, prefix + "eh_proj.weight", mtp.projection);
    BindBlock(model, store, prefix, false, mtp.block);
    Bind(store, prefix + "shared_head.norm.weight", mtp.out_norm);
  }
  JEVONS_CHECK(bound_ == store.specs().size(), "a parameter of the table is bound to no layer");
}

void WeightBinding::BindGradients(const GradientStore& gradients) {
  for (auto& [param, weight] : dense_) weight->grad = gradients.Dense(param);
  for (auto& [param, weight] : experts_) {
    weight->grad.clear();
    for (int64_t e = 0; e < weight->value.shape[0]; ++e) weight->grad.push_back(gradients.Expert(param, e));
  }
}

}  // namespace jevons
