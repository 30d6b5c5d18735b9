// Out to the published layout and in again: the same numbers, whatever the precision and the sharding can hold.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/fp8/quantize.h"
#include "nlohmann/json.hpp"
#include "tests/trainer/interop/test_models.h"
#include "trainer/interop/hf_folder.h"
#include "trainer/interop/hf_names.h"

namespace jevons {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

struct Params {
  const char* name;
  int64_t depth, shared, dense, query_rank;
};

ModelConfig ModelOf(const Params& params) {
  ModelConfig model = TinyModel();
  model.mutable_mtp()->set_depth(params.depth);
  model.mutable_moe()->set_shared_experts(params.shared);
  model.set_dense_layers(params.dense);
  model.mutable_attention()->set_query_rank(params.query_rank);
  return model;
}

class RoundTrip : public testing::TestWithParam<Params> {};

TEST_P(RoundTrip, InFp32AllBitsStay) {
  MemoryDisk disk;
  const RunConfig config = TinyRun(ModelOf(GetParam()));
  WriteCheckpoint(disk, "/a/checkpoints/step-00000000", config);
  for (const int64_t shard_bytes : {int64_t{1}, int64_t{2000}, int64_t{1} << 40}) {
    const std::string out = "/hf" + std::to_string(shard_bytes), in = "/b" + std::to_string(shard_bytes);
    const auto report = Export(disk, "/a/checkpoints/step-00000000", config,
                               {.output = out, .precision = HfPrecision::kFp32, .shard_bytes = shard_bytes});
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->shards == 1, shard_bytes > 2000);
    const auto imported = ImportCheckpoint(disk, out, in);
    ASSERT_TRUE(imported.ok()) << imported.status();
    EXPECT_EQ(imported->tensors, report->tensors);
    auto a = CheckpointReader::Open(disk, "/a/checkpoints/step-00000000"), b = CheckpointReader::Open(disk, in + "/" + kImported);
    ASSERT_TRUE(a.ok() && b.ok()) << b.status();
    EXPECT_EQ(*Diff(*a, *b), "identical");
    EXPECT_EQ(*StateHash(*a), *StateHash(*b));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, RoundTrip,
                         testing::Values(Params{"mtp2", 2, 1, 1, 6}, Params{"bare", 0, 0, 0, 0}, Params{"all_dense", 0, 1, 2, 6},
                                         Params{"shared2", 1, 2, 1, 0}),
                         [](const auto& info) { return info.param.name; });

// Sizes above 128, so that there are several blocks and cut ones.
ModelConfig WideModel() {
  ModelConfig model = TinyModel();
  model.set_hidden_size(136);
  model.set_dense_intermediate_size(130);
  model.mutable_attention()->set_kv_rank(129);
  model.mutable_mtp()->set_depth(1);
  return model;
}

std::vector<float> RoundedToBf16(std::vector<float> values) {
  for (float& value : values) value = bf16(value);
  return values;
}

TEST(Precision, Bf16RoundsAllButTheGateBias) {
  MemoryDisk disk;
  const RunConfig config = TinyRun();
  WriteCheckpoint(disk, "/a", config);
  ASSERT_TRUE(Export(disk, "/a", config, {.output = "/hf", .precision = HfPrecision::kBf16}).ok());
  ASSERT_TRUE(ImportCheckpoint(disk, "/hf", "/b").ok());
  for (const ParamSpec& spec : ParameterTable(config.model()))
    EXPECT_EQ(ReadAll(disk, std::string("/b/") + kImported, "weight/" + spec.name), RoundedToBf16(ReadAll(disk, "/a", "weight/" + spec.name)))
        << spec.name;
  for (const std::string& name : GateBiasNames(config.model()))
    EXPECT_EQ(ReadAll(disk, std::string("/b/") + kImported, "gate_bias/" + name), ReadAll(disk, "/a", "gate_bias/" + name));
}

TEST(Precision, Fp8HoldsCodesTimesScales) {
  MemoryDisk disk;
  const RunConfig config = TinyRun(WideModel());
  WriteCheckpoint(disk, "/a", config);
  ASSERT_TRUE(Export(disk, "/a", config, {.output = "/hf", .precision = HfPrecision::kFp8}).ok());
  const auto folder = HfFolder::Open(disk, "/hf");
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_EQ(DescribeTensor(folder->Entry("model.layers.0.mlp.gate_proj.weight")), "F8_E4M3 [130, 136]");
  EXPECT_EQ(DescribeTensor(folder->Entry("model.layers.0.mlp.gate_proj.weight_scale_inv")), "F32 [2, 2]");
  EXPECT_EQ(DescribeTensor(folder->Entry("model.embed_tokens.weight")), "BF16 [23, 136]");
  EXPECT_EQ(DescribeTensor(folder->Entry("model.layers.2.eh_proj.weight")), "BF16 [136, 272]");
  EXPECT_EQ(DescribeTensor(folder->Entry("model.layers.1.mlp.gate.e_score_correction_bias")), "F32 [8]");
  ASSERT_TRUE(ImportCheckpoint(disk, "/hf", "/b").ok());

  for (const ParamSpec& spec : ParameterTable(config.model())) {
    std::vector<float> expected = ReadAll(disk, "/a", "weight/" + spec.name);
    const std::vector<float> imported = ReadAll(disk, std::string("/b/") + kImported, "weight/" + spec.name);
    if (!PublishedInFp8(spec)) {
      EXPECT_EQ(imported, RoundedToBf16(expected)) << spec.name;
      continue;
    }
    for (const PublishedTensor& tensor : PublishedTensors(spec)) {
      const int64_t rows = tensor.shape[0], cols = tensor.shape[1];
      std::vector<uint8_t> codes(static_cast<size_t>(rows * cols));
      std::vector<float> scales(static_cast<size_t>(TilesOf(rows) * TilesOf(cols)));
      const Tensor x = Tensor::Of(expected.data() + tensor.begin, {rows, cols}), q = Tensor::Of(codes.data(), {rows, cols}),
                   s = Tensor::Of(scales.data(), {TilesOf(rows), TilesOf(cols)});
      Quantize({}, {.x = x, .codes = q, .scales = s, .tiling = Tiling::kBlocks128x128});
      Dequantize({}, {.codes = q, .scales = s, .x = x, .tiling = Tiling::kBlocks128x128});
    }
    EXPECT_EQ(imported, expected) << spec.name;
  }
}

TEST(Layout, IsThePublishedOne) {
  MemoryDisk disk;
  const RunConfig config = TinyRun();
  WriteCheckpoint(disk, "/a", config);
  ASSERT_TRUE(Export(disk, "/a", config, {.output = "/hf/", .precision = HfPrecision::kFp32, .shard_bytes = 13000}).ok());
  EXPECT_THAT(*disk.List("/hf"), ElementsAre("config.json", "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                                             "model-00003-of-00003.safetensors", "model.safetensors.index.json"));
  const auto index = nlohmann::json::parse(disk.Contents("/hf/model.safetensors.index.json"));
  int64_t bytes = 0;
  std::map<std::string, std::string> map;
  for (const char* name : {"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"}) {
    const auto file = SafetensorsFile::Open(disk, std::string("/hf/") + name);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->metadata().at("format"), "pt");
    int64_t shard = 0;
    for (const SafetensorsEntry& entry : file->entries()) {
      map[entry.name] = name;
      shard += entry.end - entry.begin;
    }
    EXPECT_LE(shard, 13000);
    bytes += shard;
  }
  EXPECT_EQ(index["metadata"]["total_size"], bytes);
  EXPECT_EQ(index["weight_map"], nlohmann::json(map));
  EXPECT_THAT(*disk.List("/"), ElementsAre("a", "hf"));
}

// The start of a run: no moments, no sampler, step 0, and the config of the network.
TEST(Layout, AnImportIsARun) {
  MemoryDisk disk;
  const RunConfig config = TinyRun();
  WriteCheckpoint(disk, "/a", config);
  ASSERT_TRUE(Export(disk, "/a", config, {.output = "/hf", .precision = HfPrecision::kFp32}).ok());
  ASSERT_TRUE(ImportCheckpoint(disk, "/hf", "/run").ok());
  EXPECT_THAT(*disk.List("/run"), ElementsAre("checkpoints", "config.textproto"));
  const auto reader = CheckpointReader::Open(disk, std::string("/run/") + kImported);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(reader->step(), 0);
  EXPECT_THAT(reader->tensors(), SizeIs(ParameterTable(config.model()).size() + GateBiasNames(config.model()).size()));
  const auto parsed = ParseRunConfig(disk.Contents("/run/config.textproto"), "config.textproto", {});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(ResolvedText(*parsed), reader->config_text());
}

}  // namespace
}  // namespace jevons
