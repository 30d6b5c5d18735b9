// Out to the published layout and back as a user does it: train, export, import, generate, score, train on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "launch/process.h"
#include "tests/support/paths.h"
#include "trainer/files/safetensors.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kTimeout = 120;  // seconds; a run here takes a few
const std::string kJevons = BinaryPath("jevons");

ProcessResult Jevons(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), kJevons);
  return RunProcess(std::move(arguments), kTimeout);
}

std::string Contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class InteropCli : public testing::Test {
 protected:
  // A tiny model, trained for a few steps: folder_/run.
  static void SetUpTestSuite() {
    folder_ = fs::path(testing::TempDir()) / absl::StrCat("jevons_interop_cli_", getpid());
    fs::create_directories(folder_);
    std::ofstream text(folder_ / "text.txt");
    for (int i = 0; i < 60; ++i) text << "In the beginning there were " << i << " cats, and each of them sat on a mat.\n\n";
    text.close();
    const ProcessResult prepared =
        Jevons({"prepare", "--input", folder_ / "text.txt", "--output", folder_ / "data", "--vocab-size", "300"});
    ASSERT_EQ(prepared.exit_code, 0) << prepared.err;
    const ProcessResult trained = Jevons(Train("run", {"train.steps=6"}));
    ASSERT_EQ(trained.exit_code, 0) << trained.err;
    const ProcessResult exported = Jevons({"export", "--checkpoint", folder_ / "run", "--output", folder_ / "model"});
    ASSERT_EQ(exported.exit_code, 0) << exported.err;
  }
  static void TearDownTestSuite() { fs::remove_all(folder_); }

  static std::vector<std::string> Train(const std::string& output, const std::vector<std::string>& overrides,
                                        const std::string& config = SourcePath("configs/presets/quickstart_cpu.textproto")) {
    std::vector<std::string> command = {"train", "--config", config, "--output", folder_ / output};
    std::vector<std::string> all = {absl::StrCat("data.path=", (folder_ / "data").string()),
                                    "parallel.threads=1",
                                    "data.sequence_length=32",
                                    "train.batch_sequences=2",
                                    "train.micro_batch_sequences=1",
                                    "cost.peak_tflops=1"};
    if (output == "run")
      all.insert(all.end(), {"model.hidden_size=32", "model.dense_intermediate_size=32", "model.moe.intermediate_size=16"});
    all.insert(all.end(), overrides.begin(), overrides.end());
    for (const std::string& override_text : all) command.insert(command.end(), {"--set", override_text});
    return command;
  }

  // A copy of the published folder, to spoil.
  static fs::path Copy(const std::string& name) {
    fs::remove_all(folder_ / name);
    fs::copy(folder_ / "model", folder_ / name);
    return folder_ / name;
  }

  static void WriteTokens(const std::string& name, const std::vector<int64_t>& ids, int64_t sequences) {
    auto writer = SafetensorsWriter::Create(PosixFileSystem(), folder_ / name,
                                            {{"input_ids", kStI64, {sequences, static_cast<int64_t>(ids.size()) / sequences}}});
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE(writer->Append(std::as_bytes(std::span(ids))).ok());
    ASSERT_TRUE(writer->Finish().ok());
  }

  static std::vector<double> ValidationLosses(const std::string& run) {
    std::ifstream file(folder_ / run / "metrics.jsonl");
    std::vector<double> losses;
    for (std::string line; std::getline(file, line);) {
      const auto record = nlohmann::json::parse(line);
      if (record.contains("validation/loss")) losses.push_back(record["validation/loss"]);
    }
    return losses;
  }

  static fs::path folder_;
};

fs::path InteropCli::folder_;

TEST_F(InteropCli, ThereAndBackAgain) {
  const fs::path model = folder_ / "model";
  for (const char* name : {"config.json", "generation_config.json", "model-00001-of-00001.safetensors",
                           "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"})
    EXPECT_TRUE(fs::exists(model / name)) << name;
  EXPECT_EQ(Contents(model / "tokenizer.json"), Contents(folder_ / "data/tokenizer.json"));
  EXPECT_EQ(nlohmann::json::parse(Contents(model / "config.json"))["torch_dtype"], "float32") << "what the run computed in";
  EXPECT_FALSE(fs::exists(folder_ / "model.partial"));

  const ProcessResult imported = Jevons({"import", "--input", model, "--output", folder_ / "again"});
  ASSERT_EQ(imported.exit_code, 0) << imported.err;
  // The very same model: the same text, the same scores.
  const auto generate = [&](const std::string& run) {
    return Jevons({"generate", "--checkpoint", folder_ / run, "--prompt", "In the", "--tokens", "24", "--temperature", "0"});
  };
  const ProcessResult text = generate("run");
  ASSERT_EQ(text.exit_code, 0) << text.err;
  EXPECT_EQ(generate("again").out, text.out);
  WriteTokens("tokens.safetensors", {5, 6, 7, 8, 9, 10, 11, 12, 13, 14}, 2);
  const auto score = [&](const std::string& run) {
    const ProcessResult result = Jevons({"score", "--checkpoint", folder_ / run, "--tokens", folder_ / "tokens.safetensors",
                                         "--output", folder_ / (run + ".safetensors"), "--logits", "--gradients", "--mtp"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return Contents(folder_ / (run + ".safetensors"));
  };
  EXPECT_EQ(score("run"), score("again"));
  EXPECT_GT(fs::file_size(folder_ / "run.safetensors"), 100'000);
}

TEST_F(InteropCli, WhatAnImportSuggestsRunsAsPrinted) {
  for (const char* name : {"plain", "with 'odd' names"}) {
    const ProcessResult imported = Jevons({"import", "--input", folder_ / "model", "--output", folder_ / name});
    ASSERT_EQ(imported.exit_code, 0) << imported.err;
    const size_t begin = imported.out.find("`jevons ") + 8, end = imported.out.find('`', begin);
    ASSERT_NE(end, std::string::npos) << imported.out;
    const ProcessResult next = RunProcess({"/bin/sh", "-c", kJevons + " " + imported.out.substr(begin, end - begin)}, kTimeout);
    EXPECT_EQ(next.exit_code, 0) << imported.out << next.err;
    EXPECT_THAT(next.out, HasSubstr(std::string(folder_ / name) + "/checkpoints/step-00000000\n")) << imported.out;
    EXPECT_EQ(imported.out.find('`', end + 1), std::string::npos) << "a command that this test does not run: " << imported.out;
    fs::remove_all(folder_ / name);
  }
}

// The context that the network was made for, not the one that it began with.
TEST_F(InteropCli, AnImportsSequencesAreAsLongAsTheNetworkReaches) {
  const fs::path longer = Copy("longer");
  auto config = nlohmann::json::parse(Contents(longer / "config.json"));
  config["max_position_embeddings"] = 1024;
  config["rope_scaling"] = {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 256}};
  std::ofstream(longer / "config.json") << config;
  ASSERT_EQ(Jevons({"import", "--input", longer, "--output", folder_ / "longer_run"}).exit_code, 0);
  EXPECT_THAT(Contents(folder_ / "longer_run/config.textproto"), HasSubstr("sequence_length: 1024"));
  // And out again.
  ASSERT_EQ(Jevons({"export", "--checkpoint", folder_ / "longer_run", "--output", folder_ / "longer_out"}).exit_code, 0);
  EXPECT_EQ(nlohmann::json::parse(Contents(folder_ / "longer_out/config.json"))["max_position_embeddings"], 1024);
}

TEST_F(InteropCli, VerifyExportProvesEachPrecisionAndNamesDamage) {
  for (const char* precision : {"bf16", "fp8", "fp32"}) {
    const fs::path output = folder_ / (std::string("proven_") + precision);
    ASSERT_EQ(Jevons({"export", "--checkpoint", folder_ / "run", "--output", output, "--precision", precision}).exit_code, 0);
    const ProcessResult good = Jevons({"verify-export", folder_ / "run", output});
    EXPECT_EQ(good.exit_code, 0) << good.err;
    const size_t tensors = nlohmann::json::parse(Contents(output / "model.safetensors.index.json"))["weight_map"].size();
    EXPECT_THAT(good.out, HasSubstr(absl::StrCat("all ", tensors, " tensors (", precision, ", ")));

    const fs::path shard = output / "model-00001-of-00001.safetensors";
    std::string bytes = Contents(shard);
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    std::ofstream(shard, std::ios::binary) << bytes;
    const ProcessResult bad = Jevons({"verify-export", folder_ / "run", output});
    EXPECT_EQ(bad.exit_code, 3);
    EXPECT_EQ(bad.out, "");
    EXPECT_THAT(bad.err, AllOf(HasSubstr(output.string()), HasSubstr("differs in 1 of "))) << bad.err;
  }
  // MTP modules may be left out, and nothing else.
  const fs::path output = folder_ / "without_mtp";
  const std::vector<std::string> without = {"--set", "model.mtp.depth=0"};
  const auto with = [](std::vector<std::string> command, const std::vector<std::string>& more) {
    command.insert(command.end(), more.begin(), more.end());
    return Jevons(command);
  };
  const ProcessResult exported = with({"export", "--checkpoint", folder_ / "run", "--output", output}, without);
  ASSERT_EQ(exported.exit_code, 0) << exported.err;
  EXPECT_EQ(nlohmann::json::parse(Contents(output / "config.json"))["num_nextn_predict_layers"], 0);
  EXPECT_THAT(Contents(output / "model.safetensors.index.json"), Not(HasSubstr("eh_proj")));
  EXPECT_EQ(with({"verify-export", folder_ / "run", output}, without).exit_code, 0);
  EXPECT_EQ(Jevons({"verify-export", folder_ / "run", output}).exit_code, 3) << "the whole network is not there";
  const ProcessResult fewer =
      with({"export", "--checkpoint", folder_ / "run", "--output", folder_ / "fewer"}, {"--set", "model.layers=3"});
  EXPECT_EQ(fewer.exit_code, 3);
  EXPECT_THAT(fewer.err, HasSubstr("has no place in the network"));
  const fs::path spoiled = Copy("unproven");
  std::ofstream(spoiled / "tokenizer.json", std::ios::app) << "\n";
  const ProcessResult bad = Jevons({"verify-export", folder_ / "run", spoiled});
  EXPECT_EQ(bad.exit_code, 3);
  EXPECT_THAT(bad.err, HasSubstr("tokenizer.json differs from the run's"));
  EXPECT_EQ(Jevons({"verify-export", folder_ / "run", folder_ / "none"}).exit_code, 3);
  EXPECT_EQ(Jevons({"verify-export", folder_ / "none", folder_ / "model"}).exit_code, 3);
  EXPECT_EQ(Jevons({"verify-export", folder_ / "run"}).exit_code, 2);
  EXPECT_THAT(Jevons({"verify-export", "--help"}).out, testing::StartsWith("Example:\n  jevons verify-export run model"));
}

TEST_F(InteropCli, TrainingGoesOnFromAnImport) {
  ASSERT_EQ(Jevons({"import", "--input", folder_ / "model", "--output", folder_ / "base"}).exit_code, 0);
  const std::string config = folder_ / "base/config.textproto";
  const ProcessResult trained = Jevons(Train("base", {"train.steps=3", "checkpoint.interval=1", "log.interval=1"}, config));
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_THAT(trained.err, AllOf(HasSubstr("resumed after step 0"), HasSubstr("step 3/3")));
  // It begins with the loss that the run before ended with.
  EXPECT_EQ(ValidationLosses("base").front(), ValidationLosses("run").back());
  // The network is the checkpoint's.
  const ProcessResult other = Jevons(Train("base", {"train.steps=4", "model.norm_eps=1e-3"}, config));
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_THAT(other.err, HasSubstr("norm_eps"));
}

TEST_F(InteropCli, PrecisionsAreNamed) {
  for (const char* precision : {"bf16", "fp8", "fp32"}) {
    const std::string output = folder_ / (std::string("out_") + precision);
    const ProcessResult exported =
        Jevons({"export", "--checkpoint", folder_ / "run", "--output", output, "--precision", precision});
    ASSERT_EQ(exported.exit_code, 0) << exported.err;
    const ProcessResult imported = Jevons({"import", "--input", output, "--output", output + "_run"});
    EXPECT_EQ(imported.exit_code, 0) << imported.err;
  }
  const ProcessResult wrong =
      Jevons({"export", "--checkpoint", folder_ / "run", "--output", folder_ / "out_x", "--precision", "int4"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("fp8"));
}

TEST_F(InteropCli, BadCheckpointsAreRefusedAndLeaveNothing) {
  const std::string shard = "model-00001-of-00001.safetensors", index = "model.safetensors.index.json";
  struct Case {
    const char* expected;
    std::function<void(const fs::path&)> spoil;
  };
  const auto replace = [](const fs::path& path, const std::string& from, const std::string& to) {
    std::string text = Contents(path);
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    std::ofstream(path, std::ios::binary) << text;
  };
  const Case cases[] = {
      {"truncated", [&](const fs::path& f) { fs::resize_file(f / shard, fs::file_size(f / shard) - 5); }},
      {"header claims 9223372036854775808",
       [&](const fs::path& f) { std::ofstream(f / shard, std::ios::binary) << std::string("\0\0\0\0\0\0\0\x80{}", 10); }},
      {"\"lm_head.weight\" is given twice",
       [&](const fs::path& f) { replace(f / shard, "\"model.norm.weight\"", "\"lm_head.weight\"   "); }},
      {"not in the index", [&](const fs::path& f) { replace(f / index, "\"model.norm.weight\"", "\"model.harm.weight\""); }},
      {"not the name of a file in this folder", [&](const fs::path& f) { replace(f / index, shard, "../model/" + shard); }},
      {"duplicate key", [&](const fs::path& f) { replace(f / "config.json", "\"hidden_size\"", "\"kv_lora_rank\""); }},
      {"model_type is \"gpt2\"",
       [&](const fs::path& f) {
         replace(f / "config.json", "deepseek_v3", "gpt2");
         replace(f / "config.json", "DeepseekV3ForCausalLM", "GPT2LMHeadModel");
       }},
      {"Git LFS pointer",
       [&](const fs::path& f) {
         std::ofstream(f / shard) << "version https://git-lfs.github.com/spec/v1\noid sha256:7\nsize 5\n";
       }},
      {"rope_scaling",
       [&](const fs::path& f) {
         replace(f / "config.json", "\"rope_scaling\": null",
                 R"("rope_parameters": {"rope_type": "default"}, "rope_scaling": )"
                 R"({"type": "yarn", "factor": 4, "original_max_position_embeddings": 8})");
       }},
      {"no such file", [&](const fs::path& f) { fs::remove(f / "config.json"); }},
      {"there is no *.safetensors file",
       [&](const fs::path& f) {
         fs::remove(f / shard);
         fs::remove(f / index);
       }},
  };
  for (const Case& test : cases) {
    const fs::path spoiled = Copy("spoiled");
    test.spoil(spoiled);
    const ProcessResult result = Jevons({"import", "--input", spoiled, "--output", folder_ / "never"});
    EXPECT_EQ(result.exit_code, 3) << test.expected << ": " << result.err;
    EXPECT_THAT(result.err, AllOf(HasSubstr(test.expected), HasSubstr("spoiled")));
    EXPECT_EQ(result.out, "");
    for (const char* name : {"never", "never.partial"}) EXPECT_FALSE(fs::exists(folder_ / name)) << test.expected;
  }
}

TEST_F(InteropCli, TokenizeRefusesLinesByNumber) {
  const auto tokenize = [&](const std::string& line, const std::vector<std::string>& flags) {
    std::ofstream(folder_ / "lines.jsonl") << (flags.empty() ? "\"a\"\n" : "[70]\n") << line << "\n";
    std::vector<std::string> command = {"tokenize", "--tokenizer", folder_ / "data/tokenizer.json", "--input",
                                        folder_ / "lines.jsonl"};
    command.insert(command.end(), flags.begin(), flags.end());
    const ProcessResult result = Jevons(command);
    EXPECT_EQ(result.exit_code, 2) << line.substr(0, 40);
    EXPECT_NE(result.out, "") << "the line before is well";
    EXPECT_THAT(result.err, HasSubstr("lines.jsonl, line 2"));
    EXPECT_LT(result.err.size(), 1000) << line.substr(0, 40);
    return result.err;
  };
  const std::string deep = std::string(1'000'000, '[') + std::string(1'000'000, ']');
  EXPECT_THAT(tokenize(deep, {"--decode"}), HasSubstr("nested deeper"));
  EXPECT_THAT(tokenize(deep, {}), HasSubstr("nested deeper"));
  EXPECT_THAT(tokenize("[[" + std::string(100'000, '1') + "]]", {"--decode"}), HasSubstr("line 2"));
  EXPECT_THAT(tokenize("[99999999]", {"--decode"}), HasSubstr("token id 99999999"));
  EXPECT_THAT(tokenize("\"\\ud800\"", {}), HasSubstr("not valid JSON"));
  EXPECT_THAT(tokenize("7", {}), HasSubstr("not a JSON string"));
}

TEST_F(InteropCli, OutputsAndArguments) {
  const ProcessResult taken = Jevons({"import", "--input", folder_ / "model", "--output", folder_ / "run"});
  EXPECT_EQ(taken.exit_code, 2);
  EXPECT_THAT(taken.err, AllOf(HasSubstr("not empty"), HasSubstr("--output")));
  EXPECT_EQ(Jevons({"export", "--checkpoint", folder_ / "run", "--output", folder_ / "run"}).exit_code, 2);
  EXPECT_EQ(Jevons({"export", "--checkpoint", folder_ / "none", "--output", folder_ / "x"}).exit_code, 3);
  EXPECT_EQ(Jevons({"import", "--input", folder_ / "none", "--output", folder_ / "x"}).exit_code, 3);
  EXPECT_EQ(Jevons({"import", "--output", folder_ / "x"}).exit_code, 2);
  EXPECT_EQ(Jevons({"score", "--checkpoint", folder_ / "run", "--tokens", folder_ / "none", "--output", folder_ / "x"}).exit_code,
            3);
  WriteTokens("high.safetensors", {1, 2, 99999, 4}, 1);
  const ProcessResult high =
      Jevons({"score", "--checkpoint", folder_ / "run", "--tokens", folder_ / "high.safetensors", "--output", folder_ / "x"});
  EXPECT_EQ(high.exit_code, 3);
  EXPECT_THAT(high.err, AllOf(HasSubstr("high.safetensors"), HasSubstr("99999")));
  EXPECT_FALSE(fs::exists(folder_ / "x"));
  const std::string tokens = Contents(folder_ / "high.safetensors");
  const ProcessResult itself = Jevons({"score", "--checkpoint", folder_ / "run", "--tokens", folder_ / "high.safetensors",
                                       "--output", folder_ / "./high.safetensors"});
  EXPECT_EQ(itself.exit_code, 2);
  EXPECT_THAT(itself.err, HasSubstr("--tokens"));
  EXPECT_EQ(Contents(folder_ / "high.safetensors"), tokens);
  // Without its tokenizer a checkpoint is not exported by halves.
  const ProcessResult gone = Jevons({"export", "--checkpoint", folder_ / "run", "--output", folder_ / "x", "--set",
                                     absl::StrCat("data.path=", (folder_ / "elsewhere").string())});
  EXPECT_EQ(gone.exit_code, 3);
  EXPECT_THAT(gone.err, HasSubstr("data.tokenizer"));
}

}  // namespace
}  // namespace jevons
