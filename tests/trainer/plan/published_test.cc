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

TEST(Published, EveryRowInSightWithinTenPercent) {
  const auto text = ReadTextFile(SourcePath("configs/published/throughput.csv"), "the table");
  ASSERT_TRUE(text.ok());
  const auto runs = ParsePublished(*text, "throughput.csv");
  ASSERT_TRUE(runs.ok()) << runs.status();
  int in_sight = 0;
  for (const PublishedRun& run : *runs) {
    if (!run.in_sight) continue;
    ++in_sight;
    const Prediction p = Predict(run, World());
    ASSERT_TRUE(p.plan.has_value()) << run.line << ": " << p.status;
    EXPECT_LT(std::abs(p.speed_error.value_or(0)), 0.1) << run.line << " " << run.model;
    EXPECT_LT(std::abs(p.memory_error.value_or(0)), 0.05) << run.line << " " << run.model;
  }
  EXPECT_EQ(in_sight, 12);
}

// Tables may have rows of several kinds; how well each is met is told apart.
TEST(Published, RowsInSightAreNotCountedAsPredicted) {
  const auto runs = ParsePublished(
      "model,hardware,gpus,tp,pp,ep,tokens_per_s,in_sight\nQwen3-30B-A3B,H100,8,1,1,8,11000,yes\n"
      "Qwen3-30B-A3B,H100,16,1,1,16,100,\nQwen3-30B-A3B,H100,16,1,1,16,100,\n",
      "t.csv");
  ASSERT_TRUE(runs.ok()) << runs.status();
  std::vector<Prediction> predictions;
  for (const PublishedRun& run : *runs) predictions.push_back(Predict(run, World()));
  const std::string text = ValidationText(predictions);
  EXPECT_THAT(text, HasSubstr("known when constants were chosen: 1 rows"));
  EXPECT_THAT(text, HasSubstr("other rows: 2 rows"));
  EXPECT_THAT(std::string(ParsePublished("model,hardware,gpus,in_sight\nx,H100,8,no\n", "t.csv").status().message()),
              HasSubstr("t.csv:2: in_sight = no: must be yes, or empty"));
}

TEST(Published, ALayoutIsNotGuessed) {
  PublishedRun run = RunOf("Mixtral-8x22B", "H100", 128);
  EXPECT_THAT(std::string(Predict(run, World()).status.message()), HasSubstr("layout not stated (tp, pp, ep)"));
  run.tp = 1;
  run.pp = 8;
  EXPECT_THAT(std::string(Predict(run, World()).status.message()), HasSubstr("layout not stated (ep)"));
  run.ep = 8;
  EXPECT_TRUE(Predict(run, World()).plan.has_value());
  PublishedRun dense = RunOf("Llama-3-8B", "H100", 8);
  dense.tp = dense.pp = 1;
  EXPECT_TRUE(Predict(dense, World()).plan.has_value()) << "a model without experts has no ep";
  EXPECT_TRUE(Predict(RunOf("Llama-3-8B", "H100", 1), World()).plan.has_value()) << "one GPU has one layout";
}

TEST(Published, WhatAModelHasBeyondItsShapeIsTold) {
  PublishedRun run = RunOf("DeepSeek-V3.2", "H800", 2048);
  run.tp = 1;
  run.pp = 16;
  run.ep = 64;
  const Prediction p = Predict(run, World());
  ASSERT_TRUE(p.plan.has_value()) << p.status;
  EXPECT_THAT(p.assumed, HasSubstr("without sparse attention"));
  EXPECT_THAT(std::string(Predict(RunOf("Nemotron-3-Nano", "GB300", 8), World()).status.message()), HasSubstr("23 are Mamba-2"));
}

// Counted by hand from the sources' own widths; the names say 16B, 300B and 341B of 352B.
TEST(Published, ShapesHaveTheirParameters) {
  const auto billions = [](const std::string& model) { return World().Model(model)->total_parameters() / 1e9; };
  EXPECT_NEAR(billions("Ling-mini-2.0"), 16.3, 0.1);
  EXPECT_NEAR(billions("ERNIE-4.5-300B-A47B"), 300, 2);
  EXPECT_NEAR(billions("MegaScale-MoE-352B"), 341.3, 0.5);
  EXPECT_EQ(billions("DeepSeek-V3.2"), billions("DeepSeek-V3"));
}

TEST(Published, NotesMayLeaveMtpOut) {
  PublishedRun run = RunOf("Ling-mini-2.0", "H800", 8);
  run.tp = run.pp = 1;
  run.ep = 8;
  const double with = Predict(run, World()).plan->step_seconds;
  run.notes = "no MTP";
  EXPECT_LT(Predict(run, World()).plan->step_seconds, with);
}

TEST(Published, ReadsColumnsByNameAndLeavesOthersOut) {
  const auto runs = ParsePublished(
      "# facts\n\xEF\xBB\xBF"
      "gpus,extra,Hardware,model,notes\r\n8,x,H100,\"Qwen3-30B-A3B\",\"a, \"\"b\"\"\"\r\n\n16,,H200,Mixtral 8x7B,\n",
      "t.csv");
  ASSERT_FALSE(runs.ok());  // a byte order mark inside is part of a column's name
  const auto good = ParsePublished(
      "# facts\ngpus,extra,Hardware,model,notes\r\n1,x,H100,\"Qwen3-30B-A3B\",\"a, \"\"b\"\"\"\r\n\n1,,H200,Mixtral 8x7B\n",
      "t.csv");
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
  run.tp = run.pp = run.ep = 1;
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
  run.tp = run.pp = 1;
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
      run.tp = 1;
      run.pp = run.vpp = run.ep = part;
      const Prediction p = Predict(run, World());
      EXPECT_EQ(p.plan.has_value(), p.status.ok());
    }
  }
}

}  // namespace
}  // namespace jevons
