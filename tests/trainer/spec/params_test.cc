#include "trainer/spec/params.h"

#include <gmock/gmock.h>

#include <map>
#include <set>

#include "tests/configs/presets.h"

namespace jevons {
namespace {

ModelConfig Model(const std::string& preset, const std::vector<std::string>& overrides = {}) {
  return Preset(preset, overrides).model();
}

std::map<std::string, ParamSpec> ByName(const ModelConfig& model) {
  std::map<std::string, ParamSpec> specs;
  for (const ParamSpec& spec : ParameterTable(model)) specs[spec.name] = spec;
  return specs;
}

TEST(Count, SmallCpu) {
  EXPECT_EQ(CountParameters(Model("small_cpu")).total, 108129792);
  // The same by hand. Attention: 512*256 + 256*8*96 + 512*(128+32) + 128*8*128 + 8*64*512, norms 256 + 128 +
  // 2*512.
  const int64_t attention = 131072 + 196608 + 81920 + 131072 + 262144 + 256 + 128 + 1024;
  const int64_t expert = 3 * 512 * 256;
  EXPECT_EQ(8 * attention + 3 * 512 * 1536 + 7 * (33 * expert + 32 * 512) + 2 * 8192 * 512 + 512, 108129792);
  const ParamCount count = CountParameters(Model("small_cpu"));
  EXPECT_EQ(count.routed, 7 * 32 * expert);
  EXPECT_EQ(count.active_without_embedding, 8 * attention + 3 * 512 * 1536 + 7 * (5 * expert + 32 * 512) + 8192 * 512 + 512);
  EXPECT_EQ(count.mtp_projection, 512 * 1024);
  EXPECT_EQ(count.mtp_unique, attention + 33 * expert + 32 * 512 + 512 * 1024 + 3 * 512);
  EXPECT_EQ(count.mtp_active, count.mtp_unique - 28 * expert);
}

TEST(Count, DeepSeekV3) {
  const ParamCount count = CountParameters(Model("deepseek_v3_671b"));
  EXPECT_NEAR(count.total / 1e9, 671.03, 0.005);
  EXPECT_NEAR(count.routed / 1e9, 653.9, 0.05);
  EXPECT_NEAR(count.active_without_embedding / 1e9, 36.63, 0.005);
  EXPECT_NEAR((count.mtp_unique - count.mtp_projection) / 1e9, 11.5, 0.05);
  EXPECT_EQ(count.mtp_projection, 7168 * 14336);
  // DeepSeek's README_WEIGHTS: 2.4B active in the module, with the shared embedding and head.
  EXPECT_NEAR((count.mtp_active - count.mtp_projection + 2 * 129280 * 7168) / 1e9, 2.4, 0.05);
}

TEST(Count, DeepSeekV2Lite) {
  const ParamCount count = CountParameters(Model("deepseek_v2_lite_16b"));
  EXPECT_NEAR(count.total / 1e9, 15.7, 0.05);
  EXPECT_NEAR(count.active_without_embedding / 1e9, 2.4, 0.06);
}

TEST(Table, SpellsTheNamesAndShapesOfHuggingFace) {
  const auto specs = ByName(Model("small_cpu"));
  const auto shape = [&](const std::string& name) { return specs.count(name) ? specs.at(name).shape : Shape{}; };
  EXPECT_EQ(shape("model.embed_tokens.weight"), (Shape{8192, 512}));
  EXPECT_EQ(shape("model.layers.0.mlp.gate_up_proj.weight"), (Shape{3072, 512}));
  EXPECT_EQ(shape("model.layers.0.mlp.down_proj.weight"), (Shape{512, 1536}));
  EXPECT_EQ(shape("model.layers.3.self_attn.q_a_proj.weight"), (Shape{256, 512}));
  EXPECT_EQ(shape("model.layers.3.self_attn.q_b_proj.weight"), (Shape{768, 256}));
  EXPECT_EQ(shape("model.layers.3.self_attn.kv_a_proj_with_mqa.weight"), (Shape{160, 512}));
  EXPECT_EQ(shape("model.layers.3.self_attn.kv_b_proj.weight"), (Shape{1024, 128}));
  EXPECT_EQ(shape("model.layers.3.self_attn.o_proj.weight"), (Shape{512, 512}));
  EXPECT_EQ(shape("model.layers.3.mlp.gate.weight"), (Shape{32, 512}));
  EXPECT_EQ(shape("model.layers.3.mlp.shared_experts.gate_up_proj.weight"), (Shape{512, 512}));
  EXPECT_EQ(shape("model.layers.3.mlp.experts.gate_up_proj.weight"), (Shape{32, 512, 512}));
  EXPECT_EQ(shape("model.layers.3.mlp.experts.down_proj.weight"), (Shape{32, 512, 256}));
  EXPECT_EQ(shape("model.norm.weight"), (Shape{512}));
  EXPECT_EQ(shape("lm_head.weight"), (Shape{8192, 512}));
  EXPECT_EQ(shape("model.layers.8.eh_proj.weight"), (Shape{512, 1024}));
  EXPECT_EQ(shape("model.layers.8.shared_head.norm.weight"), (Shape{512}));
  EXPECT_EQ(shape("model.layers.8.mlp.experts.down_proj.weight"), (Shape{32, 512, 256}));
}

TEST(Table, OptionalPartsComeAndGo) {
  const auto plain = ByName(Model("deepseek_v2_lite_16b", {"model.moe.shared_experts=0"}));
  EXPECT_EQ(plain.at("model.layers.0.self_attn.q_proj.weight").shape, (Shape{16 * 192, 2048}));
  EXPECT_FALSE(plain.count("model.layers.0.self_attn.q_a_proj.weight"));
  EXPECT_FALSE(plain.count("model.layers.1.mlp.shared_experts.down_proj.weight"));
  const auto dense = ByName(Model("small_cpu", {"model.dense_layers=8", "model.mtp.depth=0", "model.moe="}));
  EXPECT_FALSE(dense.count("model.layers.7.mlp.gate.weight"));
  EXPECT_TRUE(dense.count("model.layers.7.mlp.down_proj.weight"));
}

TEST(Table, AttributesFollowFromThePart) {
  const auto specs = ByName(Model("small_cpu"));
  const auto& norm = specs.at("model.layers.1.self_attn.kv_a_layernorm.weight");
  EXPECT_FALSE(norm.decay || norm.low_precision || norm.expert);
  EXPECT_EQ(norm.init, ParamSpec::Init::kOnes);
  const auto& gate = specs.at("model.layers.1.mlp.gate.weight");
  EXPECT_TRUE(gate.decay && !gate.low_precision && !gate.expert);
  EXPECT_EQ(gate.init, ParamSpec::Init::kNormal);
  const auto& experts = specs.at("model.layers.1.mlp.experts.down_proj.weight");
  EXPECT_TRUE(experts.decay && experts.low_precision && experts.expert);
  EXPECT_EQ(experts.active, 4 * 512 * 256);
  EXPECT_TRUE(specs.at("model.embed_tokens.weight").low_precision);
}

TEST(Table, IsInOrderOfExecutionWithoutRepetition) {
  const std::vector<ParamSpec> table = ParameterTable(Model("small_cpu", {"model.mtp.depth=2"}));
  std::set<std::string> names;
  for (size_t i = 0; i < table.size(); ++i) {
    EXPECT_TRUE(names.insert(table[i].name).second) << table[i].name;
    if (i > 0) {
      EXPECT_GE(table[i].layer, table[i - 1].layer) << table[i].name;
    }
  }
  EXPECT_EQ(table.front().layer, -1);
  EXPECT_EQ(table.back().layer, 10);
  EXPECT_EQ(table.back().name, "model.layers.9.shared_head.norm.weight");
}

TEST(GateBiases, OnePerMoeLayerAndModule) {
  const std::vector<std::string> names = GateBiasNames(Model("small_cpu"));
  ASSERT_EQ(names.size(), 8u);
  EXPECT_EQ(names.front(), "model.layers.1.mlp.gate.e_score_correction_bias");
  EXPECT_EQ(names.back(), "model.layers.8.mlp.gate.e_score_correction_bias");
  EXPECT_TRUE(GateBiasNames(Model("small_cpu", {"model.dense_layers=8", "model.mtp.depth=0"})).empty());
}

}  // namespace
}  // namespace jevons
