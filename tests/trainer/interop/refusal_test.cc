// What is wrong with a published checkpoint is told by name, all at once, and nothing is left behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "absl/strings/match.h"
#include "nlohmann/json.hpp"
#include "tests/support/fault_file_system.h"
#include "tests/trainer/interop/test_models.h"
#include "trainer/interop/hf_folder.h"

namespace jevons {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

class Refusals : public testing::Test {
 protected:
  void SetUp() override {
    WriteCheckpoint(disk_, "/a", config_);
    ASSERT_TRUE(Export(disk_, "/a", config_, {.output = "/hf", .precision = HfPrecision::kFp32, .shard_bytes = 9000}).ok());
  }

  // The message of the refused import, which has left nothing.
  std::string Refusal(FileSystem& files) {
    const auto before = *disk_.List("/");
    const auto report = ImportCheckpoint(files, "/hf", "/run");
    EXPECT_FALSE(report.ok());
    EXPECT_EQ(ExitCodeOf(report.status()), ExitCode::kIntegrity) << report.status();
    EXPECT_EQ(*disk_.List("/"), before);
    return std::string(report.status().message());
  }
  std::string Refusal() { return Refusal(disk_); }

  std::string ShardOf(const std::string& tensor) {
    return "/hf/" + Json::parse(disk_.Contents(kIndex))["weight_map"][tensor].get<std::string>();
  }

  template <typename Change>
  void ChangeShard(const std::string& path, Change change) {
    jevons::ChangeShard(disk_, path, change);
  }

  template <typename Change>
  void ChangeTensor(const std::string& name, Change change) {
    ChangeShard(ShardOf(name), [&](std::vector<StoredTensor>& tensors) {
      for (StoredTensor& tensor : tensors)
        if (tensor.spec.name == name) change(tensor);
    });
  }

  template <typename Change>
  void ChangeIndex(Change change) {
    Json index = Json::parse(disk_.Contents(kIndex));
    change(index["weight_map"]);
    disk_.Contents(kIndex) = index.dump();
  }

  static constexpr char kIndex[] = "/hf/model.safetensors.index.json";
  static constexpr char kNorm[] = "model.norm.weight";
  const RunConfig config_ = TinyRun();
  MemoryDisk disk_;
};

TEST_F(Refusals, MissingExtraAndMisshapedTensorsAtOnce) {
  const std::string gone = "model.layers.1.mlp.experts.3.up_proj.weight", odd = "model.layers.0.self_attn.o_proj.weight";
  ChangeShard(ShardOf(gone), [&](std::vector<StoredTensor>& tensors) {
    std::erase_if(tensors, [&](const StoredTensor& tensor) { return tensor.spec.name == gone; });
    tensors.push_back({{"model.layers.1.mlp.experts.8.up_proj.weight", kStF32, {1}}, std::vector<std::byte>(4)});
  });
  ChangeTensor(odd, [](StoredTensor& tensor) { std::swap(tensor.spec.shape[0], tensor.spec.shape[1]); });
  ChangeTensor(kNorm, [](StoredTensor& tensor) { tensor.spec.dtype = "I32"; });
  ASSERT_TRUE(disk_.Remove(kIndex).ok());
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("4 things"), HasSubstr(gone + " is missing"),
                               HasSubstr(odd + " is F32 [6, 10]; its shape must be [10, 6]"),
                               HasSubstr("model.norm.weight is I32 [10]; its type must be F32, BF16, F16 or F8_E4M3"),
                               HasSubstr("experts.8.up_proj.weight is F32 [1], which config.json has no place for")));
}

TEST_F(Refusals, IndexAndFilesThatDisagree) {
  ChangeIndex([](Json& map) {
    map.erase(kNorm);
    map["model.ghost"] = map["lm_head.weight"];
  });
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("model.ghost: the index says"), HasSubstr("model.norm.weight: is in"),
                               HasSubstr("not in the index")));
}

TEST_F(Refusals, NamesThatLeaveTheFolder) {
  for (const char* name : {"../a/model.safetensors", "/etc/passwd", "..", "", ".hidden", "x/y"}) {
    ChangeIndex([&](Json& map) { map[kNorm] = name; });
    EXPECT_THAT(Refusal(), AllOf(HasSubstr(kNorm), HasSubstr("not the name of a file in this folder"))) << name;
  }
  ChangeIndex([&](Json& map) { map[kNorm] = 5; });
  EXPECT_THAT(Refusal(), HasSubstr("not the name of a file"));
  ChangeIndex([&](Json& map) { map[kNorm] = "absent.safetensors"; });
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("/hf/absent.safetensors"), HasSubstr("no such file")));
}

TEST_F(Refusals, BrokenIndexes) {
  for (const char* text : {"", "{}", "[]", "{\"weight_map\":[]}", "{\"weight_map\":{\"a\":\"b\",\"a\":\"b\"}}"}) {
    disk_.Contents(kIndex) = text;
    EXPECT_THAT(Refusal(), HasSubstr(kIndex)) << text;
  }
}

TEST_F(Refusals, ATruncatedShard) {
  std::string& shard = disk_.Contents(ShardOf(kNorm));
  shard.resize(shard.size() - 1);
  EXPECT_THAT(Refusal(), AllOf(HasSubstr(ShardOf(kNorm)), HasSubstr("truncated")));
}

TEST_F(Refusals, NumbersThatAreNone) {
  const std::string name = "model.layers.1.self_attn.kv_b_proj.weight";  // [12, 5]
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    ChangeTensor(name, [&](StoredTensor& tensor) { std::memcpy(tensor.bytes.data() + 4 * 13, &value, 4); });
    EXPECT_THAT(Refusal(), AllOf(HasSubstr(ShardOf(name)), HasSubstr(name), HasSubstr("at row 2, column 3"))) << value;
  }
}

TEST_F(Refusals, CopiesThatDiffer) {
  const std::string name = "model.layers.2.embed_tokens.weight";
  ChangeTensor(name, [](StoredTensor& tensor) { tensor.bytes[40] ^= std::byte{1}; });
  EXPECT_THAT(Refusal(), HasSubstr(name + " differs from model.embed_tokens.weight"));
  ChangeTensor(name, [](StoredTensor& tensor) { std::swap(tensor.spec.shape[0], tensor.spec.shape[1]); });
  EXPECT_THAT(Refusal(), HasSubstr("it must be a copy of model.embed_tokens.weight"));
}

TEST_F(Refusals, TensorsTwice) {
  const std::string shard = ShardOf("model.embed_tokens.weight");
  ASSERT_NE(shard, ShardOf(kNorm));
  ASSERT_TRUE(disk_.Remove(kIndex).ok());
  ChangeShard(shard, [](std::vector<StoredTensor>& tensors) {
    tensors.push_back({{kNorm, kStF32, {10}}, std::vector<std::byte>(40)});
  });
  EXPECT_THAT(Refusal(), AllOf(HasSubstr(kNorm), HasSubstr("and in")));
}

TEST_F(Refusals, MtpModulesThatAreHalfThere) {
  ChangeShard(ShardOf("model.layers.3.eh_proj.weight"), [](std::vector<StoredTensor>& tensors) {
    std::erase_if(tensors, [](const StoredTensor& tensor) { return tensor.spec.name == "model.layers.3.eh_proj.weight"; });
  });
  ChangeIndex([](Json& map) { map.erase("model.layers.3.eh_proj.weight"); });
  EXPECT_THAT(Refusal(), HasSubstr("model.layers.3.eh_proj.weight is missing"));
}

// A published config may promise modules that the files do not have: transformers writes such ones.
TEST_F(Refusals, ButNotMtpModulesThatAreNotThere) {
  const auto of_module = [](const StoredTensor& tensor) {
    return tensor.spec.name.find(".layers.2.") != std::string::npos || tensor.spec.name.find(".layers.3.") != std::string::npos;
  };
  const std::vector<std::string> names = *disk_.List("/hf");
  for (const std::string& name : names)
    if (absl::EndsWith(name, ".safetensors"))
      ChangeShard("/hf/" + name, [&](std::vector<StoredTensor>& tensors) { std::erase_if(tensors, of_module); });
  ASSERT_TRUE(disk_.Remove(kIndex).ok());
  ASSERT_TRUE(ImportCheckpoint(disk_, "/hf", "/run").ok());
  const auto reader = CheckpointReader::Open(disk_, std::string("/run/") + kImported);
  EXPECT_EQ(ParseRunConfig(reader->config_text(), "config", {})->model().mtp().depth(), 0);
}

TEST_F(Refusals, ConfigsThatAreNone) {
  Json config = Json::parse(disk_.Contents("/hf/config.json"));
  config["num_experts_per_tok"] = 99;
  disk_.Contents("/hf/config.json") = config.dump();
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("/hf/config.json"), HasSubstr("model.moe.top_k = 99")));
  ASSERT_TRUE(disk_.Remove("/hf/config.json").ok());
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("/hf/config.json"), HasSubstr("--input")));
}

TEST_F(Refusals, ConfigsThatAskForAnyNumberOfTensors) {
  Json config = Json::parse(disk_.Contents("/hf/config.json"));
  config["num_hidden_layers"] = 1024;
  config["n_routed_experts"] = 8192;  // 25 million tensors in all
  disk_.Contents("/hf/config.json") = config.dump();
  const std::string refusal = Refusal();
  EXPECT_THAT(refusal.substr(0, 1000), HasSubstr("experts.8.gate_proj.weight is missing"));
  EXPECT_LT(refusal.size(), 20'000'000);
}

TEST_F(Refusals, GitLfsPointers) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:07\nsize 123456\n";
  WriteText(disk_, "/hf/tokenizer.json", pointer);
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("/hf/tokenizer.json"), HasSubstr("git lfs pull")));
  for (const std::string& path : {ShardOf(kNorm), std::string(kIndex), std::string("/hf/config.json")}) {
    disk_.Contents(path) = pointer;
    EXPECT_THAT(Refusal(), AllOf(HasSubstr(path + ": is a Git LFS pointer"), HasSubstr("git lfs pull")));
  }
}

TEST_F(Refusals, ButNotFilesThatMacosLeaves) {
  for (const bool indexed : {true, false}) {
    WriteText(disk_, "/hf/._model-00001-of-00004.safetensors", std::string("\0\x05\x16\x07", 4));
    if (!indexed) {
      ASSERT_TRUE(disk_.Remove(kIndex).ok());
    }
    testing::internal::CaptureStderr();
    EXPECT_TRUE(ImportCheckpoint(disk_, "/hf", "/run").ok());
    EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("/hf/._model-00001-of-00004.safetensors: is passed over"));
    ASSERT_TRUE(RemoveTree(disk_, "/run").ok());
  }
}

TEST_F(Refusals, ShardsThatTheIndexDoesNotName) {
  WriteText(disk_, "/hf/model.safetensors", disk_.Contents(ShardOf(kNorm)));
  EXPECT_THAT(Refusal(), HasSubstr("model.safetensors: is in the folder, but not in the index"));
}

TEST_F(Refusals, TensorsThatNobodyReads) {
  const auto add = [&](const std::string& name, const SafetensorsSpec& spec, size_t bytes) {
    ChangeTensor(kNorm, [](StoredTensor&) {});
    ChangeShard(ShardOf(kNorm), [&](std::vector<StoredTensor>& tensors) {
      tensors.push_back({{name, spec.dtype, spec.shape}, std::vector<std::byte>(bytes)});
    });
    ChangeIndex([&](Json& map) { map[name] = map[kNorm]; });
  };
  add("model.norm.weight_scale_inv", {"", kStF32, {1, 1}}, 4);  // of a weight that is not in FP8
  add("model.layers.1.empty", {"", kStF32, {0, 7}}, 0);
  add("model.layers.0.self_attn.q_a_proj.bias", {"", kStF32, {6}}, 24);
  add("model.layers.0.self_attn.rotary_emb.inv_freq", {"", kStF32, {2}}, 8);  // that one may be left
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("3 things"),
                               HasSubstr("model.norm.weight_scale_inv is F32 [1, 1], which config.json has no place for"),
                               HasSubstr("model.layers.1.empty is"), HasSubstr("q_a_proj.bias is")));
}

// What an export would leave behind, or could not hold.
TEST_F(Refusals, CheckpointsThatAnExportCannotHold) {
  RunConfig smaller = config_;
  smaller.mutable_model()->mutable_mtp()->set_depth(1);
  smaller.mutable_model()->mutable_moe()->set_routed_experts(config_.model().moe().routed_experts() / 2);
  const absl::Status left = Export(disk_, "/a", smaller, {.output = "/out"}).status();
  EXPECT_EQ(ExitCodeOf(left), ExitCode::kIntegrity);
  EXPECT_THAT(std::string(left.message()),
              AllOf(HasSubstr("weight/model.layers.3.eh_proj.weight"), HasSubstr("has no place in the network")));
  const auto with = [&](float value, HfPrecision precision) {
    EXPECT_TRUE(RemoveTree(disk_, "/b").ok());
    WriteCheckpoint(disk_, "/b", config_, [&](const std::string& name, std::vector<float>& numbers) {
      if (name == "weight/model.norm.weight") numbers[7] = value;
    });
    const absl::Status status = Export(disk_, "/b", config_, {.output = "/out", .precision = precision}).status();
    EXPECT_FALSE(*disk_.Stat("/out"));
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(with(std::numeric_limits<float>::quiet_NaN(), HfPrecision::kFp32),
              HasSubstr("/b: element 7 of model.norm.weight is nan in the checkpoint"));
  EXPECT_THAT(with(std::numeric_limits<float>::max(), HfPrecision::kBf16),
              HasSubstr("element 7 of model.norm.weight is inf when rounded to BF16"));
}

TEST_F(Refusals, OutputsThatAreTaken) {
  ASSERT_TRUE(ImportCheckpoint(disk_, "/hf", "/run").ok());
  const auto again = ImportCheckpoint(disk_, "/hf", "/run");
  EXPECT_EQ(ExitCodeOf(again.status()), ExitCode::kUsage);
  EXPECT_THAT(std::string(again.status().message()), AllOf(HasSubstr("/run"), HasSubstr("--output")));
  EXPECT_EQ(ExitCodeOf(Export(disk_, "/a", config_, {.output = "/hf"}).status()), ExitCode::kUsage);
  EXPECT_EQ(ExitCodeOf(Export(disk_, "/a", config_, {.output = "/hf/config.json"}).status()), ExitCode::kUsage);
}

// Every operation on the disk fails once: a clear failure, and neither OUTPUT nor OUTPUT.partial is left, unless the disk also
// refused to remove it; the next attempt succeeds all the same.
TEST_F(Refusals, ADiskThatFails) {
  const auto run = [&](FileSystem& files, bool out) {
    return out ? Export(files, "/a", config_, {.output = "/out", .precision = HfPrecision::kFp8, .shard_bytes = 9000}).status()
               : ImportCheckpoint(files, "/hf", "/out").status();
  };
  for (const bool out : {false, true}) {
    FaultFileSystem counter(disk_, {});
    ASSERT_TRUE(run(counter, out).ok());
    ASSERT_TRUE(RemoveTree(disk_, "/out").ok());
    int failures = 0;
    for (int64_t n = 0; n < counter.operations(); n += n < 40 || n > counter.operations() - 60 ? 1 : 97) {
      FaultPlan plan;
      plan.first_failure = n;
      FaultFileSystem faulty(disk_, plan);
      const absl::Status status = run(faulty, out);
      if (status.ok()) {  // it could do without
        ASSERT_TRUE(RemoveTree(disk_, "/out").ok());
        continue;
      }
      ++failures;
      EXPECT_NE(ExitCodeOf(status), ExitCode::kUsage) << n << ": " << status;
      EXPECT_THAT(*disk_.List("/"), Not(testing::Contains("out.partial"))) << n << ": " << status;
      ASSERT_TRUE(RemoveTree(disk_, "/out").ok());  // there only where its last sync failed
    }
    EXPECT_GT(failures, 50);
  }
}

}  // namespace
}  // namespace jevons
