// verify-export: a good folder passes in every precision; every kind of damage is told by the name of what it befell.
#include "trainer/interop/verify_export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nlohmann/json.hpp"
#include "tests/trainer/interop/test_models.h"
#include "trainer/interop/hf_folder.h"

namespace jevons {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

constexpr char kIndex[] = "/hf/model.safetensors.index.json";
constexpr char kNorm[] = "model.norm.weight";

class VerifyExportTest : public testing::TestWithParam<HfPrecision> {
 protected:
  void SetUp() override {
    WriteCheckpoint(disk_, "/a", config_);
    ASSERT_TRUE(Export(disk_, "/a", config_, {.output = "/hf", .precision = GetParam(), .shard_bytes = 9000}).ok());
  }

  absl::StatusOr<VerifyExportReport> Verify() {
    JEVONS_ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(disk_, "/a"));
    return VerifyExport(disk_, reader, config_, "", "/hf");
  }
  std::string Refusal() {
    const auto report = Verify();
    EXPECT_EQ(ExitCodeOf(report.status()), ExitCode::kIntegrity) << report.status();
    return std::string(report.status().message());
  }

  std::string ShardOf(const std::string& tensor) {
    return "/hf/" + Json::parse(disk_.Contents(kIndex))["weight_map"][tensor].get<std::string>();
  }
  void ChangeTensor(const std::string& name, const std::function<void(StoredTensor&)>& change) {
    ChangeShard(disk_, ShardOf(name), [&](std::vector<StoredTensor>& tensors) {
      for (StoredTensor& tensor : tensors)
        if (tensor.spec.name == name) change(tensor);
    });
  }
  void FlipBit(const std::string& name, size_t byte, int bit) {
    ChangeTensor(name, [&](StoredTensor& tensor) { tensor.bytes.at(byte) ^= std::byte{1} << bit; });
  }
  void ChangeJson(const std::string& path, const std::function<void(Json&)>& change) {
    Json json = Json::parse(disk_.Contents(path));
    change(json);
    disk_.Contents(path) = json.dump();
  }

  const RunConfig config_ = TinyRun();
  MemoryDisk disk_;
};

TEST_P(VerifyExportTest, AGoodFolder) {
  const auto report = Verify();
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->precision, GetParam());
  EXPECT_EQ(report->tensors, static_cast<int64_t>(Json::parse(disk_.Contents(kIndex))["weight_map"].size()));
  EXPECT_GT(report->tensors, 100);
}

// Every tensor in turn, with its last bit flipped, is the one that is named.
TEST_P(VerifyExportTest, OneBitOfAnyTensor) {
  const Json map = Json::parse(disk_.Contents(kIndex))["weight_map"];
  for (const auto& [name, shard] : map.items()) {
    const std::string good = disk_.Contents(ShardOf(name));
    ChangeTensor(name, [](StoredTensor& tensor) { tensor.bytes.back() ^= std::byte{1}; });
    const std::string refusal = Refusal();
    EXPECT_THAT(refusal, HasSubstr("/hf: " + name + " differs in 1 of ")) << refusal;
    disk_.Contents(ShardOf(name)) = good;
  }
  EXPECT_TRUE(Verify().ok());
}

TEST_P(VerifyExportTest, SaysWhichElementAndItsBits) {
  FlipBit("model.layers.1.mlp.gate.e_score_correction_bias", 4 * 3, 0);
  FlipBit("model.layers.1.mlp.gate.e_score_correction_bias", 4 * 5, 7);
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("e_score_correction_bias differs in 2 of 8 elements; the first, [3] is 0x"),
                               HasSubstr(" and must be 0x")));
}

TEST_P(VerifyExportTest, TensorsRenamedMissingMisshapedAndTooMany) {
  const std::string renamed = "model.layers.1.mlp.experts.3.down_proj.weight", gone = "model.layers.2.hnorm.weight",
                    turned = "lm_head.weight";
  ChangeTensor(renamed, [](StoredTensor& tensor) { tensor.spec.name = "model.layers.1.mlp.experts.33.down_proj.weight"; });
  ChangeTensor(turned, [](StoredTensor& tensor) { std::swap(tensor.spec.shape[0], tensor.spec.shape[1]); });
  ChangeShard(disk_, ShardOf(gone), [&](std::vector<StoredTensor>& tensors) {
    std::erase_if(tensors, [&](const StoredTensor& tensor) { return tensor.spec.name == gone; });
  });
  EXPECT_THAT(Refusal(), AllOf(HasSubstr(renamed + ": the index says"), HasSubstr("experts.33.down_proj.weight: is in"),
                               HasSubstr(gone + ": the index says")));
  // And where the index says the same.
  ChangeJson(kIndex, [&](Json& index) {
    index["weight_map"]["model.layers.1.mlp.experts.33.down_proj.weight"] = index["weight_map"][renamed];
    index["weight_map"].erase(renamed);
    index["weight_map"].erase(gone);
  });
  EXPECT_THAT(Refusal(),
              AllOf(HasSubstr(renamed + " is missing"), HasSubstr("experts.33.down_proj.weight is "), HasSubstr("does not have"),
                    HasSubstr(gone + " is missing"), HasSubstr(turned + " is "), HasSubstr("; an export writes ")));
}

TEST_P(VerifyExportTest, TensorsTwice) {
  std::string other;
  const Json map = Json::parse(disk_.Contents(kIndex))["weight_map"];
  for (const auto& [name, shard] : map.items())
    if ("/hf/" + shard.get<std::string>() != ShardOf(kNorm)) other = ShardOf(name);
  ChangeShard(disk_, other, [](std::vector<StoredTensor>& tensors) {
    tensors.push_back({{kNorm, kStF32, {10}}, std::vector<std::byte>(40)});
  });
  EXPECT_THAT(Refusal(), AllOf(HasSubstr(kNorm), HasSubstr("and in")));
}

TEST_P(VerifyExportTest, AnotherCheckpoint) {
  ASSERT_TRUE(RemoveTree(disk_, "/a").ok());
  WriteCheckpoint(disk_, "/a", config_, [](const std::string& name, std::vector<float>& numbers) {
    if (name == "weight/model.layers.0.self_attn.o_proj.weight") numbers[5] = 123;
  });
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("model.layers.0.self_attn.o_proj.weight"), Not(HasSubstr("mlp"))));
}

TEST_P(VerifyExportTest, ConfigAndIndex) {
  ChangeJson("/hf/config.json", [](Json& config) {
    config["routed_scaling_factor"] = 1.25;
    config.erase("n_group");
    config["tie"] = true;
  });
  ChangeJson(kIndex, [](Json& index) { index["metadata"] = 7; });
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("config.json: routed_scaling_factor is 1.25; an export writes"),
                               HasSubstr("config.json: n_group is missing"),
                               HasSubstr("config.json: tie is true, which an export does not write"),
                               HasSubstr("metadata.total_size is null")));
  ASSERT_TRUE(disk_.Remove("/hf/config.json").ok());
  EXPECT_THAT(Refusal(), HasSubstr("config.json is missing"));
  ASSERT_TRUE(disk_.Remove(kIndex).ok());
  EXPECT_THAT(Refusal(), HasSubstr("model.safetensors.index.json is missing"));
}

INSTANTIATE_TEST_SUITE_P(Precisions, VerifyExportTest, testing::Values(HfPrecision::kFp32, HfPrecision::kBf16, HfPrecision::kFp8),
                         [](const auto& info) {
                           return info.param == HfPrecision::kFp32 ? "fp32" : info.param == HfPrecision::kBf16 ? "bf16" : "fp8";
                         });

}  // namespace
}  // namespace jevons
