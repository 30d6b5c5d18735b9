// `jevons plan` and `jevons bench calibrate` from the outside: key lines, JSON, exit codes, one error for one bad input.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "configs/cluster.h"
#include "launch/process.h"
#include "tests/support/paths.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kConfigs = SourcePath("configs");
const std::string kV3 = kConfigs + "/presets/deepseek_v3_671b.textproto", kH800 = kConfigs + "/clusters/h800_2048.textproto";
constexpr double kTimeout = 60;

class PlanCommand : public ::testing::Test {
 protected:
  PlanCommand() {
    std::string pattern = fs::temp_directory_path() / "jevons_plan_XXXXXX";
    root_ = mkdtemp(pattern.data());
  }
  ~PlanCommand() override { fs::remove_all(root_); }

  // The program finds its tables beside the binary or in the folder it stands in.
  static ProcessResult Jevons(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"sh", "-c", "cd \"$0\" && exec \"$@\"", SourcePath(""), BinaryPath("jevons")});
    return RunProcess(std::move(arguments), kTimeout);
  }
  static ProcessResult Plan(std::vector<std::string> more, const std::string& cluster = kH800) {
    more.insert(more.begin(), {"plan", "--config", kV3, "--cluster", cluster});
    return Jevons(std::move(more));
  }

  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(root_ + "/" + name) << text;
    return root_ + "/" + name;
  }
  static std::string Read(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // The H800's table with one text replaced.
  std::string ClusterWith(const std::string& from, const std::string& to) const {
    std::string text = Read(kH800);
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return Write("cluster.textproto", text.replace(at, from.size(), to));
  }

  static void ExpectOneError(const ProcessResult& result, int exit_code, const std::vector<std::string>& says) {
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, StartsWith("error: "));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    for (const std::string& text : says) EXPECT_THAT(result.err, HasSubstr(text));
  }

  // With room for the published layout, of which this program keeps more than DeepSeek's.
  std::string Roomy() const { return ClusterWith("hbm_gib: 80 ", "hbm_gib: 192 "); }

  static nlohmann::json Json(const ProcessResult& result) {
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    return nlohmann::json::parse(result.out, nullptr, /*allow_exceptions=*/false);
  }

  std::string root_;
};

TEST_F(PlanCommand, TellsTimeMemoryAndMoney) {
  const ProcessResult result = Plan({"--stages", "--constants"}, Roomy());
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  for (const char* line :
       {"2048 H800, PP16 EP64 DP128 dualpipe, micro-batch 1, FP8, selective recomputation", "671.0B parameters, 36.6",
        "fits            yes", "\nstep            ", "\ntokens/s/GPU ", "\nMFU ", "bubble and waiting", "the fullest, counted",
        "optimizer state", "run of 14.8T tokens at $2 per GPU hour", "goodput", "not in the headline", "stage  rank  content",
        "unevenness"})
    EXPECT_THAT(result.out, HasSubstr(line));
}

TEST_F(PlanCommand, ReproducesTheClaim) {
  const ProcessResult result = Jevons({"plan", "--reproduce", "deepseek-v3"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  for (const char* line : {"pre-training         K GPU h        2664", "context extension    K GPU h         119",
                           "total                $M            5.576", "time per step        s            19.926",
                           "1F1B                 s             13.95", "pre-training, what if"})
    EXPECT_THAT(result.out, HasSubstr(line));
}

TEST_F(PlanCommand, ReproducesAsJson) {
  const nlohmann::json json = Json(Jevons({"plan", "--reproduce", "deepseek-v3", "--json"}));
  ASSERT_TRUE(json.is_object());
  for (const auto& line : json["hours"]) EXPECT_LT(std::abs(line["error"].get<double>()), 0.05) << line;
  for (const auto& line : json["step"]) EXPECT_LT(std::abs(line["error"].get<double>()), 0.15) << line;
  EXPECT_GT(json["variants"].size(), 5);
}

TEST_F(PlanCommand, ValidatesAsTextAndJson) {
  const std::string table = kConfigs + "/published/throughput.csv";
  const ProcessResult text = Jevons({"plan", "--validate", table});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("speed, rows known when constants were chosen: 11 rows, mean error"));
  const nlohmann::json json = Json(Jevons({"plan", "--validate", table, "--json"}));
  ASSERT_GT(json.size(), 12);
  EXPECT_THAT(json[json.size() - 1]["error"], HasSubstr("layout not stated (tp, pp, ep), and none is guessed"));
  EXPECT_EQ(json[0]["model"], "DeepSeek-V3");
  EXPECT_LT(std::abs(json[0]["speed_error"].get<double>()), 0.1);
}

TEST_F(PlanCommand, SearchesAsTextAndJson) {
  const ProcessResult text = Plan({"--search", "--shown", "1"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("layouts tried on 2048 H800"));
  EXPECT_THAT(text.out, HasSubstr("<- the config's"));
  EXPECT_THAT(text.out, HasSubstr("out    reason; the nearest"));
  EXPECT_THAT(text.out, HasSubstr("what makes these layouts"));
  EXPECT_THAT(text.out, HasSubstr("counted: by the run's own step"));
  const nlohmann::json json = Json(Plan({"--search", "--json", "--shown", "1"}));
  ASSERT_GT(json["fitting"].size(), 10);
  EXPECT_EQ(json["fitting"][0]["fits"], true);
  EXPECT_GT(json["fitting"][0]["counted_bytes"], 0);
  EXPECT_LE(json["fitting"][0]["dollars_per_million_tokens"], json["fitting"][1]["dollars_per_million_tokens"]);
  EXPECT_TRUE(json["rejected"].is_object());
}

// The line that a ranking prints for a layout gives that layout. Few micro-batches, so that counting is quick.
TEST_F(PlanCommand, SearchPrintsWhatMakesEachLayout) {
  const std::vector<std::string> batch = {"--set", "train.batch_sequences=4096", "--set", "train.batch_ramp_start=0",
                                          "--set", "train.batch_ramp_tokens=0"};
  const auto search = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), batch.begin(), batch.end());
    return Plan(arguments);
  };
  const nlohmann::json json = Json(search({"--search", "--json", "--shown", "4"}));
  const std::string text = search({"--search", "--shown", "4"}).out;
  int checked = 0;
  for (size_t i = 0; i < 4; ++i) {
    const nlohmann::json& candidate = json["fitting"][i];
    std::string line = absl::StrFormat("\n%4d   ", i + 1);
    std::vector<std::string> sets;
    for (const std::string assignment : candidate["set"]) {
      const std::string quote = absl::StrContains(assignment, "|") ? "'" : "";
      line += (sets.empty() ? "--set " : " --set ") + quote + assignment + quote;
      sets.insert(sets.end(), {"--set", assignment});
    }
    if (sets.empty() || candidate["layout"].get<std::string>().find("full recomputation") != std::string::npos || ++checked > 3)
      continue;
    EXPECT_THAT(text, HasSubstr(line + "\n"));
    std::vector<std::string> more = batch;
    more.insert(more.end(), sets.begin(), sets.end());
    more.push_back("--json");
    const nlohmann::json plan = Json(Plan(more, Roomy()));
    EXPECT_EQ(plan["layout"], candidate["layout"]);
    EXPECT_EQ(plan["step_seconds"], candidate["step_seconds"]);
    EXPECT_EQ(plan["train"], candidate["train"]);
    sets.insert(sets.begin(), {"inspect", "--config", kV3, "--print-config"});
    EXPECT_EQ(Jevons(sets).exit_code, 0);
  }
  EXPECT_GT(checked, 2);
}

TEST_F(PlanCommand, WritesTraceAndPage) {
  const std::string trace = root_ + "/trace.json", page = root_ + "/page.html";
  const nlohmann::json json = Json(Plan({"--json", "--trace", trace, "--html", page}, Roomy()));
  EXPECT_EQ(json["fits"], true);
  EXPECT_TRUE(nlohmann::json::parse(Read(trace), nullptr, false)["traceEvents"].is_array());
  EXPECT_THAT(Read(page), StartsWith("<!DOCTYPE html>"));
}

TEST_F(PlanCommand, ImpossibleLayoutsNameTheNearest) {
  ExpectOneError(Plan({"--set", "parallel.pp=12"}), 2,
                 {"parallel.pp = 12", "must divide 2048 GPUs", "nearest legal: parallel.pp = 16"});
  ExpectOneError(Plan({"--set", "parallel.ep=256"}), 2,
                 {"parallel.ep = 256", "128 GPUs of a stage", "nearest legal: parallel.ep = 128"});
  ExpectOneError(Plan({"--set", "train.batch_sequences=15300"}), 2,
                 {"train.batch_sequences = 15300", "multiple of 128", "nearest legal: train.batch_sequences = 15360"});
  ExpectOneError(Plan({"--set", "precision.compute=FP32"}), 2,
                 {"precision.compute = FP32", "gpu.fp32_tflops = 0", "nearest legal: BF16"});
}

TEST_F(PlanCommand, WhatDoesNotFitSaysByHowMuch) {
  const std::string small = ClusterWith("hbm_gib: 80 ", "hbm_gib: 40 ");
  const ProcessResult plan = Plan({}, small);
  EXPECT_EQ(plan.exit_code, 2);
  EXPECT_THAT(plan.out, HasSubstr("fits            NO, "));
  EXPECT_THAT(plan.out, HasSubstr("GiB too much"));
  EXPECT_THAT(plan.err, StartsWith("error: this layout does not fit, "));
  EXPECT_THAT(plan.err, HasSubstr("; the nearest that does"));
  EXPECT_THAT(plan.err, HasSubstr(" --set "));
  EXPECT_EQ(std::count(plan.err.begin(), plan.err.end(), '\n'), 1) << plan.err;
  const ProcessResult json = Plan({"--json"}, small);
  EXPECT_EQ(json.exit_code, 2);
  EXPECT_THAT(nlohmann::json::parse(json.out, nullptr, false)["nearest_fitting"]["layout"], HasSubstr("recomputation"));
  const ProcessResult none = Plan({"--search"}, ClusterWith("hbm_gib: 80 ", "hbm_gib: 6 "));
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.out, HasSubstr("0 fit"));
  EXPECT_THAT(none.err, HasSubstr("error: no layout fits: PP"));
  EXPECT_THAT(none.err, HasSubstr("GiB too much on its fullest GPU"));
}

TEST_F(PlanCommand, BadClustersNameTheFieldAndTheRemedy) {
  ExpectOneError(Plan({}, ClusterWith("gbs: 50 ", "gbs: 0 ")), 2,
                 {"network.gbs = 0", "2048 GPUs in nodes of 8 need a link between nodes", "50, or gpus: 8 without one"});
  ExpectOneError(Plan({}, ClusterWith("hbm_gbs:", "hbm_gps:")), 2, {"cluster.textproto", "hbm_gps", "hbm_gbs"});
  ExpectOneError(Plan({}, root_ + "/none.textproto"), 2, {"none.textproto"});
  ExpectOneError(Plan({}, ClusterWith("gpus: 2048", "gpus: 2047")), 2, {"gpus = 2047", "whole nodes", "2048"});
}

TEST_F(PlanCommand, BadTablesNameLineColumnAndValue) {
  const auto validate = [](const std::string& path) { return Jevons({"plan", "--validate", path}); };
  ExpectOneError(validate(root_ + "/none.csv"), 2, {"none.csv"});
  ExpectOneError(validate(Write("a.csv", "")), 2, {"a.csv: empty", "model,hardware,gpus"});
  ExpectOneError(validate(Write("b.csv", "modle,hardware,gpus\nx,H100,8\n")), 2,
                 {"b.csv:1: unknown column \"modle\"", "did you mean \"model\"?"});
  ExpectOneError(validate(Write("f.csv", "model,hardware,gpus,tokens_per_sec\nDBRX,H100,8,1\n")), 2,
                 {"f.csv:1", "did you mean \"tokens_per_s\"?"});
  ExpectOneError(validate(Write("g.csv", "model,hardware\nDBRX,H100\n")), 2, {"g.csv:1: no column \"gpus\""});
  ExpectOneError(validate(Write("c.csv", "model,hardware,gpus\nDBRX,H100,eight\n")), 2, {"c.csv:2", "gpus = eight"});
  ExpectOneError(validate(Write("d.csv", std::string("\x7f\x45\x4c\x46\x00\x01,\"\n", 8))), 2, {"d.csv"});
  const ProcessResult unknown = validate(Write("e.csv", "model,hardware,gpus\nDBRY,H100,8\n"));
  EXPECT_EQ(unknown.exit_code, 0);
  EXPECT_THAT(unknown.out, HasSubstr("did you mean \"DBRX\""));
}

TEST_F(PlanCommand, UnwritableOutputsAndBadCommandLines) {
  for (const char* flag : {"--trace", "--html"})
    ExpectOneError(Plan({flag, root_ + "/no/such/folder"}), 1, {"/no/such/folder: cannot be written"});
  ExpectOneError(Jevons({"plan"}), 2, {"--config FILE and --cluster FILE"});
  // Options that would do nothing.
  for (const std::vector<std::string>& more : std::vector<std::vector<std::string>>{{"--search", "--trace", root_ + "/t.json"},
                                                                                    {"--search", "--stages"},
                                                                                    {"--shown", "3"},
                                                                                    {"--reproduce", "deepseek-v3"}}) {
    const ProcessResult result = Plan(more);
    EXPECT_EQ(result.exit_code, 2) << more.front();
    EXPECT_THAT(result.err, StartsWith("error: --"));
    EXPECT_EQ(result.out, "");
  }
  ExpectOneError(Jevons({"plan", "--reproduce", "gpt-5"}), 2, {"--reproduce gpt-5", "legal: deepseek-v3"});
}

TEST_F(PlanCommand, ACalibratedMachineCanBePlannedFor) {
  const std::string machine = root_ + "/machine.textproto";
  const std::vector<std::string> config = {"--config", kConfigs + "/presets/quickstart_cpu.textproto",
                                           "--set",    "model.vocab_size=512",
                                           "--set",    "data.sequence_length=64",
                                           "--set",    "parallel.threads=1"};
  const auto with = [&](std::vector<std::string> command, const std::vector<std::string>& more) {
    command.insert(command.end(), config.begin(), config.end());
    command.insert(command.end(), more.begin(), more.end());
    return Jevons(std::move(command));
  };
  const ProcessResult measured = with({"bench", "calibrate"}, {"--output", machine});
  ASSERT_EQ(measured.exit_code, 0) << measured.err;
  const auto cluster = LoadCluster(machine);
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->gpus(), 1);
  EXPECT_EQ(cluster->gpu().sms(), 1);
  EXPECT_THAT(Read(machine), StartsWith("# Measured by jevons bench calibrate on 20"));
  const nlohmann::json plan = Json(with({"plan"}, {"--cluster", machine, "--json"}));
  EXPECT_GT(plan["tokens_per_second_per_gpu"], 0);
  const ProcessResult bf16 = with({"bench", "calibrate"}, {"--set", "precision.compute=BF16"});
  EXPECT_EQ(bf16.exit_code, 0) << bf16.err;
  EXPECT_TRUE(ParseCluster(bf16.out, "standard output").ok()) << bf16.out;
  ExpectOneError(with({"bench", "calibrate"}, {"--output", root_ + "/no/file"}), 1, {"/no/file: cannot be written"});
  ExpectOneError(with({"bench", "calibrate"}, {"--set", "parallel.backend=CUDA"}), 2,
                 {"parallel.backend = CUDA", "nearest legal: CPU"});
  ExpectOneError(Jevons({"bench", "calibrate", "--set", "model.layers=2"}), 2, {"--config FILE"});
}

}  // namespace
}  // namespace jevons
