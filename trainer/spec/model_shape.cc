#include "trainer/spec/model_shape.h"

#include "trainer/spec/params.h"

namespace jevons {

int64_t ModelShape::attention_parameters() const {
  int64_t sum = 0;
  for (const Projection& product : attention) sum += product.parameters();
  return sum;
}

double ModelShape::total_parameters() const {
  const double moe_layer = static_cast<double>(experts * expert_parameters() + shared_parameters() + experts * hidden);
  return static_cast<double>(layers * attention_parameters() + dense_layers * dense_parameters()) +
         static_cast<double>(layers - dense_layers) * moe_layer + 2.0 * static_cast<double>(head_parameters());
}

double ModelShape::active_parameters() const {
  const double moe_layer = static_cast<double>(top_k * expert_parameters() + shared_parameters() + experts * hidden);
  return static_cast<double>(layers * attention_parameters() + dense_layers * dense_parameters()) +
         static_cast<double>(layers - dense_layers) * moe_layer + static_cast<double>(head_parameters());
}

double ModelShape::flops_per_token(int64_t sequence, bool causal) const {
  const auto length = static_cast<double>(sequence);
  const double keys = causal ? (length + 1) / 2 : length;
  const double core = 2.0 * static_cast<double>(heads * (qk_dim + v_dim)) * keys * static_cast<double>(layers);
  return 3 * (2 * active_parameters() + core);
}

ModelShape ShapeOf(const ModelConfig& model) {
  const AttentionConfig& a = model.attention();
  const MoeConfig& moe = model.moe();
  ModelShape shape{.name = "the config's",
                   .hidden = model.hidden_size(),
                   .vocab = model.vocab_size(),
                   .layers = model.layers(),
                   .dense_layers = model.dense_layers(),
                   .mtp_modules = model.mtp().depth(),
                   .attention = {},
                   .heads = a.heads(),
                   .qk_dim = a.nope_dim() + a.rope_dim(),
                   .v_dim = a.value_dim(),
                   .query_width = a.heads() * (a.nope_dim() + a.rope_dim()),
                   .kv_width = a.heads() * (a.nope_dim() + a.value_dim()) + a.rope_dim(),
                   .latent_width = a.query_rank() + a.kv_rank() + a.rope_dim(),
                   .dense_width = model.dense_intermediate_size()};
  if (shape.moe()) {
    shape.experts = moe.routed_experts();
    shape.top_k = moe.top_k();
    shape.groups = moe.groups();
    shape.kept_groups = moe.kept_groups();
    shape.expert_width = moe.intermediate_size();
    shape.shared_width = moe.shared_experts() * moe.intermediate_size();
  }
  for (const ParamSpec& spec : ParameterTable(model)) {
    if (spec.layer != 0 || spec.part != ModelPart::kAttention) continue;
    const int64_t k = spec.shape[1];
    shape.attention.push_back({.n = spec.shape[0], .k = k, .up_projection = k == a.query_rank() || k == a.kv_rank()});
  }
  return shape;
}

}  // namespace jevons
