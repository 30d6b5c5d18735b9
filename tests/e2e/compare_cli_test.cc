// Runs that tokens or dollars end, the files that they leave, and what `compare` and `report` make of them.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/support/train_cli.h"

namespace jevons {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

class CompareCli : public TrainCli {
 protected:
  static std::string TextOf(const std::string& name) {
    std::ifstream file(folder_ / name);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static std::vector<Json> LinesOf(const std::string& name) {
    std::vector<Json> lines;
    for (const std::string& line : std::vector<std::string>(absl::StrSplit(TextOf(name), '\n', absl::SkipEmpty())))
      lines.push_back(Json::parse(line));
    return lines;
  }
  static double At(const Json& comparison, const std::string& figure, size_t column) {
    for (const Json& row : comparison["figures"])
      if (row["name"] == figure) return row["columns"][column]["mean"];
    ADD_FAILURE() << figure;
    return 0;
  }
};

// 6 sequences of 32 tokens make a step: 1000 tokens are seen after the sixth.
TEST_F(CompareCli, TokensEndARunAlsoOneThatWasInterrupted) {
  const std::vector<std::string> tokens = {"train.tokens=1000"};
  ASSERT_EQ(Train(2, 2, "tokens", tokens).exit_code, 0);
  EXPECT_EQ(NewestStep("tokens"), 6);
  ASSERT_EQ(Train(1, 1, "steps", {"train.steps=6"}).exit_code, 0);
  EXPECT_EQ(Hash("tokens"), Hash("steps"));
  ASSERT_EQ(Train(1, 1, "parts", {"train.tokens=500"}).exit_code, 0);
  EXPECT_EQ(NewestStep("parts"), 3);
  ASSERT_EQ(Train(2, 1, "parts", tokens).exit_code, 0);
  EXPECT_EQ(Hash("parts"), Hash("steps"));
  const ProcessResult again = Train(1, 1, "parts", tokens);
  EXPECT_EQ(again.exit_code, 0);
  EXPECT_THAT(again.err, HasSubstr("train.tokens = 1000 are done: the checkpoint has 6 steps; set more to go on"));
  EXPECT_EQ(Hash("parts"), Hash("steps"));
  EXPECT_THAT(Jevons({"inspect", folder_ / "parts"}).out, HasSubstr("6 of 6"));
}

// At a million dollars an hour each step costs more than there is.
TEST_F(CompareCli, DollarsEndARunAfterTheStepThatSpendsThem) {
  const std::vector<std::string> rich = {"train.dollars=1e-6", "cost.price_per_device_hour=1e6", "train.steps=100"};
  const ProcessResult first = Train(2, 2, "dollars", rich);
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_EQ(NewestStep("dollars"), 1);
  EXPECT_THAT(first.out, HasSubstr("steps                1\n"));
  EXPECT_THAT(first.err, HasSubstr("step 1/100 | validation loss")) << "a run ends with one";
  ASSERT_EQ(Train(1, 1, "one", {"train.steps=1"}).exit_code, 0);
  EXPECT_EQ(Hash("dollars"), Hash("one"));
  const ProcessResult again = Train(1, 1, "dollars", rich);
  EXPECT_EQ(again.exit_code, 0);
  EXPECT_THAT(again.err,
              testing::ContainsRegex(
                  "train.dollars = 1e-06 are spent, \\$[0-9.e+]+ in all: the checkpoint has 1 steps; set more to go on"));
  EXPECT_EQ(NewestStep("dollars"), 1);
  ASSERT_EQ(Train(2, 2, "dollars", {"train.steps=3"}).exit_code, 0);  // goes on without that end
  ASSERT_EQ(Train(1, 1, "three", {"train.steps=3"}).exit_code, 0);
  EXPECT_EQ(Hash("dollars"), Hash("three"));
}

TEST_F(CompareCli, ComparesAndShowsWhatRunsLeft) {
  const std::vector<std::string> priced = {"cost.price_per_device_hour=3600", "cost.reference_mfu=0.5", "log.interval=4"};
  auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), priced.begin(), priced.end());
    return more;
  };
  const ProcessResult trained = Train(2, 2, "a", with({"run.name=first", "train.steps=12"}));
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_THAT(trained.out, testing::ContainsRegex("per 1e12 tokens      [0-9.e+KMBT]+ CPU core hours, \\$[0-9.e+]+ a million, at "
                                                  "this process's MFU of [0-9.]+% \\(causal, without MTP\\); "
                                                  "DeepSeek-V3: 180K H800 hours, \\$0.36 a million\n"));
  EXPECT_THAT(trained.out,
              testing::ContainsRegex("at an MFU of 50%     [0-9.e-]+ CPU core hours, \\$[0-9.e-]+, MTP's work included\n"));
  // The second lost two steps: its checkpoint of step 8 is gone.
  ASSERT_EQ(Train(1, 1, "b", with({"train.seed=5", "train.steps=6"})).exit_code, 0);
  fs::remove_all(folder_ / "b/checkpoints/step-00000006");
  ASSERT_EQ(Train(2, 1, "b", with({"train.seed=5", "train.steps=12"})).exit_code, 0);

  EXPECT_THAT(TextOf("a/config.textproto"), HasSubstr("name: \"first\""));
  const std::vector<Json> starts = LinesOf("b/starts.jsonl");
  ASSERT_EQ(starts.size(), 2u);
  EXPECT_EQ(starts[1]["step"], 4);
  EXPECT_EQ(starts[1]["lost_steps"], 2);
  EXPECT_GT(starts[1]["lost_dollars"], 0);
  EXPECT_EQ(starts[1]["ranks"], 2);
  const std::vector<Json> experts = LinesOf("a/experts.jsonl");
  ASSERT_EQ(experts.size(), 12u);
  ASSERT_EQ(experts[0]["loads"].size(), 4u) << "three layers and an MTP module";
  int64_t rows = 0;
  for (const Json& count : experts[0]["loads"][0]) rows += count.get<int64_t>();
  EXPECT_EQ(rows, 6 * 32 * 4) << "tokens times top_k";

  const ProcessResult compared = Jevons({"compare", folder_ / "a", folder_ / "b", "--at", "dollars", "--json"});
  ASSERT_EQ(compared.exit_code, 0) << compared.err;
  const Json json = Json::parse(compared.out);
  EXPECT_EQ(json["runs"][0]["name"], "first");
  EXPECT_EQ(At(json, "steps", 1), 12) << "each once";
  EXPECT_EQ(At(json, "restarts", 1), 1);
  EXPECT_GT(At(json, "lost_device_hours", 1), 0);
  EXPECT_EQ(At(json, "lost_device_hours", 0), 0);
  EXPECT_DOUBLE_EQ(At(json, "reference_dollars", 0), At(json, "reference_dollars", 1)) << "the same work";
  EXPECT_NEAR(At(json, "dollars", 1), 3600 * At(json, "device_hours", 1), 1e-6 * At(json, "dollars", 1));
  std::vector<std::string> fields;
  for (const Json& field : json["config"]) fields.push_back(field["field"]);
  EXPECT_THAT(fields, testing::ElementsAre("train.seed", "parallel.ep"));
  EXPECT_EQ(Jevons({"compare", folder_ / "a", folder_ / "b", "--at", "meters"}).exit_code, 2);
  EXPECT_EQ(Jevons({"compare", folder_ / "nowhere"}).exit_code, 3);

  std::ofstream(folder_ / "a/samples.txt") << "In the beginning there were cats";
  const std::string page = folder_ / "page.html";
  const ProcessResult reported = Jevons({"report", folder_ / "a", folder_ / "b", "--output", page});
  ASSERT_EQ(reported.exit_code, 0) << reported.err;
  const std::string html = TextOf("page.html"), hash = Hash("a");
  for (const std::string& part :
       {std::string("<h1>2 runs</h1>"), std::string("In the beginning there were cats"),
        std::string("Nearest preset: quickstart_cpu"),
        std::string("Gate bias of each expert over its layer's mean, checkpoint of step 12"), hash.substr(0, hash.size() - 1)})
    EXPECT_NE(html.find(part), std::string::npos) << part;
  EXPECT_EQ(Jevons({"report", folder_ / "a", "--output", folder_ / "no/such/page.html"}).exit_code, 1);
}

}  // namespace
}  // namespace jevons
