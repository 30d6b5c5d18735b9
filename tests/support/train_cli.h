// Runs of `jevons train` on a small text, as real processes under mpirun.
#ifndef JEVONS_TESTS_SUPPORT_TRAIN_CLI_H_
#define JEVONS_TESTS_SUPPORT_TRAIN_CLI_H_

#include <gtest/gtest.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "launch/process.h"
#include "tests/support/paths.h"

namespace jevons {

namespace fs = std::filesystem;

inline constexpr double kTimeout = 120;  // seconds; a run here takes a few
inline const std::string kJevons = BinaryPath("jevons");

inline ProcessResult Jevons(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), kJevons);
  return RunProcess(std::move(arguments), kTimeout);
}

inline std::vector<pid_t> ChildrenOf(pid_t parent) {
  std::vector<pid_t> children;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    int pid = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &pid)) continue;
    std::ifstream stat(entry.path() / "stat");
    std::string text;
    std::getline(stat, text);
    const size_t name_end = text.rfind(')');
    if (name_end == std::string::npos) continue;
    const std::vector<std::string> fields = absl::StrSplit(text.substr(name_end + 2), ' ');
    if (fields.size() > 1 && fields[1] == std::to_string(parent)) children.push_back(pid);
  }
  return children;
}

class TrainCli : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = fs::path(testing::TempDir()) / absl::StrCat("jevons_train_cli_", getpid());
    fs::create_directories(folder_);
    std::ofstream text(folder_ / "text.txt");
    for (int i = 0; i < 60; ++i) text << "In the beginning there were " << i << " cats, and each of them sat on a mat.\n\n";
    text.close();
    const ProcessResult prepared = Jevons({"prepare", "--input", folder_ / "text.txt", "--output", folder_ / "data",
                                           "--vocab-size", "300", "--validation-fraction", "0.1"});
    ASSERT_EQ(prepared.exit_code, 0) << prepared.err;
  }
  static void TearDownTestSuite() { fs::remove_all(folder_); }

  // The program on so many ranks.
  static std::vector<std::string> OnRanks(int ranks, const std::vector<std::string>& arguments) {
    // mpirun's own files lie here too: one that is killed leaves them behind.
    std::vector<std::string> command = {"mpirun",    "-q",   "--mca", "orte_tmpdir_base",    folder_, "--oversubscribe",
                                        "--bind-to", "none", "-np",   std::to_string(ranks), kJevons};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return command;
  }
  // The quick start's preset, made small.
  static std::vector<std::string> Command(int ranks, int ep, const std::string& output,
                                          const std::vector<std::string>& overrides = {}) {
    std::vector<std::string> command = OnRanks(
        ranks, {"train", "--config", SourcePath("configs/presets/quickstart_cpu.textproto"), "--output", folder_ / output});
    std::vector<std::string> all = {absl::StrCat("data.path=", (folder_ / "data").string()),
                                    absl::StrCat("parallel.ep=", ep),
                                    "parallel.threads=1",
                                    "model.hidden_size=32",
                                    "model.dense_intermediate_size=32",
                                    "model.moe.intermediate_size=16",
                                    "data.sequence_length=32",
                                    "train.batch_sequences=6",
                                    "train.micro_batch_sequences=1",
                                    "train.eval_sequences=4",
                                    "train.steps=12",
                                    "checkpoint.interval=4",
                                    "cost.peak_tflops=1"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    for (const std::string& override_text : all) {
      command.push_back("--set");
      command.push_back(override_text);
    }
    return command;
  }
  static ProcessResult Train(int ranks, int ep, const std::string& output, const std::vector<std::string>& overrides = {}) {
    return RunProcess(Command(ranks, ep, output, overrides), kTimeout);
  }
  static std::string Hash(const std::string& output) { return Jevons({"inspect", folder_ / output, "--hash"}).out; }

  // The newest step that has a checkpoint.
  static int NewestStep(const std::string& output) {
    int newest = 0;
    std::error_code none_yet;
    for (const auto& entry : fs::directory_iterator(folder_ / output / "checkpoints", none_yet)) {
      const std::string name = entry.path().filename();
      int step = 0;
      if (name.find("partial") == std::string::npos && std::sscanf(name.c_str(), "step-%d", &step) == 1)
        newest = std::max(newest, step);
    }
    return newest;
  }

  // Starts a long run, of 2 ranks unless told otherwise, and waits until it has made `steps` steps and a checkpoint.
  static Process StartLongRun(const std::string& output, int steps, std::vector<std::string> command = {}) {
    if (command.empty()) command = Command(2, 2, output);
    command.insert(command.end(), {"--set", "train.steps=100000"});
    auto process = Process::Start(std::move(command));
    EXPECT_TRUE(process.ok());
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    const std::string wanted = absl::StrCat("\"step\":", steps, ",");
    while (std::chrono::steady_clock::now() < deadline) {
      std::ifstream file(folder_ / output / "metrics.jsonl");
      const std::string text{std::istreambuf_iterator<char>(file), {}};
      if (text.find(wanted) != std::string::npos && NewestStep(output) > 0) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return *std::move(process);
  }

  static inline fs::path folder_;
};

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_TRAIN_CLI_H_
