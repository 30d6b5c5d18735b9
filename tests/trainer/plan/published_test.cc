#include "trainer/plan/published.h"

#include <gmock/gmock.h>

#include "configs/text_file.h"
#include "tests/support/paths.h"
#include "tests/trainer/plan/plan_cases.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

const PublishedWorld& World() {
  static const PublishedWorld world = [] {
    auto loaded = PublishedWorld::Load(SourcePath("configs"));
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return loaded.ok() ? *loaded : PublishedWorld();
  }();
  return world;
}

PublishedRun RunOf(const std::string& model, const std::string& hardware, int64_t gpus) {
  PublishedRun run;
  run.model = model;
  run.hardware = hardware;
  run.gpus = gpus;
  return run;
}

TEST(Published, EveryMoeRowOnHopperWithinTenPercent) {
  const auto text = ReadTextFile(SourcePath("configs/published/throughput.csv"), "the table");
  ASSERT_TRUE(text.ok());
  const auto runs = ParsePublished(*text, "throughput.csv");
  ASSERT_TRUE(runs.ok()) << runs.status();
  ASSERT_EQ(runs->size(), 12);
  for (const PublishedRun& run : *runs) {
    const Prediction p = Predict(run, World());
    ASSERT_TRUE(p.plan.has_value()) << run.line << ": " << p.status;
    EXPECT_LT(std::abs(p.speed_error.value_or(0)), 0.1) << run.line << " " << run.model;
    EXPECT_LT(std::abs(p.memory_error.value_or(0)), 0.05) << run.line << " " << run.model;
  }
}

TEST(Published, ReadsColumnsByNameAndLeavesOthersOut) {
  const auto runs = ParsePublished("# facts\n\xEF\xBB\xBF" "gpus,extra,Hardware,model,notes\r\n8,x,H100,\"Qwen3-30B-A3B\",\"a, \"\"b\"\"\"\r\n\n16,,H200,Mixtral 8x7B,\n", "t.csv");
  ASSERT_FALSE(runs.ok());  // a byte order mark inside is part of a column's name
  const auto good = ParsePublished("# facts\ngpus,extra,Hardware,model,notes\r\n8,x,H100,\"Qwen3-30B-A3B\",\"a, \"\"b\"\"\"\r\n\n16,,H200,Mixtral 8x7B\n", "t.csv");
  ASSERT_TRUE(good.ok()) << good.status();
  ASSERT_EQ(good->size(), 2);
  EXPECT_EQ((*good)[0].notes, "a, \"b\"");
  EXPECT_EQ((*good)[1].line, 5);
  EXPECT_FALSE((*good)[1].tokens_per_s.has_value());
  EXPECT_TRUE(Predict((*good)[0], World()).plan.has_value());
  EXPECT_TRUE(Predict((*good)[1], World()).plan.has_value());
}

TEST(Published, BadTablesNameLineColumnAndValue) {
  const auto message = [](const std::string& text) { return std::string(ParsePublished(text, "t.csv").status().message()); };
  EXPECT_THAT(message(""), HasSubstr("t.csv: empty"));
  EXPECT_THAT(message("model,gpus\n"), HasSubstr("t.csv:1: no column \"hardware\""));
  EXPECT_THAT(message("model,hardware,gpus\nx,H100,eight\n"), HasSubstr("t.csv:2: gpus = eight: must be a positive number"));
  EXPECT_THAT(message("model,hardware,gpus\nx,H100,-8\n"), HasSubstr("t.csv:2: gpus = -8"));
  EXPECT_THAT(message("model,hardware,gpus,pp\nx,H100,8,1.5\n"), HasSubstr("t.csv:2: pp = 1.5: must be a whole number"));
  EXPECT_THAT(message("model,hardware,gpus\n,H100,8\n"), HasSubstr("t.csv:2: model = not set"));
  EXPECT_THAT(message("model,hardware,gpus\nx,\"H100,8\n"), HasSubstr("t.csv:2: a quote does not end"));
  EXPECT_THAT(message("model,hardware,gpus\nx,H100,nan\n"), HasSubstr("gpus = nan"));
}

TEST(Published, UnknownModelsAndGpusAreNamedWithTheNearest) {
  PublishedRun run = RunOf("Qwen3-30B-A3C", "H100", 8);
  EXPECT_THAT(std::string(Predict(run, World()).status.message()), HasSubstr("did you mean \"Qwen3-30B-A3B\""));
  run.model = "qwen3 30b a3b";
  run.hardware = "H101";
  EXPECT_THAT(std::string(Predict(run, World()).status.message()), HasSubstr("hardware H101"));
  run.hardware = "h100";
  EXPECT_TRUE(Predict(run, World()).plan.has_value());
  run.pp = 3;
  EXPECT_THAT(std::string(Predict(run, World()).status.message()), HasSubstr("must divide 8 GPUs"));
}

TEST(Published, NotesSayHowManySmsCommunicate) {
  PublishedRun run = RunOf("Qwen3-30B-A3B", "H100", 16);
  run.ep = 16;
  run.notes = "overlap";
  const double base = Predict(run, World()).plan->step_seconds;
  EXPECT_EQ(Predict(run, World()).plan->cluster.gpu().communication_sms(), 20);
  run.notes = "overlap, 48 SMs";
  EXPECT_GT(Predict(run, World()).plan->step_seconds, base);
  for (const char* odd : {"overlap, SMs", " SMs overlap 48", "overlap 9999 SMs"}) {
    run.notes = odd;
    EXPECT_EQ(Predict(run, World()).plan->step_seconds, base) << odd;
  }
}

TEST(Published, ARowsLayoutMayBeAnything) {
  for (const int64_t gpus : {1, 8, 64, 1000000}) {
    for (const int64_t part : {1, 2, 7, 64, 1000000}) {
      PublishedRun run = RunOf("DeepSeek-V3", "H200", gpus);
      run.pp = run.vpp = run.ep = part;
      const Prediction p = Predict(run, World());
      EXPECT_EQ(p.plan.has_value(), p.status.ok());
    }
  }
}

}  // namespace
}  // namespace jevons
