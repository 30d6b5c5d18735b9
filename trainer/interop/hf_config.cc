#include "trainer/interop/hf_config.h"

#include <cmath>
#include <optional>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/util/message_differencer.h"
#include "kernels/base/strict_json.h"

namespace jevons {
namespace {

using Json = nlohmann::json;

constexpr double kDefaultTheta = 10000;  // transformers'

// The fields of one JSON object, read one by one; what is wrong with them is collected, to be told all at once, and so is what
// nobody asked for.
class Fields {
 public:
  Fields(const Json& object, std::string prefix, std::vector<std::string>& problems)
      : object_(object), prefix_(std::move(prefix)), problems_(problems) {}

  // null where it is absent
  const Json& At(const char* name) {
    static const Json null;
    read_.insert(name);
    const auto found = object_.find(name);
    return found == object_.end() ? null : *found;
  }
  bool Has(const char* name) const { return object_.contains(name); }

  // Fields with a value that have not been read and are not in `harmless`.
  std::vector<std::string> Unread(const std::set<absl::string_view>& harmless) const {
    std::vector<std::string> names;
    for (const auto& [name, value] : object_.items())
      if (!value.is_null() && read_.count(name) == 0 && harmless.count(name) == 0) names.push_back(name);
    return names;
  }

  int64_t Int(const char* name) {
    const Json& value = At(name);
    if (value.is_number_integer() && value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t{1} << 60)
      return value.get<int64_t>();
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

  // The field is there; null stands for `of_null`.
  int64_t IntOrNull(const char* name, int64_t of_null) {
    if (Has(name)) return IntOr(name, of_null);
    return Problem(name, absl::StrCat("is missing; it must be a whole number, or null for ", of_null)), of_null;
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
  std::set<std::string> read_;
};

// What has no part in the network's mathematics: about training (the loss that balances experts is the run's own: run.proto,
// balance), generation, the program that wrote the file, and how it runs. The type of the weights is read from their files.
const std::set<absl::string_view>& HarmlessFields() {
  static const std::set<absl::string_view> names = {"_attn_implementation",
                                                    "_attn_implementation_autoset",
                                                    "_commit_hash",
                                                    "_name_or_path",
                                                    "auto_map",
                                                    "aux_loss_alpha",
                                                    "bos_token_id",
                                                    "chunk_size_feed_forward",
                                                    "decoder_start_token_id",
                                                    "do_sample",
                                                    "dtype",
                                                    "eos_token_id",
                                                    "ep_size",
                                                    "finetuning_task",
                                                    "head_dim",
                                                    "id2label",
                                                    "initializer_range",
                                                    "is_decoder",
                                                    "is_encoder_decoder",
                                                    "keys_to_ignore_at_inference",
                                                    "label2id",
                                                    "max_length",
                                                    "min_length",
                                                    "num_return_sequences",
                                                    "output_attentions",
                                                    "output_hidden_states",
                                                    "output_router_logits",
                                                    "pad_token_id",
                                                    "prefix",
                                                    "pretraining_tp",
                                                    "problem_type",
                                                    "repetition_penalty",
                                                    "return_dict",
                                                    "return_dict_in_generate",
                                                    "router_aux_loss_coef",
                                                    "sep_token_id",
                                                    "seq_aux",
                                                    "task_specific_params",
                                                    "temperature",
                                                    "tokenizer_class",
                                                    "top_p",
                                                    "torch_dtype",
                                                    "torchscript",
                                                    "transformers_version",
                                                    "use_cache"};
  return names;
}

// The same of quantization_config: codes times scales is what the weights are, whatever these say.
const std::set<absl::string_view>& HarmlessQuantizationFields() {
  static const std::set<absl::string_view> names = {"dequantize", "ignored_layers", "is_checkpoint_fp8_serialized",
                                                    "modules_to_not_convert", "scale_fmt"};
  return names;
}

// As transformers' _compute_yarn_parameters.
double Mscale(double factor, double mscale) { return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0; }

void ReadYarn(Fields& rope, YarnConfig& yarn) {
  rope.Only("truncate", true, "the bounds of the blend are whole dimensions");
  yarn.set_original_length(rope.Int("original_max_position_embeddings"));
  yarn.set_factor(rope.Real("factor"));
  yarn.set_beta_fast(rope.RealOr("beta_fast", 32));
  yarn.set_beta_slow(rope.RealOr("beta_slow", 1));
  const double mscale = rope.RealOr("mscale", 0), all = rope.RealOr("mscale_all_dim", 0);
  yarn.set_mscale(all);
  const double ratio =
      mscale != 0 && all != 0 ? Mscale(yarn.factor(), mscale) / Mscale(yarn.factor(), all) : Mscale(yarn.factor(), 1);
  yarn.set_attention_factor(rope.RealOr("attention_factor", ratio));
}

// theta and YaRN as the object `name` says them. Nothing where it is absent, null or {}, which says nothing.
std::optional<AttentionConfig> ReadRopeObject(Fields& top, const char* name, const std::string& path,
                                              std::vector<std::string>& problems) {
  const Json& object = top.At(name);
  if (object.is_null() || (object.is_object() && object.empty())) return std::nullopt;
  if (!object.is_object()) return top.Problem(name, absl::StrCat("is ", ShownJson(object), ", not an object")), std::nullopt;
  Fields rope(object, absl::StrCat(path, ": ", name, "."), problems);
  AttentionConfig attention;
  attention.set_rope_theta(rope.RealOr("rope_theta", top.RealOr("rope_theta", kDefaultTheta)));
  if (!top.At("rope_theta").is_null() && top.RealOr("rope_theta", 0) != attention.rope_theta())
    top.Problem("rope_theta", absl::StrCat("is ", ShownJson(top.At("rope_theta")), ", but ", name, ".rope_theta is ",
                                           ShownJson(rope.At("rope_theta")), "; remove the one that is not meant"));
  rope.Only("partial_rotary_factor", 1.0, "all of qk_rope_head_dim is turned");
  const Json &new_type = rope.At("rope_type"), &old_type = rope.At("type");
  if (!new_type.is_null() && !old_type.is_null() && new_type != old_type)
    rope.Problem("rope_type", absl::StrCat("is ", ShownJson(new_type), ", but type is ", ShownJson(old_type),
                                           "; remove the one that is not meant"));
  const Json type = !new_type.is_null()   ? new_type
                    : !old_type.is_null() ? old_type
                                          : Json("default");  // as transformers reads it
  if (type != "default" && type != "yarn")
    return rope.Problem("rope_type", absl::StrCat("is ", ShownJson(type), "; \"default\" and \"yarn\" are supported")),
           std::nullopt;
  if (type == "yarn") ReadYarn(rope, *attention.mutable_yarn());
  for (const std::string& field : rope.Unread({}))
    rope.Problem(field.c_str(), absl::StrCat("is ", ShownJson(object[field]), ", which has no meaning where the rope type is ",
                                             ShownJson(type)));
  return attention;
}

void ReadRope(Fields& top, const std::string& path, std::vector<std::string>& problems, AttentionConfig& attention) {
  attention.set_rope_theta(top.RealOr("rope_theta", kDefaultTheta));
  const auto old_form = ReadRopeObject(top, "rope_scaling", path, problems),
             new_form = ReadRopeObject(top, "rope_parameters", path, problems);
  if (old_form && new_form && !google::protobuf::util::MessageDifferencer::Equals(*old_form, *new_form))
    top.Problem("rope_scaling",
                absl::StrCat("is ", top.At("rope_scaling").dump(), ", but rope_parameters is ", top.At("rope_parameters").dump(),
                             ", and programs differ in which they follow; remove the one that is not meant"));
  if (const auto& said = old_form ? old_form : new_form) attention.MergeFrom(*said);
}

void ReadQuantization(Fields& top, const std::string& path, std::vector<std::string>& problems,
                      std::vector<std::string>& warnings) {
  const Json& object = top.At("quantization_config");
  if (object.is_null()) return;
  if (!object.is_object()) return top.Problem("quantization_config", "is not an object");
  Fields quantization(object, path + ": quantization_config.", problems);
  if (quantization.At("quant_method").is_null()) quantization.Problem("quant_method", "is missing; only \"fp8\" is supported");
  quantization.Only("quant_method", "fp8", "weights are read in FP32, BF16, FP16 and block-scaled FP8");
  quantization.Only("fmt", "e4m3", "that is how published weights are stored");
  quantization.Only("weight_block_size", {128, 128}, "that is how published weights are scaled");
  quantization.Only("activation_scheme", "dynamic", "scales of activations are found as they are computed");
  for (const std::string& field : quantization.Unread(HarmlessQuantizationFields()))
    warnings.push_back(absl::StrCat(path, ": quantization_config.", field, " is ", ShownJson(object[field]),
                                    ", which is not known here and not followed"));
}

// Another type or class than DeepSeek-V3's own: refused, unless one of the two names is the network's.
absl::Status CheckKind(Fields& top, const std::string& path, std::vector<std::string>& warnings) {
  const Json &type = top.At("model_type"), &classes = top.At("architectures");
  const bool known_type = type == "deepseek_v3", known_class = classes == Json::array({"DeepseekV3ForCausalLM"});
  if (!known_type && !known_class)
    return IntegrityError(absl::StrCat(path, ": model_type is ", ShownJson(type), "; only \"deepseek_v3\" is supported"));
  if (!known_type && !type.is_null())
    warnings.push_back(absl::StrCat(path, ": model_type is ", ShownJson(type),
                                    ", but architectures says DeepseekV3ForCausalLM, which is followed"));
  if (!known_class && !classes.is_null())
    warnings.push_back(
        absl::StrCat(path, ": architectures is ", ShownJson(classes), ", but model_type says deepseek_v3, which is followed"));
  return absl::OkStatus();
}

void ReadMoe(Fields& top, MoeConfig& moe) {
  moe.set_routed_experts(top.Int("n_routed_experts"));
  moe.set_shared_experts(top.IntOrNull("n_shared_experts", 0));
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
  HfConfig config;
  JEVONS_RETURN_IF_ERROR(CheckKind(top, path, config.warnings));
  ModelConfig& model = config.model;
  config.max_positions = top.Int("max_position_embeddings");
  model.set_vocab_size(top.Int("vocab_size"));
  if (top.At("vocab_size") == 0) top.Problem("vocab_size", "is 0; it must be 2 or more");  // to a run's config 0 means the data's
  model.set_hidden_size(top.Int("hidden_size"));
  model.set_layers(top.Int("num_hidden_layers"));
  model.set_dense_layers(
      std::min(top.Int("first_k_dense_replace"), model.layers()));  // more than all are all, as transformers reads it
  if (model.dense_layers() > 0) model.set_dense_intermediate_size(top.Int("intermediate_size"));
  const int64_t other_depth = top.IntOr("num_mtp_layers", 0);
  model.mutable_mtp()->set_depth(top.IntOr("num_nextn_predict_layers", other_depth));
  if (!top.At("num_mtp_layers").is_null() && other_depth != model.mtp().depth())
    top.Problem("num_mtp_layers", absl::StrCat("is ", other_depth, ", but num_nextn_predict_layers is ", model.mtp().depth(),
                                               "; remove the one that is not meant"));
  if (model.dense_layers() < model.layers() || model.mtp().depth() > 0) ReadMoe(top, *model.mutable_moe());
  model.set_norm_eps(top.Real("rms_norm_eps"));
  model.set_init_std(top.RealOr("initializer_range", model.init_std()));
  AttentionConfig& attention = *model.mutable_attention();
  attention.set_heads(top.Int("num_attention_heads"));
  attention.set_query_rank(top.IntOrNull("q_lora_rank", 0));
  attention.set_kv_rank(top.Int("kv_lora_rank"));
  attention.set_nope_dim(top.Int("qk_nope_head_dim"));
  attention.set_rope_dim(top.Int("qk_rope_head_dim"));
  attention.set_value_dim(top.Int("v_head_dim"));
  ReadRope(top, path, problems, attention);
  ReadQuantization(top, path, problems, config.warnings);
  top.Only("num_key_value_heads", attention.heads(), "latent attention has a key and a value for each head");
  top.Only("qk_head_dim", attention.nope_dim() + attention.rope_dim(), "a head is qk_nope_head_dim and qk_rope_head_dim");
  top.Only("partial_rotary_factor", 1.0, "all of qk_rope_head_dim is turned");
  top.Only("rope_interleave", true, "published weights have the rotary dimensions in pairs");
  top.Only("hidden_act", "silu", "the FFNs are SwiGLU");
  top.Only("attention_bias", false, "there are no biases");
  top.Only("attention_dropout", 0.0, "there is no dropout");
  top.Only("tie_word_embeddings", false, "embedding and head are apart");
  top.Only("mlp_bias", false, "there are no biases");
  top.Only("scoring_func", "sigmoid", "the gate is DeepSeek-V3's");
  top.Only("topk_method", "noaux_tc", "the gate is DeepSeek-V3's");
  top.Only("moe_layer_freq", 1, "all layers after the dense ones have experts");
  if (!problems.empty()) return IntegrityError(absl::StrJoin(problems, "\n"));
  for (const char* field : {"intermediate_size", "moe_intermediate_size", "n_routed_experts", "n_shared_experts",
                            "num_experts_per_tok", "n_group", "topk_group", "routed_scaling_factor", "norm_topk_prob"})
    top.At(field);  // of layers that the network may not have
  for (const std::string& field : top.Unread(HarmlessFields()))
    config.warnings.push_back(
        absl::StrCat(path, ": ", field, " is ", ShownJson((*parsed)[field]), ", which is not known here and not followed"));
  const YarnConfig& yarn = attention.yarn();
  const double reach = yarn.factor() * static_cast<double>(yarn.original_length());
  if (yarn.factor() > 1 && reach != static_cast<double>(config.max_positions))
    config.warnings.push_back(absl::StrCat(path, ": max_position_embeddings is ", config.max_positions,
                                           ", but YaRN's factor times its original length is ", reach,
                                           ", which an export will write"));
  return config;
}

std::string HfConfigJson(const HfConfig& config, HfPrecision precision, int64_t bos, int64_t eos) {
  const ModelConfig& model = config.model;
  const AttentionConfig& attention = model.attention();
  const MoeConfig& moe = model.moe();
  // Where there are no layers of a kind, readers still want numbers of its sizes; nothing is built from them.
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
