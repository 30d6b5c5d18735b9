// `jevons` from the outside: help, errors, exit codes, output streams.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "launch/process.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

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
  const ProcessResult help = Jevons({"help", GetParam()});
  EXPECT_EQ(help.exit_code, 0) << help.err;
  EXPECT_EQ(help.out, result.out);
}

TEST_P(EveryCommand, UnknownFlagIsAUsageError) {
  const ProcessResult result = Jevons({GetParam(), "--no-such-flag=1"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, StartsWith("error: --no-such-flag: unknown flag"));
}

INSTANTIATE_TEST_SUITE_P(Cli, EveryCommand,
                         ::testing::Values("prepare", "train", "eval", "generate", "score", "import", "export", "tokenize",
                                           "inspect", "plan", "bench", "doctor", "help", "version"),
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

TEST(Cli, VersionTellsWhatTheProgramIsMadeOf) {
  const ProcessResult version = Jevons({"version"});
  EXPECT_EQ(version.exit_code, 0) << version.err;
  EXPECT_EQ(version.out, Jevons({"--version"}).out);
  for (const char* line :
       {"jevons 0.", "\ncompiler GNU ", "\nbackends cpu", "\nproducts ", " (BF16)\nmpi ", "Open MPI", "\ncuda "})
    EXPECT_THAT(version.out, HasSubstr(line));
}

TEST(Cli, HelpAsACommand) {
  EXPECT_EQ(Jevons({"help"}).out, Jevons({"--help"}).out);
  EXPECT_EQ(Jevons({"help", "bench", "step"}).out, Jevons({"bench", "step", "--help"}).out);
  const ProcessResult unknown = Jevons({"help", "inspct"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_EQ(unknown.err, "error: inspct: unknown command; did you mean inspect?\n");
}

// The words of a shell's line that has quotes but no variables; empty where it has redirections or pipes before the program.
std::vector<std::string> Words(const std::string& line) {
  std::vector<std::string> words;
  bool open = false;
  char quote = 0;
  for (const char c : line) {
    if (quote == 0 && (c == '#' || c == '<' || c == '|')) break;
    if (quote != 0 ? c == quote : c == '"' || c == '\'') {
      quote = quote != 0 ? 0 : c;
      if (!open) words.emplace_back();
      open = true;
    } else if (quote == 0 && c == ' ') {
      open = false;
    } else {
      if (!open) words.emplace_back();
      open = true;
      words.back() += c;
    }
  }
  return words;
}

// The command lines in a text that start `jevons`: `mpirun -np 4 build/jevons train ...`. Lines that end in a backslash go on.
std::vector<std::vector<std::string>> Examples(const std::string& text) {
  std::vector<std::vector<std::string>> examples;
  std::istringstream lines(text);
  std::string line, rest;
  while (std::getline(lines, line)) {
    if (!line.empty() && line.back() == '\\') {
      rest += line.substr(0, line.size() - 1);
      continue;
    }
    line = rest + line;
    rest.clear();
    const size_t pipe = line.find("| jevons");
    std::vector<std::string> words = Words(pipe == std::string::npos ? line : line.substr(pipe + 2));
    size_t at = 0;
    if (!words.empty() && words[0] == "mpirun") at = 3;
    if (at >= words.size() || (words[at] != "jevons" && words[at] != "build/jevons")) continue;
    words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    examples.push_back(words);
  }
  return examples;
}

// The command is there, and so are the options that the example gives it. Words without dashes are values, or explain the example.
void ExpectCommandExists(std::vector<std::string> words, const std::string& from) {
  std::vector<std::string> help = {"help", words.at(0)};
  if (words[0] == "bench" && words.size() > 1) help.push_back(words[1]);
  const ProcessResult result = Jevons(help);
  ASSERT_EQ(result.exit_code, 0) << from << ": " << result.err;
  for (const std::string& word : words) {
    if (word.substr(0, 2) == "--") {
      EXPECT_THAT(result.out, ::testing::ContainsRegex("[ ,]" + word + "[ ,\n]")) << from << ": " << word;
    }
  }
}

TEST(Cli, ExamplesOfHelpAndReadmeAreCommands) {
  size_t count = 0;
  for (const char* name : {"README.md", "launch/README.md"}) {
    std::ifstream file(SourcePath(name));
    const std::string readme{std::istreambuf_iterator<char>(file), {}};
    for (const auto& words : Examples(readme)) {
      ExpectCommandExists(words, name);
      ++count;
    }
  }
  EXPECT_GT(count, 15u);
  for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{{"prepare"},
                                                                                       {"train"},
                                                                                       {"eval"},
                                                                                       {"generate"},
                                                                                       {"score"},
                                                                                       {"import"},
                                                                                       {"export"},
                                                                                       {"tokenize"},
                                                                                       {"inspect"},
                                                                                       {"plan"},
                                                                                       {"doctor"},
                                                                                       {"bench"},
                                                                                       {"bench", "step"},
                                                                                       {"bench", "all-to-all"},
                                                                                       {"bench", "calibrate"},
                                                                                       {"bench", "quantize"},
                                                                                       {"bench", "tokenizer"},
                                                                                       {"bench", "fp8-gap"}}) {
    std::vector<std::string> help = {"help"};
    help.insert(help.end(), command.begin(), command.end());
    const std::string text = Jevons(help).out;
    std::string examples = text.substr(0, text.find("\n\n"));
    std::string stripped;
    std::istringstream lines(examples);
    for (std::string line; std::getline(lines, line);)
      stripped += line.substr(std::min(line.size(), line.find_first_not_of(' '))) + "\n";
    const auto found = Examples(stripped);
    EXPECT_FALSE(found.empty()) << command.back();
    for (const auto& words : found) ExpectCommandExists(words, command.back() + " --help");
  }
}

TEST(Cli, NoCommandIsAUsageError) {
  const ProcessResult result = Jevons({});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("jevons --help"));
}

TEST(Cli, MisspeltNamesAreGuessed) {
  EXPECT_THAT(Jevons({"inspct"}).err, HasSubstr("inspct: unknown command; did you mean inspect?"));
  EXPECT_THAT(Jevons({"inspect", "--confg", "x"}).err, HasSubstr("--confg: unknown flag; did you mean --config?"));
}

TEST(Cli, WrongInputsAreOneClearError) {
  const std::string empty = ::testing::TempDir() + "/jevons_cli_empty.textproto";
  std::ofstream(empty) << "\n";
  const auto error_of = [](std::vector<std::string> arguments, int exit_code) {
    const ProcessResult result = Jevons(std::move(arguments));
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_EQ(result.out, "");
    return result.err;
  };
  EXPECT_EQ(error_of({"inspect", "--config", empty, "--params"}, 2),
            "error: " + empty + ": the file is empty; name a run config, such as configs/presets/quickstart_cpu.textproto\n");
  EXPECT_THAT(error_of({"generate", "--checkpoint", "run", "--seed", "-1"}, 2),
              StartsWith("error: --seed: -1 is not a whole number from 0"));
  EXPECT_THAT(error_of({"eval", "--checkpoint", "a", "--checkpoint", "b"}, 2),
              StartsWith("error: --checkpoint: given more than once\n"));
  EXPECT_THAT(error_of({"eval", "--checkpoint", ""}, 2), HasSubstr("empty name"));
  EXPECT_THAT(error_of({"bench", "stp"}, 2),
              StartsWith("error: stp: unknown command; did you mean step?\n`jevons bench --help`"));
  EXPECT_THAT(error_of({"bench", "step", "--stps", "3"}, 2),
              StartsWith("error: --stps: unknown flag; did you mean --steps?\n`jevons bench step --help`"));
  EXPECT_THAT(error_of({"eval", "--checkpoint", "a", "--set", "a=1", "b=2"}, 2), StartsWith("error: b: unknown argument"));
  std::filesystem::remove(empty);
}

TEST(Cli, FullDiskBehindStandardOutputIsAFailureAndAClosedPipeIsNot) {
  const std::string inspect = BinaryPath("jevons") + " inspect --params --config " + kPreset671B;
  const ProcessResult full = RunProcess({"sh", "-c", inspect + " > /dev/full"}, kTimeout);
  EXPECT_EQ(full.exit_code, 1);
  EXPECT_THAT(full.err, HasSubstr("standard output"));
  const ProcessResult closed = RunProcess({"bash", "-c", "set -o pipefail; " + inspect + " | true"}, kTimeout);
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
  const ProcessResult result = Jevons({"inspect", "--config", kPreset671B, "--params", "--flops", "--print-config", "--json"});
  const auto json = nlohmann::json::parse(result.out, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(json.is_object()) << result.out << result.err;
  EXPECT_EQ(json["params"]["total"], 671026404352);
  EXPECT_EQ(json["config"]["model"]["layers"], 61);
  EXPECT_NEAR(json["flops"]["causal"]["training_per_token_without_mtp"], 250.5e9, 0.1e9);
}

TEST(InspectConfig, ResolvedConfigIsAConfig) {
  const ProcessResult first = Jevons({"inspect", "--config", kPreset671B, "--print-config"});
  const TempFolder folder;
  const std::string copy = folder / "resolved.textproto";
  std::ofstream(copy) << first.out;
  EXPECT_EQ(Jevons({"inspect", "--config", copy, "--print-config"}).out, first.out);
}

TEST(InspectFields, ListsEveryField) {
  const ProcessResult text = Jevons({"inspect", "--fields"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("model.attention.yarn: YaRN context extension"));
  EXPECT_THAT(text.out, ::testing::ContainsRegex("  parallel.pp +int64 +1 +pipeline stages"));
  const auto json = nlohmann::json::parse(Jevons({"inspect", "--fields", "--json"}).out, nullptr, false);
  ASSERT_TRUE(json.is_array());
  EXPECT_EQ(json[0]["path"], "model.vocab_size");
  EXPECT_EQ(json[0]["unit"], "tokens");
  EXPECT_EQ(Jevons({"inspect", "--fields", "--params"}).exit_code, 2);
  EXPECT_THAT(Jevons({"train", "--help"}).out, HasSubstr("jevons inspect --fields"));
}

TEST(BadConfig, OneClearErrorForOneBadValue) {
  const ProcessResult result = Jevons({"inspect", "--config", kPreset671B, "--set", "model.moe.routed_experts=255", "--params"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("model.moe.routed_experts = 255"));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

TEST(BadConfig, UnknownFieldsAndMissingFilesAreNamed) {
  const ProcessResult field = Jevons({"inspect", "--config", kPreset671B, "--set", "model.layer=4", "--params"});
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

// Hosts that are there: tests/hosts/run.sh has several.
TEST(Doctor, ComparesHosts) {
  std::string pattern = fs::temp_directory_path() / "jevons_doctor_XXXXXX";
  const fs::path folder = mkdtemp(pattern.data());
  std::ofstream(folder / "hostfile") << "localhost slots=2  # this machine\n";
  const ProcessResult result = Jevons({"doctor", "--json", "--hosts", folder / "hostfile", "--output", folder});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  const auto json = nlohmann::json::parse(result.out, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(json.is_object()) << result.out;
  ASSERT_EQ(json["hosts"].size(), 1u);
  EXPECT_EQ(json["hosts"][0]["facts"][0]["topic"], "program");
  EXPECT_EQ(json["pairs"].size(), 0u);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 1);  // no mark stays

  const ProcessResult missing = Jevons({"doctor", "--hosts", folder / "hostfile", "--data", folder / "nothing"});
  EXPECT_EQ(missing.exit_code, 1) << missing.out << missing.err;
  EXPECT_THAT(missing.out, ::testing::ContainsRegex("bad +data .*/nothing is not there"));

  std::ofstream(folder / "hostfile") << "localhost\nno-such-host.invalid\n";
  const ProcessResult unreachable = Jevons({"doctor", "--hosts", folder / "hostfile"});
  EXPECT_EQ(unreachable.exit_code, 1);
  EXPECT_THAT(unreachable.err, HasSubstr("1 of 2 hosts cannot run a rank:\n  no-such-host.invalid: "));

  std::ofstream(folder / "hostfile") << "# none yet\n";
  const ProcessResult empty = Jevons({"doctor", "--hosts", folder / "hostfile"});
  EXPECT_EQ(empty.exit_code, 2);
  EXPECT_THAT(empty.err, HasSubstr("names no host"));
  EXPECT_EQ(Jevons({"doctor", "--hosts", folder / "no_such_file"}).exit_code, 2);
  EXPECT_EQ(Jevons({"doctor", "--output", folder}).exit_code, 2);
  fs::remove_all(folder);
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
  const ProcessResult result = Jevons({"prepare", "--input", root_ + "/a.txt", "--output", root_ + "/data", "--vocab-size", "270",
                                       "--validation-fraction", "0.5", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(json.is_object()) << result.out;
  EXPECT_EQ(json["train"]["documents"], 1);
  EXPECT_EQ(json["validation"]["documents"], 1);
  EXPECT_TRUE(fs::exists(root_ + "/data/tokenizer.json"));
}

TEST_F(PrepareCommand, BadLinesStopItOrAreCounted) {
  std::ofstream(root_ + "/a.ndjson") << "{\"text\": \"the cat\", \"score\": NaN}\n{\"text\": \"torn\n{\"text\": \"the dog\"}\n";
  std::vector<std::string> command = {"prepare", "--input", root_ + "/*.ndjson", "--output", root_ + "/data", "--vocab-size",
                                      "262",     "--json"};
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
  const std::vector<std::string> command = {"prepare", "--input", root_ + "/a.txt", "--output", root_ + "/data"};
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{"--vocab-size", "262", "--document-separator", "<>", "--document-rule", "file"},
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
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, HasSubstr("none.txt"));
  EXPECT_FALSE(fs::exists(root_ + "/data"));
}

TEST_F(PrepareCommand, InterruptEndsItAndLeavesNoDataset) {
  {
    std::ofstream text(root_ + "/big.txt");
    for (int64_t i = 0; i < 6000000; ++i) text << "word" << i * 7919 % 1000003 << (i % 50 == 0 ? "\n\n" : " ");
  }
  // Some 60 MB: a second or more of work, interrupted at its beginning.
  auto process = Process::Start(
      {BinaryPath("jevons"), "prepare", "--input", root_ + "/big.txt", "--output", root_ + "/data", "--vocab-size", "60000"});
  ASSERT_TRUE(process.ok()) << process.status();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  kill(process->pid(), SIGINT);
  EXPECT_EQ(process->Wait(kTimeout).exit_code, 128 + SIGINT);
  EXPECT_FALSE(fs::exists(root_ + "/data/dataset.json"));
}

}  // namespace
}  // namespace jevons
