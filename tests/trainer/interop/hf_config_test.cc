// config.json: both forms in, the published form out, and everything that is refused.
#include "trainer/interop/hf_config.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <cmath>

#include "nlohmann/json.hpp"
#include "tests/support/tiny_model.h"

namespace jevons {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Json = nlohmann::json;

HfConfig Tiny() { return {.model = TinyModel(), .max_positions = 64}; }

Json TinyJson() { return Json::parse(HfConfigJson(Tiny(), HfPrecision::kBf16, 0, 1)); }

ModelConfig Parsed(const Json& json) {
  const auto config = ParseHfConfig(json.dump(), "config.json");
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? config->model : ModelConfig();
}

std::vector<std::string> Warnings(const Json& json) {
  const auto config = ParseHfConfig(json.dump(), "x/config.json");
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? config->warnings : std::vector<std::string>();
}

std::string Refusal(const Json& json) {
  const auto config = ParseHfConfig(json.dump(), "x/config.json");
  EXPECT_FALSE(config.ok()) << json.dump();
  EXPECT_EQ(ExitCodeOf(config.status()), ExitCode::kIntegrity);
  return std::string(config.status().message());
}

TEST(HfConfig, OutAndInAgain) {
  HfConfig config = Tiny();
  config.model.mutable_attention()->set_rope_theta(12345);
  config.model.mutable_moe()->set_normalize_weights(false);
  config.model.mutable_moe()->set_shared_experts(0);
  config.model.mutable_moe()->set_route_scale(1.75);
  config.model.set_norm_eps(1e-5);
  const auto again = ParseHfConfig(HfConfigJson(config, HfPrecision::kFp8, -1, -1), "config.json");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->max_positions, 64);
  // What is a default here is said there: set it, so that messages compare.
  std::string differences;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.set_message_field_comparison(google::protobuf::util::MessageDifferencer::EQUIVALENT);
  differencer.ReportDifferencesToString(&differences);
  EXPECT_TRUE(differencer.Compare(config.model, again->model)) << differences;
}

TEST(HfConfig, WritesThePublishedForm) {
  HfConfig config = Tiny();
  config.model.mutable_attention()->mutable_yarn()->set_factor(40);
  const Json json = Json::parse(HfConfigJson(config, HfPrecision::kFp8, 7, 9));
  EXPECT_EQ(json["model_type"], "deepseek_v3");
  EXPECT_EQ(json["architectures"], Json({"DeepseekV3ForCausalLM"}));
  EXPECT_EQ(json["quantization_config"],
            Json::parse(R"({"activation_scheme":"dynamic","fmt":"e4m3","quant_method":"fp8","weight_block_size":[128,128]})"));
  EXPECT_EQ(json["rope_scaling"],
            Json::parse(R"({"beta_fast":32.0,"beta_slow":1.0,"factor":40.0,"mscale":1.0,"mscale_all_dim":1.0,)"
                        R"("original_max_position_embeddings":4096,"type":"yarn"})"));
  EXPECT_EQ(json["eos_token_id"], 9);
  EXPECT_EQ(json["torch_dtype"], "bfloat16");
  EXPECT_FALSE(TinyJson().contains("quantization_config"));
  EXPECT_TRUE(TinyJson()["rope_scaling"].is_null());
}

TEST(HfConfig, ReadsTransformersFiveToo) {
  Json json = TinyJson();
  json.erase("rope_theta");
  json.erase("rope_scaling");
  json.erase("scoring_func");
  json.erase("topk_method");
  json["rope_parameters"] = {{"rope_theta", 5000.0}, {"rope_type", "default"}};
  EXPECT_EQ(Parsed(json).attention().rope_theta(), 5000);
  EXPECT_EQ(Parsed(json).attention().yarn().factor(), 1);
  json["rope_parameters"] = {{"rope_theta", 5000.0}, {"rope_type", "yarn"},
                             {"factor", 4.0},        {"original_max_position_embeddings", 16},
                             {"mscale", 0.5},        {"mscale_all_dim", 2.0}};
  const YarnConfig yarn = Parsed(json).attention().yarn();
  EXPECT_EQ(yarn.original_length(), 16);
  EXPECT_EQ(yarn.mscale(), 2.0);
  const double log4 = 0.1 * std::log(4.0);
  EXPECT_DOUBLE_EQ(yarn.attention_factor(), (0.5 * log4 + 1) / (2 * log4 + 1));
}

// transformers: without both mscales cos and sin are scaled by 0.1 ln(factor) + 1, and the scores are not.
TEST(HfConfig, YarnWithoutMscales) {
  Json json = TinyJson();
  json["rope_scaling"] = {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}};
  const YarnConfig yarn = Parsed(json).attention().yarn();
  EXPECT_EQ(yarn.mscale(), 0);
  EXPECT_DOUBLE_EQ(yarn.attention_factor(), 0.1 * std::log(4.0) + 1);
  HfConfig config{.model = Parsed(json), .max_positions = 64};
  const Json again = Json::parse(HfConfigJson(config, HfPrecision::kFp32, 0, 1));
  EXPECT_DOUBLE_EQ(Parsed(again).attention().yarn().attention_factor(), yarn.attention_factor());
  EXPECT_EQ(Parsed(again).attention().yarn().mscale(), 0);
}

TEST(HfConfig, KeepsWhatYarnSaysWithoutAFactor) {
  HfConfig config = Tiny();
  config.model.mutable_attention()->mutable_yarn()->set_attention_factor(1.25);
  EXPECT_EQ(Parsed(Json::parse(HfConfigJson(config, HfPrecision::kFp32, -1, -1))).attention().yarn().attention_factor(), 1.25);
}

Json Yarn(double factor) { return {{"type", "yarn"}, {"factor", factor}, {"original_max_position_embeddings", 16}}; }

TEST(HfConfig, RopeObjectsThatSayLittle) {
  Json json = TinyJson();
  json.erase("rope_theta");
  json["rope_parameters"] = {{"rope_theta", 50000.0}};  // an absent type is "default"
  EXPECT_EQ(Parsed(json).attention().rope_theta(), 50000);
  EXPECT_FALSE(Parsed(json).attention().has_yarn());
  json["rope_parameters"] = Json::object();
  json["rope_scaling"] = Json::object();
  EXPECT_EQ(Parsed(json).attention().rope_theta(), 10000);
  json["rope_scaling"] = {{"type", nullptr}, {"rope_theta", 7000}};
  EXPECT_EQ(Parsed(json).attention().rope_theta(), 7000) << "rope_parameters is empty";
  json["rope_parameters"] = nullptr;
  json["rope_theta"] = 7000.0;
  EXPECT_EQ(Parsed(json).attention().rope_theta(), 7000);
}

TEST(HfConfig, RopeInBothFormsMustAgree) {
  Json json = TinyJson();
  json["rope_scaling"] = Yarn(4);
  json["rope_parameters"] = {
      {"rope_type", "yarn"}, {"rope_theta", 10000}, {"factor", 4}, {"original_max_position_embeddings", 16}, {"beta_fast", 32}};
  EXPECT_EQ(Parsed(json).attention().yarn().factor(), 4);
  EXPECT_THAT(Warnings(json), IsEmpty());
  json["rope_parameters"]["factor"] = 8;
  EXPECT_THAT(Refusal(json), AllOf(HasSubstr("rope_scaling is {\"factor\":4.0"), HasSubstr("but rope_parameters is {"),
                                   HasSubstr("remove the one")));
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 10000.0}};
  EXPECT_THAT(Refusal(json), AllOf(HasSubstr("rope_scaling"), HasSubstr("rope_parameters")));
  // transformers would take 10000 without a word.
  json.erase("rope_theta");
  json["rope_scaling"] = {{"type", "default"}};
  json["rope_parameters"] = {{"rope_theta", 50000.0}};
  EXPECT_THAT(Refusal(json), AllOf(HasSubstr("rope_scaling"), HasSubstr("rope_parameters")));
  json["rope_scaling"] = nullptr;
  json["rope_theta"] = 10000;
  EXPECT_THAT(Refusal(json), HasSubstr("rope_theta is 10000, but rope_parameters.rope_theta is 50000.0"));
  json["rope_parameters"] = {{"rope_type", "default"}, {"type", "yarn"}};
  EXPECT_THAT(Refusal(json), HasSubstr("rope_parameters.rope_type is \"default\", but type is \"yarn\""));
}

TEST(HfConfig, EachFieldOfRopeHasAMeaningOrIsRefused) {
  Json json = TinyJson();
  for (const char* field : {"factor", "original_max_position_embeddings"}) {
    json["rope_scaling"] = Yarn(4);
    json["rope_scaling"].erase(field);
    EXPECT_THAT(Refusal(json), HasSubstr(std::string("rope_scaling.") + field + " is missing"));
  }
  json["rope_scaling"] = Yarn(4);
  json["rope_scaling"].erase("type");
  EXPECT_THAT(Refusal(json), HasSubstr("rope_scaling.factor is 4.0, which has no meaning where the rope type is \"default\""));
  json["rope_scaling"] = Yarn(4);
  json["rope_scaling"]["llama_4_scaling_beta"] = 0.1;
  EXPECT_THAT(Refusal(json), HasSubstr("rope_scaling.llama_4_scaling_beta is 0.1, which has no meaning"));
  for (const char* type : {"linear", "dynamic", "longrope", "llama3", "su"}) {
    json["rope_scaling"] = Yarn(4);
    json["rope_scaling"]["type"] = type;
    EXPECT_THAT(Refusal(json), HasSubstr(std::string("rope_scaling.rope_type is \"") + type));
  }
}

TEST(HfConfig, FieldsThatAreNotKnownAreNamed) {
  Json json = TinyJson();
  EXPECT_THAT(Warnings(json), IsEmpty());
  for (const char* harmless :
       {"aux_loss_alpha", "auto_map", "ep_size", "pretraining_tp", "seq_aux", "transformers_version", "pad_token_id"})
    json[harmless] = 3;
  json["sliding_window"] = nullptr;
  EXPECT_THAT(Warnings(json), IsEmpty());
  json["sliding_window"] = 4096;
  json["quantization_config"] = {{"quant_method", "fp8"}, {"scale_fmt", "ue8m0"}, {"smoothing", 2}};
  EXPECT_THAT(Warnings(json),
              ElementsAre("x/config.json: quantization_config.smoothing is 2, which is not known here and not followed",
                          "x/config.json: sliding_window is 4096, which is not known here and not followed"));
}

TEST(HfConfig, WarnsWhereTwoFieldsDisagreeAndOneIsFollowed) {
  Json json = TinyJson();
  json["model_type"] = "kimi_k2";
  EXPECT_THAT(Warnings(json), ElementsAre(HasSubstr("model_type is \"kimi_k2\"")));
  json["model_type"] = "deepseek_v3";
  json["architectures"] = {"DeepseekV3Model"};
  EXPECT_THAT(Warnings(json), ElementsAre(HasSubstr("architectures is [\"DeepseekV3Model\"]")));
  json = TinyJson();
  json["rope_scaling"] = Yarn(2);
  EXPECT_THAT(Warnings(json), ElementsAre(AllOf(HasSubstr("max_position_embeddings is 64"), HasSubstr("is 32"))));
  json["num_mtp_layers"] = 1;
  EXPECT_THAT(Refusal(json), HasSubstr("num_mtp_layers is 1, but num_nextn_predict_layers is 2"));
}

// Readers take the absence of these for different things.
TEST(HfConfig, NullIsNotAbsence) {
  Json json = TinyJson();
  json["q_lora_rank"] = json["n_shared_experts"] = nullptr;
  EXPECT_EQ(Parsed(json).attention().query_rank(), 0);
  EXPECT_EQ(Parsed(json).moe().shared_experts(), 0);
  json.erase("q_lora_rank");
  json.erase("n_shared_experts");
  EXPECT_THAT(Refusal(json), AllOf(HasSubstr("q_lora_rank is missing; it must be a whole number, or null for 0"),
                                   HasSubstr("n_shared_experts is missing")));
}

TEST(HfConfig, TellsAllThatIsMissingAtOnce) {
  Json json = TinyJson();
  for (const char* name : {"hidden_size", "n_group", "rms_norm_eps"}) json.erase(name);
  json["vocab_size"] = "many";
  json["num_hidden_layers"] = -3;
  EXPECT_THAT(Refusal(json), AllOf(HasSubstr("x/config.json: hidden_size is missing"), HasSubstr("n_group is missing"),
                                   HasSubstr("rms_norm_eps is missing"), HasSubstr("vocab_size is \"many\""),
                                   HasSubstr("num_hidden_layers is -3")));
}

TEST(HfConfig, RefusesWhatThisModelIsNot) {
  const std::pair<const char*, Json> cases[] = {
      {"model_type", "deepseek_v2"},
      {"vocab_size", 0},
      {"num_key_value_heads", 1},
      {"rope_interleave", false},
      {"hidden_act", "gelu"},
      {"attention_bias", true},
      {"attention_dropout", 0.1},
      {"tie_word_embeddings", true},
      {"scoring_func", "softmax"},
      {"topk_method", "greedy"},
      {"moe_layer_freq", 2},
      {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}},
      {"rope_scaling", "yarn"},
      {"qk_head_dim", 9},
      {"partial_rotary_factor", 0.5},
      {"mlp_bias", true},
      {"quantization_config", {{"quant_method", "awq"}}},
      {"quantization_config", {{"fmt", "e4m3"}}},
      {"quantization_config", {{"quant_method", "fp8"}, {"activation_scheme", "static"}}},
      {"quantization_config", {{"quant_method", "fp8"}, {"weight_block_size", {64, 64}}}}};
  for (const auto& [name, value] : cases) {
    Json json = TinyJson();
    json[name] = value;
    if (std::string(name) == "model_type") json.erase("architectures");
    const std::string name_of = std::string(name) == "rope_scaling" && value.is_object() ? "rope_type" : name;
    EXPECT_THAT(Refusal(json), HasSubstr(name_of)) << json.dump();
  }
}

TEST(HfConfig, RefusesBrokenJson) {
  for (const char* text : {"", "{", "[]", "{\"a\":1,\"a\":2}", "null"}) {
    const auto config = ParseHfConfig(text, "x/config.json");
    ASSERT_FALSE(config.ok()) << text;
    EXPECT_EQ(ExitCodeOf(config.status()), ExitCode::kIntegrity);
    EXPECT_THAT(std::string(config.status().message()), HasSubstr("x/config.json"));
  }
  for (const char* number : {"NaN", "Infinity", "-Infinity", "1e999"}) {
    std::string text = TinyJson().dump();
    text.replace(text.find("10000.0"), 7, number);
    EXPECT_FALSE(ParseHfConfig(text, "x/config.json").ok()) << number;
  }
  EXPECT_FALSE(ParseHfConfig(TinyJson().dump() + std::string(2, '\0'), "x/config.json").ok());
}

TEST(HfConfig, ReadsPastAByteOrderMark) { EXPECT_TRUE(ParseHfConfig("\xEF\xBB\xBF" + TinyJson().dump(), "config.json").ok()); }

}  // namespace
}  // namespace jevons
