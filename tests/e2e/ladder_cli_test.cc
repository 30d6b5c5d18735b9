// A ladder as a user meets it: planned, refused where it costs too much, climbed, stopped, killed, resumed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "tests/support/train_cli.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Read(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

class LadderCli : public TrainCli {
 protected:
  // Of `sizes` sizes that grow by half; where there are several, with 4 experts too.
  static std::string Write(const std::string& name, int sizes, const std::string& machine = "") {
    std::string text = absl::StrFormat(R"(
name: "tiny" base: "%s" set: "data.path=%s" set: "model.vocab_size=320" set: "model.mtp.depth=0" set: "model.layers=2" set: "model.moe.groups=1"
set: "model.moe.kept_groups=1" set: "model.moe.top_k=2" set: "model.moe.intermediate_size=16" set: "data.sequence_length=32" set: "parallel.threads=1"
set: "train.micro_batch_sequences=2" set: "train.eval_interval=0" set: "train.eval_sequences=4" set: "checkpoint.interval=20" set: "cost.peak_tflops=1"
variant { name: "dense" experts: 0 } %s
law { name: CONSTANTS tokens_per_parameter: 0.1 learning_rate: 3e-3 batch_tokens: 128 }
asymptote: 0.1 %s
)",
                                       SourcePath("configs/presets/quickstart_cpu.textproto"), (folder_ / "data").string(),
                                       sizes > 1 ? "variant { name: \"moe4\" experts: 4 slowdown: 2 }" : "", machine);
    for (int i = 0, width = 32; i < sizes; ++i, width = width * 3 / 2 / 16 * 16)
      absl::StrAppendFormat(
          &text, "size { name: \"w%d\" set: \"model.hidden_size=%d\" set: \"model.dense_intermediate_size=%d\" gflops: 1 %s}\n",
          width, width, 3 * 16, i == 0 ? "seed: 1 seed: 2 " : "");
    std::ofstream(folder_ / name) << text;
    return folder_ / name;
  }

  static std::vector<std::string> Ladder(const std::string& config, const std::string& output,
                                         std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"ladder", "--config", config, "--output", folder_ / output});
    return more;
  }

  // The losses that ladder.csv has, digit for digit.
  static std::map<std::string, std::string> Losses(const std::string& output) {
    std::map<std::string, std::string> losses;
    const std::string text = Read(folder_ / output / "ladder.csv");
    for (const std::string& line : std::vector<std::string>(absl::StrSplit(text, '\n', absl::SkipEmpty()))) {
      const std::vector<std::string> fields = absl::StrSplit(line, ',');
      EXPECT_EQ(fields.size(), 19u) << line;
      losses[fields[0]] = fields[14];
    }
    losses.erase("rung");
    return losses;
  }

  static void WaitForStep(const std::string& rung, int step) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (std::chrono::steady_clock::now() < deadline &&
           (Read(folder_ / rung / "metrics.jsonl").find(absl::StrCat("\"step\":", step, ",")) == std::string::npos ||
            NewestStep(rung) == 0))
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_GT(NewestStep(rung), 0) << rung;
  }
};

TEST_F(LadderCli, TheLadderForTwoCoresIsPlannedWithoutData) {
  const std::string config = SourcePath("configs/ladders/small_cpu.textproto");
  const ProcessResult text = Jevons({"ladder", "--config", config, "--dry-run"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_EQ(text.err, "");
  for (const char* part :
       {"small_cpu: 27 rungs, 4 sizes of dense, moe8, moe32; rates and batches by DEEPSEEK_LLM, tokens 10 times N",
        "\ndense-s1-x16-seed1 ", "\nmoe32-s4-seed1 ", "hours of 2 devices and $"})
    EXPECT_THAT(text.out, HasSubstr(part));
  const ProcessResult json = Jevons({"ladder", "--config", config, "--dry-run", "--json"});
  const auto plan = nlohmann::json::parse(json.out, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(plan.is_object()) << json.out << json.err;
  EXPECT_EQ(plan["rungs"].size(), 27);
  EXPECT_LE(plan["left_hours"].get<double>(), 6);
}

TEST_F(LadderCli, MoreThanTheBudgetIsRefused) {
  const std::string config = Write("costly.textproto", 2, "machine { price_per_device_hour: 1 }"),
                    unpriced = Write("unpriced.textproto", 2);
  const ProcessResult budget = Jevons(Ladder(config, "costly", {"--budget", "1e-6"}));
  EXPECT_EQ(budget.exit_code, 2) << budget.err;
  EXPECT_THAT(budget.err, StartsWith("error: --budget = 1e-06: the ladder takes $"));
  EXPECT_THAT(budget.err, HasSubstr("; raise it, or lower law.tokens_per_parameter"));
  const ProcessResult hours = Jevons(Ladder(config, "costly", {"--hours", "1e-6", "--dry-run"}));
  EXPECT_EQ(hours.exit_code, 2) << hours.err;
  EXPECT_THAT(hours.out, HasSubstr("tiny: 6 rungs"));
  EXPECT_THAT(hours.err, StartsWith("error: --hours = 1e-06: the ladder takes "));
  EXPECT_FALSE(fs::exists(folder_ / "costly" / "dense-w32-seed1"));
  const ProcessResult output = Jevons({"ladder", "--config", config});
  EXPECT_EQ(output.exit_code, 2);
  EXPECT_THAT(output.err, StartsWith("error: --output is not given"));
  const ProcessResult price = Jevons(Ladder(unpriced, "costly", {"--budget", "1"}));
  EXPECT_EQ(price.exit_code, 2);
  EXPECT_THAT(price.err, HasSubstr("--budget = 1: machine.price_per_device_hour of the ladder is not set"));
}

TEST_F(LadderCli, AFinishedLadderHasForetoldItsLargestRung) {
  const std::string config = Write("whole.textproto", 3);
  const ProcessResult result = Jevons(Ladder(config, "whole", {"--set", "train.steps=8"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("tiny: 8 rungs, 3 sizes of dense, moe4"));
  EXPECT_THAT(result.out, HasSubstr("noise of seeds: "));
  EXPECT_THAT(result.out, HasSubstr("held out, as foretold before it was run\n"));
  const std::string foretold = Read(folder_ / "whole/prediction.json");
  EXPECT_THAT(foretold, HasSubstr("\"group\": \"moe4-w64\""));
  // Files' times are those of the kernel's ticks: both may be in one.
  EXPECT_LE(fs::last_write_time(folder_ / "whole/prediction.json"),
            fs::last_write_time(folder_ / "whole/dense-w64-seed1.textproto"));
  for (const auto& [rung, loss] : Losses("whole")) EXPECT_NE(loss, "") << rung;
  // Again: nothing is left to do, nothing that is there changes.
  const auto trained = fs::last_write_time(folder_ / "whole/dense-w32-seed1/metrics.jsonl");
  const ProcessResult again = Jevons(Ladder(config, "whole", {"--set", "train.steps=8", "--json"}));
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(again.err, "");
  EXPECT_EQ(fs::last_write_time(folder_ / "whole/dense-w32-seed1/metrics.jsonl"), trained);
  EXPECT_EQ(Read(folder_ / "whole/prediction.json"), foretold);
  const auto json = nlohmann::json::parse(again.out, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(json.is_object()) << again.out;
  EXPECT_EQ(json["left_hours"], 0);
  EXPECT_EQ(json["forecasts"].size(), 8);
  // The ladder may not become another behind the rungs' back.
  const ProcessResult other = Jevons(Ladder(config, "whole", {"--set", "train.steps=9"}));
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_THAT(other.err, HasSubstr("whole/dense-w32-seed1.textproto: the rung was begun as another run than the ladder says now: "
                                   "modified: train.steps: 8 -> 9"));
}

// Stopped in one rung and killed in the next, it comes to the losses of one that ran through.
TEST_F(LadderCli, StoppedAndKilledItGoesOn) {
  const std::string config = Write("long.textproto", 1);
  const std::vector<std::string> steps = {"--set", "train.steps=250"};
  const ProcessResult whole = Jevons(Ladder(config, "through", steps));
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  const auto start = [&] {
    std::vector<std::string> command = Ladder(config, "broken", steps);
    command.insert(command.begin(), kJevons);
    auto process = Process::Start(std::move(command));
    EXPECT_TRUE(process.ok());
    return *std::move(process);
  };
  {
    Process process = start();
    WaitForStep("broken/dense-w32-seed1", 30);
    kill(process.pid(), SIGINT);
    const ProcessResult stopped = process.Wait(kTimeout);
    EXPECT_EQ(stopped.exit_code, 75) << stopped.err;
    EXPECT_THAT(stopped.err, HasSubstr("error: dense-w32-seed1 has stopped; the same command goes on"));
    EXPECT_LT(NewestStep("broken/dense-w32-seed1"), 250);
  }
  {
    Process process = start();
    WaitForStep("broken/dense-w32-seed2", 30);
    kill(process.pid(), SIGKILL);
    process.Wait(kTimeout);
    EXPECT_LT(NewestStep("broken/dense-w32-seed2"), 250);
  }
  const ProcessResult resumed = Jevons(Ladder(config, "broken", steps));
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("resumed after step"));
  EXPECT_EQ(Losses("broken"), Losses("through"));
  EXPECT_EQ(Losses("broken").size(), 2u);
}

// Of a rung that cannot be trained the ladder has the exit code.
TEST_F(LadderCli, ARungThatFailsEndsTheLadder) {
  const std::string config = Write("broken.textproto", 1);
  const ProcessResult result = Jevons(Ladder(config, "fails", {"--set", "train.steps=8", "--set", "data.path=/nonexistent"}));
  EXPECT_EQ(result.exit_code, 3) << result.err;
  EXPECT_THAT(result.err, HasSubstr("error: dense-w32-seed1: its run ended with exit code 3"));
}

}  // namespace
}  // namespace jevons
