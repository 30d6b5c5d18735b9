#include "trainer/interop/hf_config.h"

#include <cmath>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/strict_json.h"

namespace jevons {
namespace {

using Json = nlohmann::json;

// The fields of one JSON object, read one by one; what is wrong with them is collected, to be told all at once.
class Fields {
 public:
  Fields(const Json& object, std::string prefix, std::vector<std::string>& problems)
      : object_(object), prefix_(std::move(prefix)), problems_(problems) {}

  // null where it is absent
  const Json& At(const char* name) const {
    static const Json null;
    const auto found = object_.find(name);
    return found == object_.end() ? null : *found;
  }

  int64_t Int(const char* name) {
    const Json& value = At(name);
    if (value.is_number_integer() && value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t{1} << 60) return value.get<int64_t>();
    return Missing(name, value, "a whole number that is not negative"), 0;
  }
  int64_t IntOr(const char* name, int64_t otherwise) { return At(name).is_null() ? otherwise : Int(name); }

  double Real(const char* name) {
    const Json& value = At(name);
    if (value.is_number()) return value.get<double>();
    return Missing(name, value, "a number"), 1;
  }
  double RealOr(const char* name, double otherwise) { return At(name).is_null() ? otherwise : Real(name); }

  bool BoolOr(const char* name, bool otherwise) {
    const Json& value = At(name);
    if (value.is_null()) return otherwise;
    if (value.is_boolean()) return value.get<bool>();
    return Missing(name, value, "true or false"), otherwise;
  }

  // The field is absent or null, or `only`.
  void Only(const char* name, const Json& only, const char* why) {
    const Json& value = At(name);
    if (!value.is_null() && value != only)
      Problem(name, absl::StrCat("is ", ShownJson(value), "; only ", ShownJson(only), " is supported: ", why));
  }

  void Problem(const char* name, const std::string& what) { problems_.push_back(absl::StrCat(prefix_, name, " ", what)); }

 private:
  void Missing(const char* name, const Json& value, const char* wanted) {
    if (value.is_null()) return Problem(name, absl::StrCat("is missing; it must be ", wanted));
    Problem(name, absl::StrCat("is ", ShownJson(value), ", not ", wanted));
  }
  const Json& object_;
  std::string prefix_;
  std::vector<std::string>& problems_;
};

// As transformers' _compute_yarn_parameters.
double Mscale(double factor, double mscale) { return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0; }

void ReadYarn(Fields rope, int64_t max_positions, YarnConfig& yarn) {
  rope.Only("truncate", true, "the bounds of the blend are whole dimensions");
  yarn.set_original_length(rope.Int("original_max_position_embeddings"));
  const double whole = yarn.original_length() > 0 ? static_cast<double>(max_positions) / static_cast<double>(yarn.original_length()) : 1;
  yarn.set_factor(rope.RealOr("factor", whole));
  yarn.set_beta_fast(rope.RealOr("beta_fast", 32));
  yarn.set_beta_slow(rope.RealOr("beta_slow", 1));
  const double mscale = rope.RealOr("mscale", 0), all = rope.RealOr("mscale_all_dim", 0);
  yarn.set_mscale(all);
  const double ratio = mscale != 0 && all != 0 ? Mscale(yarn.factor(), mscale) / Mscale(yarn.factor(), all) : Mscale(yarn.factor(), 1);
  yarn.set_attention_factor(rope.RealOr("attention_factor", ratio));
}

void ReadRope(Fields& top, const std::string& path, int64_t max_positions, std::vector<std::string>& problems, AttentionConfig& attention) {
  const char* name = top.At("rope_parameters").is_object() ? "rope_parameters" : "rope_scaling";
  const Json& object = top.At(name);
  attention.set_rope_theta(top.RealOr("rope_theta", 10000));
  if (object.is_null()) return;
  if (!object.is_object()) return top.Problem(name, absl::StrCat("is ", ShownJson(object), ", not an object"));
  Fields rope(object, absl::StrCat(path, ": ", name, "."), problems);
  attention.set_rope_theta(rope.RealOr("rope_theta", attention.rope_theta()));
  rope.Only("partial_rotary_factor", 1.0, "all of qk_rope_head_dim is turned");
  const Json& type = rope.At("rope_type").is_null() ? rope.At("type") : rope.At("rope_type");
  if (type == "yarn") return ReadYarn(std::move(rope), max_positions, *attention.mutable_yarn());
  if (type != "default") rope.Problem("rope_type", absl::StrCat("is ", ShownJson(type), "; \"default\" and \"yarn\" are supported"));
}

void ReadQuantization(Fields& top, const std::string& path, std::vector<std::string>& problems) {
  const Json& object = top.At("quantization_config");
  if (object.is_null()) return;
  if (!object.is_object()) return top.Problem("quantization_config", "is not an object");
  Fields quantization(object, path + ": quantization_config.", problems);
  quantization.Only("quant_method", "fp8", "weights are read in FP32, BF16 and block-scaled FP8");
  quantization.Only("fmt", "e4m3", "that is how published weights are stored");
  quantization.Only("weight_block_size", {128, 128}, "that is how published weights are scaled");
}

void ReadMoe(Fields& top, MoeConfig& moe) {
  moe.set_routed_experts(top.Int("n_routed_experts"));
  moe.set_shared_experts(top.IntOr("n_shared_experts", 0));
  moe.set_top_k(top.Int("num_experts_per_tok"));
  moe.set_groups(top.Int("n_group"));
  moe.set_kept_groups(top.Int("topk_group"));
  moe.set_intermediate_size(top.Int("moe_intermediate_size"));
  moe.set_route_scale(top.Real("routed_scaling_factor"));
  moe.set_normalize_weights(top.BoolOr("norm_topk_prob", true));
}

}  // namespace

absl::StatusOr<HfConfig> ParseHfConfig(absl::string_view json, const std::string& path) {
  const absl::StatusOr<Json> parsed = ParseStrictJson(json);
  if (!parsed.ok()) return IntegrityError(absl::StrCat(path, ": ", parsed.status().message()));
  if (!parsed->is_object()) return IntegrityError(path + ": is not a JSON object");
  std::vector<std::string> problems;
  Fields top(*parsed, path + ": ", problems);
  if (top.At("model_type") != "deepseek_v3" && top.At("architectures") != Json::array({"DeepseekV3ForCausalLM"}))
    return IntegrityError(absl::StrCat(path, ": model_type is ", ShownJson(top.At("model_type")), "; only \"deepseek_v3\" is supported"));
  HfConfig config;
  ModelConfig& model = config.model;
  config.max_positions = top.Int("max_position_embeddings");
  model.set_vocab_size(top.Int("vocab_size"));
  if (top.At("vocab_size") == 0) top.Problem("vocab_size", "is 0; it must be 2 or more");  // to a run's config 0 means the data's
  model.set_hidden_size(top.Int("hidden_size"));
  model.set_layers(top.Int("num_hidden_layers"));
  model.set_dense_layers(std::min(top.Int("first_k_dense_replace"), model.layers()));
  if (model.dense_layers() > 0) model.set_dense_intermediate_size(top.Int("intermediate_size"));
  model.mutable_mtp()->set_depth(top.IntOr("num_nextn_predict_layers", top.IntOr("num_mtp_layers", 0)));
  if (model.dense_layers() < model.layers() || model.mtp().depth() > 0) ReadMoe(top, *model.mutable_moe());
  model.set_norm_eps(top.Real("rms_norm_eps"));
  model.set_init_std(top.RealOr("initializer_range", model.init_std()));
  AttentionConfig& attention = *model.mutable_attention();
  attention.set_heads(top.Int("num_attention_heads"));
  attention.set_query_rank(top.IntOr("q_lora_rank", 0));
  attention.set_kv_rank(top.Int("kv_lora_rank"));
  attention.set_nope_dim(top.Int("qk_nope_head_dim"));
  attention.set_rope_dim(top.Int("qk_rope_head_dim"));
  attention.set_value_dim(top.Int("v_head_dim"));
  ReadRope(top, path, config.max_positions, problems, attention);
  ReadQuantization(top, path, problems);
  top.Only("num_key_value_heads", attention.heads(), "latent attention has a key and a value for each head");
  top.Only("rope_interleave", true, "published weights have the rotary dimensions in pairs");
  top.Only("hidden_act", "silu", "the FFNs are SwiGLU");
  top.Only("attention_bias", false, "there are no biases");
  top.Only("attention_dropout", 0.0, "there is no dropout");
  top.Only("tie_word_embeddings", false, "embedding and head are apart");
  top.Only("scoring_func", "sigmoid", "the gate is DeepSeek-V3's");
  top.Only("topk_method", "noaux_tc", "the gate is DeepSeek-V3's");
  top.Only("moe_layer_freq", 1, "all layers after the dense ones have experts");
  if (!problems.empty()) return IntegrityError(absl::StrJoin(problems, "\n"));
  return config;
}

std::string HfConfigJson(const HfConfig& config, HfPrecision precision, int64_t bos, int64_t eos) {
  const ModelConfig& model = config.model;
  const AttentionConfig& attention = model.attention();
  const MoeConfig& moe = model.moe();
  nlohmann::ordered_json json = {
      {"architectures", {"DeepseekV3ForCausalLM"}},
      {"attention_bias", false},
      {"attention_dropout", 0.0},
      {"bos_token_id", bos < 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(bos)},
      {"eos_token_id", eos < 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(eos)},
      {"first_k_dense_replace", model.dense_layers()},
      {"hidden_act", "silu"},
      {"hidden_size", model.hidden_size()},
      {"initializer_range", model.init_std()},
      {"intermediate_size", model.dense_layers() > 0 ? model.dense_intermediate_size() : moe.intermediate_size()},
      {"kv_lora_rank", attention.kv_rank()},
      {"max_position_embeddings", config.max_positions},
      {"model_type", "deepseek_v3"},
      {"moe_intermediate_size", std::max<int64_t>(1, moe.intermediate_size())},
      {"moe_layer_freq", 1},
      {"n_group", moe.groups()},
      {"n_routed_experts", std::max<int64_t>(1, moe.routed_experts())},
      {"n_shared_experts", moe.shared_experts()},
      {"norm_topk_prob", moe.normalize_weights()},
      {"num_attention_heads", attention.heads()},
      {"num_experts_per_tok", std::max<int64_t>(1, moe.top_k())},
      {"num_hidden_layers", model.layers()},
      {"num_key_value_heads", attention.heads()},
      {"num_nextn_predict_layers", model.mtp().depth()},
      {"q_lora_rank", attention.query_rank() > 0 ? nlohmann::ordered_json(attention.query_rank()) : nlohmann::ordered_json()},
      {"qk_nope_head_dim", attention.nope_dim()},
      {"qk_rope_head_dim", attention.rope_dim()}};
  if (precision == HfPrecision::kFp8)
    json["quantization_config"] = {
        {"activation_scheme", "dynamic"}, {"fmt", "e4m3"}, {"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};
  json["rms_norm_eps"] = model.norm_eps();
  json["rope_scaling"] = nullptr;
  if (const YarnConfig& yarn = attention.yarn(); yarn.factor() > 1 || yarn.attention_factor() != 1) {
    json["rope_scaling"] = {{"beta_fast", yarn.beta_fast()},
                            {"beta_slow", yarn.beta_slow()},
                            {"factor", yarn.factor()},
                            {"mscale", yarn.mscale()},
                            {"mscale_all_dim", yarn.mscale()},
                            {"original_max_position_embeddings", yarn.original_length()},
                            {"type", "yarn"}};
    // Equal mscales mean a factor of 1.
    if (yarn.attention_factor() != 1 || yarn.mscale() == 0) json["rope_scaling"]["attention_factor"] = yarn.attention_factor();
  }
  json["rope_theta"] = attention.rope_theta();
  json["routed_scaling_factor"] = moe.route_scale();
  json["scoring_func"] = "sigmoid";
  json["tie_word_embeddings"] = false;
  json["topk_group"] = moe.kept_groups();
  json["topk_method"] = "noaux_tc";
  json["torch_dtype"] = precision == HfPrecision::kFp32 ? "float32" : "bfloat16";
  json["use_cache"] = true;
  json["v_head_dim"] = attention.value_dim();
  json["vocab_size"] = model.vocab_size();
  return json.dump(2) + "\n";
}

}  // namespace jevons
