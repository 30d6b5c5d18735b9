// Out to the published layout and in again: the same numbers, whatever the precision and the sharding can hold.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstring>

#include "kernels/ops/quantize.h"
#include "nlohmann/json.hpp"
#include "tests/trainer/interop/test_models.h"
#include "trainer/interop/hf_folder.h"
#include "trainer/spec/hf_names.h"

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
    EXPECT_EQ(ReadAll(disk, std::string("/b/") + kImported, "weight/" + spec.name),
              RoundedToBf16(ReadAll(disk, "/a", "weight/" + spec.name)))
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

// Other programs' ways to store the same: FP16 weights, and scales in fewer bits. What they say is taken exactly.
TEST(Precision, Fp16IsReadExactly) {
  MemoryDisk disk;
  const RunConfig config = TinyRun();
  WriteCheckpoint(disk, "/a", config);
  ASSERT_TRUE(Export(disk, "/a", config, {.output = "/hf", .precision = HfPrecision::kBf16}).ok());
  const std::pair<uint16_t, float> numbers[] = {
      {0x3c00, 1.0f},     {0xc000, -2.0f}, {0x7bff, 65504.0f},   {0x0001, 0x1p-24f}, {0x83ff, -0x3ffp-24f},
      {0x0400, 0x1p-14f}, {0x8000, -0.0f}, {0x3555, 0x555p-12f}, {0x0000, 0.0f},     {0xfbff, -65504.0f}};
  const auto store = [&](uint16_t last) {
    ChangeShard(disk, "/hf/model-00001-of-00001.safetensors", [&](std::vector<StoredTensor>& tensors) {
      for (StoredTensor& tensor : tensors) {
        if (tensor.spec.name != "model.norm.weight") continue;
        tensor.spec.dtype = kStF16;
        for (size_t i = 0; i < 10; ++i) std::memcpy(tensor.bytes.data() + 2 * i, i < 9 ? &numbers[i].first : &last, 2);
      }
    });
  };
  store(numbers[9].first);
  ASSERT_TRUE(ImportCheckpoint(disk, "/hf", "/b").ok());
  const std::vector<float> read = ReadAll(disk, std::string("/b/") + kImported, "weight/model.norm.weight");
  ASSERT_EQ(read.size(), std::size(numbers));
  for (size_t i = 0; i < read.size(); ++i)
    EXPECT_EQ(std::bit_cast<uint32_t>(read[i]), std::bit_cast<uint32_t>(numbers[i].second)) << i;
  for (const uint16_t bits : {0x7c00, 0x7e01}) {
    store(bits);
    EXPECT_THAT(std::string(ImportCheckpoint(disk, "/hf", "/c").status().message()), testing::HasSubstr("column 9"));
  }
}

TEST(Precision, ScalesInFewerBits) {
  MemoryDisk disk;
  const RunConfig config = TinyRun(WideModel());
  WriteCheckpoint(disk, "/a", config);
  const std::string name = "model.layers.0.mlp.gate_proj.weight";  // [130, 136]: 2 x 2 blocks
  ASSERT_TRUE(Export(disk, "/a", config, {.output = "/hf", .precision = HfPrecision::kFp8}).ok());
  // Powers of two, which F32, BF16 and E8M0 hold alike.
  const auto import = [&](const char* dtype, const std::vector<uint32_t>& bits, size_t width, const std::string& to) {
    ChangeShard(disk, "/hf/model-00001-of-00001.safetensors", [&](std::vector<StoredTensor>& tensors) {
      for (StoredTensor& tensor : tensors) {
        if (tensor.spec.name != name + kScaleSuffix) continue;
        tensor.spec.dtype = dtype;
        tensor.bytes.resize(4 * width);
        for (size_t i = 0; i < 4; ++i) std::memcpy(tensor.bytes.data() + i * width, &bits[i], width);
      }
    });
    return ImportCheckpoint(disk, "/hf", to).status();
  };
  ASSERT_TRUE(import(kStF32, {0x3f800000, 0x3c000000, 0x40000000, 0x00400000}, 4, "/f32").ok());
  ASSERT_TRUE(import(kStBF16, {0x3f80, 0x3c00, 0x4000, 0x0040}, 2, "/bf16").ok());
  ASSERT_TRUE(import(kStF8E8M0, {127, 120, 128, 0}, 1, "/e8m0").ok());
  const auto weights = [&](const std::string& run) {
    return ReadAll(disk, run + "/" + kImported, "weight/model.layers.0.mlp.gate_up_proj.weight");
  };
  const std::vector<float> expected = weights("/f32");
  EXPECT_EQ(weights("/bf16"), expected);
  EXPECT_EQ(weights("/e8m0"), expected);
  EXPECT_THAT(std::string(import(kStF8E8M0, {127, 255, 128, 0}, 1, "/nan").message()),
              testing::HasSubstr("_scale_inv has nan at row 0, column 1"));
  EXPECT_THAT(std::string(import(kStF16, {0x3c00, 0x3c00, 0x3c00, 0x3c00}, 2, "/f16").message()),
              testing::HasSubstr("it must be F32, BF16 or F8_E8M0 [2, 2]"));
}

TEST(Layout, IsThePublishedOne) {
  MemoryDisk disk;
  const RunConfig config = TinyRun();
  WriteCheckpoint(disk, "/a", config);
  ASSERT_TRUE(Export(disk, "/a", config, {.output = "/hf/", .precision = HfPrecision::kFp32, .shard_bytes = 13000}).ok());
  EXPECT_THAT(*disk.List("/hf"),
              ElementsAre("config.json", "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                          "model-00003-of-00003.safetensors", "model.safetensors.index.json"));
  const auto index = nlohmann::json::parse(disk.Contents("/hf/model.safetensors.index.json"));
  int64_t bytes = 0;
  std::map<std::string, std::string> map;
  for (const char* name :
       {"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"}) {
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
