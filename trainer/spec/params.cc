#include "trainer/spec/params.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"

namespace jevons {
namespace {

// Collects specs; what follows from a parameter's part is decided here, once.
class Table {
 public:
  explicit Table(const ModelConfig& model) : model_(model), moe_(model.moe()) {}

  void Add(const std::string& name, const Shape& shape, ModelPart part) {
    ParamSpec spec;
    spec.name = prefix_ + name + ".weight";
    spec.shape = shape;
    spec.part = part;
    spec.expert = part == ModelPart::kRoutedExperts;
    spec.decay = part != ModelPart::kNorm;
    spec.low_precision = part != ModelPart::kNorm && part != ModelPart::kRouter;
    spec.init = part == ModelPart::kNorm ? ParamSpec::Init::kOnes : ParamSpec::Init::kNormal;
    spec.layer = layer_;
    spec.active = spec.expert ? shape.size() / moe_.routed_experts() * moe_.top_k() : shape.size();
    specs_.push_back(std::move(spec));
  }

  // What follows belongs to `layer` and has names that begin with `prefix`.
  void Begin(int layer, const std::string& prefix) {
    layer_ = layer;
    prefix_ = prefix;
  }

  void Attention() {
    const AttentionConfig& a = model_.attention();
    const int64_t hidden = model_.hidden_size(), query = a.heads() * (a.nope_dim() + a.rope_dim());
    if (a.query_rank() > 0) {
      Add("self_attn.q_a_proj", {a.query_rank(), hidden}, ModelPart::kAttention);
      Add("self_attn.q_a_layernorm", {a.query_rank()}, ModelPart::kNorm);
      Add("self_attn.q_b_proj", {query, a.query_rank()}, ModelPart::kAttention);
    } else {
      Add("self_attn.q_proj", {query, hidden}, ModelPart::kAttention);
    }
    Add("self_attn.kv_a_proj_with_mqa", {a.kv_rank() + a.rope_dim(), hidden}, ModelPart::kAttention);
    Add("self_attn.kv_a_layernorm", {a.kv_rank()}, ModelPart::kNorm);
    Add("self_attn.kv_b_proj", {a.heads() * (a.nope_dim() + a.value_dim()), a.kv_rank()}, ModelPart::kAttention);
    Add("self_attn.o_proj", {hidden, a.heads() * a.value_dim()}, ModelPart::kAttention);
  }

  void FeedForward(const std::string& name, int64_t width, ModelPart part) {
    Add(name + ".gate_up_proj", {2 * width, model_.hidden_size()}, part);
    Add(name + ".down_proj", {model_.hidden_size(), width}, part);
  }

  void Moe() {
    const int64_t hidden = model_.hidden_size(), experts = moe_.routed_experts(), width = moe_.intermediate_size();
    Add("mlp.gate", {experts, hidden}, ModelPart::kRouter);
    if (moe_.shared_experts() > 0) {
      FeedForward("mlp.shared_experts", moe_.shared_experts() * width, ModelPart::kSharedExperts);
    }
    Add("mlp.experts.gate_up_proj", {experts, 2 * width, hidden}, ModelPart::kRoutedExperts);
    Add("mlp.experts.down_proj", {experts, hidden, width}, ModelPart::kRoutedExperts);
  }

  void Block(bool dense) {
    Add("input_layernorm", {model_.hidden_size()}, ModelPart::kNorm);
    Attention();
    Add("post_attention_layernorm", {model_.hidden_size()}, ModelPart::kNorm);
    if (dense) {
      FeedForward("mlp", model_.dense_intermediate_size(), ModelPart::kDenseFfn);
    } else {
      Moe();
    }
  }

  std::vector<ParamSpec> Take() { return std::move(specs_); }

 private:
  const ModelConfig& model_;
  const MoeConfig& moe_;
  int layer_ = 0;
  std::string prefix_;
  std::vector<ParamSpec> specs_;
};

std::string LayerPrefix(int64_t layer) { return absl::StrCat("model.layers.", layer, "."); }

}  // namespace

std::vector<ParamSpec> ParameterTable(const ModelConfig& model) {
  JEVONS_CHECK(model.vocab_size() > 0, "the vocabulary's size is not known yet");
  const int64_t hidden = model.hidden_size(), layers = model.layers();
  Table table(model);
  table.Begin(-1, "");
  table.Add("model.embed_tokens", {model.vocab_size(), hidden}, ModelPart::kEmbedding);
  for (int64_t i = 0; i < layers; ++i) {
    table.Begin(static_cast<int>(i), LayerPrefix(i));
    table.Block(/*dense=*/i < model.dense_layers());
  }
  table.Begin(static_cast<int>(layers), "");
  table.Add("model.norm", {hidden}, ModelPart::kNorm);
  table.Add("lm_head", {model.vocab_size(), hidden}, ModelPart::kHead);
  for (int64_t k = 0; k < model.mtp().depth(); ++k) {
    table.Begin(static_cast<int>(layers + 1 + k), LayerPrefix(layers + k));
    table.Add("enorm", {hidden}, ModelPart::kNorm);
    table.Add("hnorm", {hidden}, ModelPart::kNorm);
    table.Add("eh_proj", {hidden, 2 * hidden}, ModelPart::kMtpProjection);
    table.Block(/*dense=*/false);
    table.Add("shared_head.norm", {hidden}, ModelPart::kNorm);
  }
  return table.Take();
}

std::vector<std::string> GateBiasNames(const ModelConfig& model) {
  std::vector<std::string> names;
  for (int64_t i = model.dense_layers(); i < model.layers() + model.mtp().depth(); ++i) {
    names.push_back(LayerPrefix(i) + "mlp.gate.e_score_correction_bias");
  }
  return names;
}

int GateBiasLayer(const ModelConfig& model, size_t i) {
  const int64_t layer = model.dense_layers() + static_cast<int64_t>(i);
  return static_cast<int>(layer < model.layers() ? layer : layer + 1);  // final norm and head come before MTP modules
}

ParamCount CountParameters(const ModelConfig& model) {
  ParamCount count;
  for (const ParamSpec& spec : ParameterTable(model)) {
    const int64_t size = spec.shape.size();
    if (spec.layer > model.layers()) {
      count.mtp_unique += size;
      count.mtp_projection += spec.part == ModelPart::kMtpProjection ? size : 0;
      count.mtp_active += spec.active;
    } else {
      count.total += size;
      count.routed += spec.expert ? size : 0;
      count.active_without_embedding += spec.part == ModelPart::kEmbedding ? 0 : spec.active;
    }
  }
  return count;
}

}  // namespace jevons
