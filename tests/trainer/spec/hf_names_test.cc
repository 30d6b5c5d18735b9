// The published names, against the list of DeepSeek-V3's files.
#include "trainer/spec/hf_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/support/tiny_model.h"

namespace jevons {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> NamesOf(const ModelConfig& model) {
  std::vector<std::string> names;
  for (const ParamSpec& spec : ParameterTable(model))
    for (const PublishedTensor& tensor : PublishedTensors(spec)) names.push_back(tensor.name);
  return names;
}

TEST(PublishedNames, OfAWholeModel) {
  ModelConfig model = TinyModel();
  model.mutable_moe()->set_routed_experts(2);
  model.mutable_mtp()->set_depth(1);
  EXPECT_THAT(
      NamesOf(model),
      ElementsAre(
          "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight", "model.layers.0.self_attn.q_a_proj.weight",
          "model.layers.0.self_attn.q_a_layernorm.weight", "model.layers.0.self_attn.q_b_proj.weight",
          "model.layers.0.self_attn.kv_a_proj_with_mqa.weight", "model.layers.0.self_attn.kv_a_layernorm.weight",
          "model.layers.0.self_attn.kv_b_proj.weight", "model.layers.0.self_attn.o_proj.weight",
          "model.layers.0.post_attention_layernorm.weight", "model.layers.0.mlp.gate_proj.weight",
          "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight", "model.layers.1.input_layernorm.weight",
          "model.layers.1.self_attn.q_a_proj.weight", "model.layers.1.self_attn.q_a_layernorm.weight",
          "model.layers.1.self_attn.q_b_proj.weight", "model.layers.1.self_attn.kv_a_proj_with_mqa.weight",
          "model.layers.1.self_attn.kv_a_layernorm.weight", "model.layers.1.self_attn.kv_b_proj.weight",
          "model.layers.1.self_attn.o_proj.weight", "model.layers.1.post_attention_layernorm.weight",
          "model.layers.1.mlp.gate.weight", "model.layers.1.mlp.shared_experts.gate_proj.weight",
          "model.layers.1.mlp.shared_experts.up_proj.weight", "model.layers.1.mlp.shared_experts.down_proj.weight",
          "model.layers.1.mlp.experts.0.gate_proj.weight", "model.layers.1.mlp.experts.0.up_proj.weight",
          "model.layers.1.mlp.experts.1.gate_proj.weight", "model.layers.1.mlp.experts.1.up_proj.weight",
          "model.layers.1.mlp.experts.0.down_proj.weight", "model.layers.1.mlp.experts.1.down_proj.weight", "model.norm.weight",
          "lm_head.weight", "model.layers.2.enorm.weight", "model.layers.2.hnorm.weight", "model.layers.2.eh_proj.weight",
          "model.layers.2.input_layernorm.weight", "model.layers.2.self_attn.q_a_proj.weight",
          "model.layers.2.self_attn.q_a_layernorm.weight", "model.layers.2.self_attn.q_b_proj.weight",
          "model.layers.2.self_attn.kv_a_proj_with_mqa.weight", "model.layers.2.self_attn.kv_a_layernorm.weight",
          "model.layers.2.self_attn.kv_b_proj.weight", "model.layers.2.self_attn.o_proj.weight",
          "model.layers.2.post_attention_layernorm.weight", "model.layers.2.mlp.gate.weight",
          "model.layers.2.mlp.shared_experts.gate_proj.weight", "model.layers.2.mlp.shared_experts.up_proj.weight",
          "model.layers.2.mlp.shared_experts.down_proj.weight", "model.layers.2.mlp.experts.0.gate_proj.weight",
          "model.layers.2.mlp.experts.0.up_proj.weight", "model.layers.2.mlp.experts.1.gate_proj.weight",
          "model.layers.2.mlp.experts.1.up_proj.weight", "model.layers.2.mlp.experts.0.down_proj.weight",
          "model.layers.2.mlp.experts.1.down_proj.weight", "model.layers.2.shared_head.norm.weight"));
  std::vector<std::string> copies;
  for (const SharedCopy& copy : SharedCopies(model)) copies.push_back(copy.name + " = " + copy.of);
  EXPECT_THAT(copies, ElementsAre("model.layers.2.embed_tokens.weight = model.embed_tokens.weight",
                                  "model.layers.2.shared_head.head.weight = lm_head.weight"));
}

TEST(PublishedNames, OfSharedExpertsThatAreNone) {
  ModelConfig model = TinyModel();
  EXPECT_TRUE(EmptySharedExperts(model).empty());
  model.mutable_moe()->set_shared_experts(0);
  model.mutable_mtp()->set_depth(1);
  std::vector<std::string> names;
  for (const PublishedTensor& tensor : EmptySharedExperts(model)) {
    names.push_back(tensor.name);
    EXPECT_EQ(tensor.shape[0] * tensor.shape[1], 0);
    EXPECT_EQ(tensor.shape[0] + tensor.shape[1], model.hidden_size());
  }
  EXPECT_THAT(
      names,
      ElementsAre("model.layers.1.mlp.shared_experts.gate_proj.weight", "model.layers.1.mlp.shared_experts.up_proj.weight",
                  "model.layers.1.mlp.shared_experts.down_proj.weight", "model.layers.2.mlp.shared_experts.gate_proj.weight",
                  "model.layers.2.mlp.shared_experts.up_proj.weight", "model.layers.2.mlp.shared_experts.down_proj.weight"));
}

// Every element of ours is one element of theirs.
TEST(PublishedNames, TileOurTensors) {
  std::set<std::string> names;
  for (const ParamSpec& spec : ParameterTable(TinyModel())) {
    int64_t end = 0;
    for (const PublishedTensor& tensor : PublishedTensors(spec)) {
      EXPECT_TRUE(names.insert(tensor.name).second) << tensor.name;
      EXPECT_EQ(tensor.begin, end) << tensor.name;
      int64_t size = 1;
      for (const int64_t dim : tensor.shape) size *= dim;
      end += size;
    }
    EXPECT_EQ(end, spec.shape.size()) << spec.name;
  }
}

// In the published FP8 files weight_scale_inv stands beside exactly the projections of attention and FFNs.
TEST(PublishedNames, WhatIsInFp8) {
  for (const ParamSpec& spec : ParameterTable(TinyModel())) {
    const bool projection = spec.name.find("_proj") != std::string::npos && spec.name.find("eh_proj") == std::string::npos;
    EXPECT_EQ(PublishedInFp8(spec), projection) << spec.name;
  }
}

}  // namespace
}  // namespace jevons
