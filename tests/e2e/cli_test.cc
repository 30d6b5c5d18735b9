// `jevons` from the outside: help, errors, exit codes, output streams.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "launch/process.h"
#include "tests/support/paths.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kPreset671B = SourcePath("configs/presets/deepseek_v3_671b.textproto");
constexpr double kTimeout = 60;  // seconds; every command here is done in far less

ProcessResult Jevons(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), BinaryPath("jevons"));
  return RunProcess(std::move(arguments), kTimeout);
}

class EveryCommand : public ::testing::TestWithParam<const char*> {};

TEST_P(EveryCommand, HelpBeginsWithAnExampleOfItself) {
  const ProcessResult result = Jevons({GetParam(), "--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, StartsWith("Example:\n  "));
  const std::string example = result.out.substr(0, result.out.find("\n\n"));
  EXPECT_THAT(example, HasSubstr(std::string("jevons ") + GetParam()));
  EXPECT_EQ(result.err, "");
}

TEST_P(EveryCommand, UnknownFlagIsAUsageError) {
  const ProcessResult result = Jevons({GetParam(), "--no-such-flag=1"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, StartsWith("error: --no-such-flag: unknown flag"));
}

INSTANTIATE_TEST_SUITE_P(Cli, EveryCommand,
                         ::testing::Values("prepare", "train", "eval", "generate", "score", "import", "export",
                                           "tokenize", "inspect", "plan", "bench", "doctor"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Cli, HelpListsCommandsAndExitCodes) {
  const ProcessResult result = Jevons({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, StartsWith("Example:\n  jevons prepare"));
  EXPECT_THAT(result.out, HasSubstr("75 stopped by a signal"));
}

TEST(Cli, VersionNamesCompilerAndBackends) {
  const ProcessResult result = Jevons({"--version"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, StartsWith("jevons 0."));
  EXPECT_THAT(result.out, HasSubstr("\nbackends cpu"));
}

TEST(Cli, NoCommandIsAUsageError) {
  const ProcessResult result = Jevons({});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("jevons --help"));
}

TEST(Cli, MisspeltNamesAreGuessed) {
  EXPECT_THAT(Jevons({"inspct"}).err, HasSubstr("inspct: unknown command; did you mean inspect?"));
  EXPECT_THAT(Jevons({"inspect", "--confg", "x"}).err,
              HasSubstr("--confg: unknown flag; did you mean --config?"));
}

TEST(Cli, FullDiskBehindStandardOutputIsAFailureAndAClosedPipeIsNot) {
  const std::string inspect =
      BinaryPath("jevons") + " inspect --params --config " + kPreset671B;
  const ProcessResult full = RunProcess({"sh", "-c", inspect + " > /dev/full"}, kTimeout);
  EXPECT_EQ(full.exit_code, 1);
  EXPECT_THAT(full.err, HasSubstr("standard output"));
  const ProcessResult closed =
      RunProcess({"bash", "-c", "set -o pipefail; " + inspect + " | true"}, kTimeout);
  EXPECT_EQ(closed.exit_code, 0);
  EXPECT_EQ(closed.err, "");
}

TEST(InspectConfig, ThePublishedSizesOfDeepSeekV3) {
  const ProcessResult result = Jevons({"inspect", "--config", kPreset671B, "--params", "--flops"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("671.03B"));
  EXPECT_THAT(result.out, HasSubstr("36.63B"));
  EXPECT_THAT(result.out, HasSubstr("11.51B"));
  EXPECT_THAT(result.out, HasSubstr("250.5 GFLOP per token causal"));
}

TEST(InspectConfig, JsonIsExact) {
  const ProcessResult result =
      Jevons({"inspect", "--config", kPreset671B, "--params", "--flops", "--print-config", "--json"});
  const auto json = nlohmann::json::parse(result.out, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(json.is_object()) << result.out << result.err;
  EXPECT_EQ(json["params"]["total"], 671026404352);
  EXPECT_EQ(json["config"]["model"]["layers"], 61);
  EXPECT_NEAR(json["flops"]["causal"]["training_per_token_without_mtp"], 250.5e9, 0.1e9);
}

TEST(InspectConfig, ResolvedConfigIsAConfig) {
  const ProcessResult first = Jevons({"inspect", "--config", kPreset671B, "--print-config"});
  const std::string copy = ::testing::TempDir() + "/resolved.textproto";
  std::ofstream(copy) << first.out;
  EXPECT_EQ(Jevons({"inspect", "--config", copy, "--print-config"}).out, first.out);
}

TEST(BadConfig, OneClearErrorForOneBadValue) {
  const ProcessResult result =
      Jevons({"inspect", "--config", kPreset671B, "--set", "model.moe.routed_experts=255", "--params"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("model.moe.routed_experts = 255"));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

TEST(BadConfig, UnknownFieldsAndMissingFilesAreNamed) {
  const ProcessResult field =
      Jevons({"inspect", "--config", kPreset671B, "--set", "model.layer=4", "--params"});
  EXPECT_EQ(field.exit_code, 2);
  EXPECT_THAT(field.err, HasSubstr("model.layers"));
  const ProcessResult file = Jevons({"inspect", "--config", "no_such.textproto", "--params"});
  EXPECT_EQ(file.exit_code, 2);
  EXPECT_THAT(file.err, HasSubstr("no_such.textproto"));
}

TEST(Doctor, FindsThatThisMachineCanTrain) {
  const ProcessResult result = Jevons({"doctor", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  const auto json = nlohmann::json::parse(result.out, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(json.is_object()) << result.out;
  EXPECT_EQ(json["can_train_on_cpu"], true);
  EXPECT_THAT(result.out, HasSubstr("two ranks heard of each other"));
}

TEST(Doctor, SaysWhatIsMissing) {
  const std::vector<std::string> no_path = {"PATH=/nonexistent"};
  auto process = Process::Start({BinaryPath("jevons"), "doctor"}, no_path);
  ASSERT_TRUE(process.ok()) << process.status();
  const ProcessResult result = process->Wait(kTimeout);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out, HasSubstr("bad     mpi "));
  EXPECT_THAT(result.out, HasSubstr("-> ./launch/setup.sh"));
}

class PrepareCommand : public ::testing::Test {
 protected:
  PrepareCommand() {
    std::string pattern = fs::temp_directory_path() / "jevons_cli_XXXXXX";
    root_ = mkdtemp(pattern.data());
  }
  ~PrepareCommand() override { fs::remove_all(root_); }

  std::string root_;
};

TEST_F(PrepareCommand, MakesADatasetAndReportsOnStandardOutput) {
  std::ofstream(root_ + "/a.txt") << "the cat sat on the mat\n\nthe dog sat on the log\n";
  const ProcessResult result = Jevons({"prepare", "--input", root_ + "/a.txt", "--output", root_ + "/data",
                                       "--vocab-size", "270", "--validation-fraction", "0.5", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(json.is_object()) << result.out;
  EXPECT_EQ(json["train"]["documents"], 1);
  EXPECT_EQ(json["validation"]["documents"], 1);
  EXPECT_TRUE(fs::exists(root_ + "/data/tokenizer.json"));
}

TEST_F(PrepareCommand, BadLinesStopItOrAreCounted) {
  std::ofstream(root_ + "/a.ndjson")
      << "{\"text\": \"the cat\", \"score\": NaN}\n{\"text\": \"torn\n{\"text\": \"the dog\"}\n";
  std::vector<std::string> command = {"prepare",  "--input",       root_ + "/*.ndjson",
                                      "--output", root_ + "/data", "--vocab-size",
                                      "262",      "--json"};
  const ProcessResult stopped = Jevons(command);
  EXPECT_EQ(stopped.exit_code, 3);
  EXPECT_THAT(stopped.err, HasSubstr("/a.ndjson:2: not valid JSON"));
  EXPECT_FALSE(fs::exists(root_ + "/data"));
  command.insert(command.end(), {"--on-bad-line", "skip"});
  const ProcessResult skipped = Jevons(command);
  EXPECT_EQ(skipped.exit_code, 0) << skipped.err;
  const auto json = nlohmann::json::parse(skipped.out, nullptr, /*allow_exceptions=*/false);
  EXPECT_EQ(json["bad_documents"], 1);
  EXPECT_EQ(json["train"]["documents"].get<int>() + json["validation"]["documents"].get<int>(), 2);
  command.back() = "ignore";
  EXPECT_EQ(Jevons(command).exit_code, 2);
}

TEST_F(PrepareCommand, OptionsThatWouldBeIgnoredAreRefused) {
  std::ofstream(root_ + "/a.txt") << "the cat<>the dog\n";
  const std::vector<std::string> command = {"prepare", "--input", root_ + "/a.txt", "--output",
                                            root_ + "/data"};
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{"--vocab-size", "262", "--document-separator", "<>", "--document-rule",
                                 "file"},
        std::vector<std::string>{"--vocab-size", "262", "--end-token", "</s>"},
        std::vector<std::string>{"--vocab-size", "262", "--seed", "-1"},
        std::vector<std::string>{"--tokenizer", "t.json", "--tokenizer-sample-bytes", "5"}}) {
    std::vector<std::string> arguments = command;
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProcessResult result = Jevons(arguments);
    EXPECT_EQ(result.exit_code, 2) << more[2] << result.err;
    EXPECT_THAT(result.err, StartsWith("error: "));
  }
  std::vector<std::string> arguments = command;
  arguments.insert(arguments.end(), {"--vocab-size", "262", "--document-separator", "<>"});
  const ProcessResult result = Jevons(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 3);
  EXPECT_THAT(result.out, HasSubstr(" 1 documents")) << "one for each side";
}

TEST_F(PrepareCommand, MissingInputLeavesNothing) {
  const ProcessResult result =
      Jevons({"prepare", "--input", root_ + "/none.txt", "--output", root_ + "/data", "--vocab-size", "300"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("none.txt"));
  EXPECT_FALSE(fs::exists(root_ + "/data"));
}

TEST_F(PrepareCommand, InterruptEndsItAndLeavesNoDataset) {
  {
    std::ofstream text(root_ + "/big.txt");
    for (int64_t i = 0; i < 6000000; ++i)
      text << "word" << i * 7919 % 1000003 << (i % 50 == 0 ? "\n\n" : " ");
  }
  // Some 60 MB: a second or more of work, interrupted at its beginning.
  auto process = Process::Start({BinaryPath("jevons"), "prepare", "--input", root_ + "/big.txt",
                                 "--output", root_ + "/data", "--vocab-size", "60000"});
  ASSERT_TRUE(process.ok()) << process.status();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  kill(process->pid(), SIGINT);
  EXPECT_EQ(process->Wait(kTimeout).exit_code, 128 + SIGINT);
  EXPECT_FALSE(fs::exists(root_ + "/data/dataset.json"));
}

}  // namespace
}  // namespace jevons
