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
using ::testing::HasSubstr;
using Json = nlohmann::json;

HfConfig Tiny() { return {.model = TinyModel(), .max_positions = 64}; }

Json TinyJson() { return Json::parse(HfConfigJson(Tiny(), HfPrecision::kBf16, 0, 1)); }

ModelConfig Parsed(const Json& json) {
  const auto config = ParseHfConfig(json.dump(), "config.json");
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? config->model : ModelConfig();
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
  EXPECT_EQ(json["rope_scaling"], Json::parse(R"({"beta_fast":32.0,"beta_slow":1.0,"factor":40.0,"mscale":1.0,"mscale_all_dim":1.0,)"
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
  json["rope_parameters"] = {{"rope_theta", 5000.0}, {"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16},
                             {"mscale", 0.5}, {"mscale_all_dim", 2.0}};
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
  const std::pair<const char*, Json> cases[] = {{"model_type", "deepseek_v2"},
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
                                                {"quantization_config", {{"quant_method", "awq"}}},
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
}

}  // namespace
}  // namespace jevons
