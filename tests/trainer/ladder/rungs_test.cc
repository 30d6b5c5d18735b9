#include "trainer/ladder/rungs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "configs/ladder.h"
#include "tests/configs/presets.h"
#include "tests/support/temp_folder.h"
#include "trainer/ladder/laws.h"
#include "trainer/ladder/report.h"

namespace jevons {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kLadder[] = R"(
name: "x" base: "-" set: "model.vocab_size=512" set: "model.mtp.depth=0"
size { name: "s" set: "model.hidden_size=64" gflops: 10 tokens_factor: 1 tokens_factor: 4 }
size { name: "m" set: "model.layers=6" gflops: 20 seed: 1 seed: 7 }
variant { name: "dense" experts: 0 }
variant { name: "moe" experts: 32 slowdown: 2 }
law { name: STEP_LAW tokens_per_parameter: 20 }
machine { devices: 2 price_per_device_hour: 0.5 }
asymptote: 1)";

LadderConfig Parsed(const std::string& text = kLadder) {
  const auto ladder = ParseLadder(text, "x");
  EXPECT_TRUE(ladder.ok()) << ladder.status();
  return ladder.ok() ? *ladder : LadderConfig();
}

std::vector<Rung> RungsOf(const LadderConfig& ladder, const std::vector<std::string>& overrides = {}) {
  const auto rungs = PlanRungs(ladder, Preset("quickstart_cpu"), overrides);
  EXPECT_TRUE(rungs.ok()) << rungs.status();
  return rungs.ok() ? *rungs : std::vector<Rung>();
}

std::string Problem(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return std::string(PlanRungs(Parsed(text), Preset("quickstart_cpu"), overrides).status().message());
}

TEST(Rungs, AreRunSizeBySizeAndTheLastSizeIsHeldOut) {
  const std::vector<Rung> rungs = RungsOf(Parsed());
  std::vector<std::string> names;
  for (const Rung& rung : rungs) {
    names.push_back(rung.name);
    EXPECT_EQ(rung.held_out, rung.size == "m");
  }
  EXPECT_THAT(names, ElementsAre("dense-s-seed1", "dense-s-x4-seed1", "moe-s-seed1", "moe-s-x4-seed1", "dense-m-seed1",
                                 "dense-m-seed7", "moe-m-seed1", "moe-m-seed7"));
  EXPECT_EQ(rungs[1].group, "dense-s-x4");
  EXPECT_EQ(rungs[5].group, rungs[4].group);
  EXPECT_EQ(rungs[5].config.train().seed(), 7);
  EXPECT_EQ(rungs[5].config.data().seed(), 7);
}

TEST(Rungs, HaveModelRecipeTimeAndMoney) {
  const std::vector<Rung> rungs = RungsOf(Parsed());
  ASSERT_EQ(rungs.size(), 8);
  const Rung &dense = rungs[0], &longer = rungs[1], &moe = rungs[2];
  EXPECT_EQ(dense.config.model().hidden_size(), 64);
  EXPECT_EQ(dense.config.model().dense_layers(), 4);
  EXPECT_EQ(moe.config.model().dense_layers(), 1);
  EXPECT_EQ(moe.config.model().moe().routed_experts(), 32);
  EXPECT_GT(moe.total_parameters, 2 * moe.parameters);
  // Whole steps: within half of one.
  const auto step = static_cast<double>(dense.config.train().batch_sequences() * 256);
  EXPECT_NEAR(dense.tokens, 20 * dense.parameters, step / 2);
  EXPECT_NEAR(longer.tokens, 80 * dense.parameters, static_cast<double>(longer.config.train().batch_sequences() * 256) / 2);
  EXPECT_NEAR(dense.config.optimizer().learning_rate().peak(), StepLawLearningRate(dense.parameters, 20 * dense.parameters),
              1e-12);
  EXPECT_EQ(dense.seconds, dense.flops() / 10e9);
  EXPECT_EQ(moe.seconds, 2 * moe.flops() / 10e9);
  EXPECT_EQ(rungs[4].seconds, rungs[4].flops() / 20e9);
  EXPECT_DOUBLE_EQ(*dense.dollars, dense.seconds / 3600 * 2 * 0.5);
  EXPECT_EQ(dense.config.cost().price_per_device_hour(), 0.5);
}

TEST(Rungs, OverridesComeLast) {
  for (const Rung& rung : RungsOf(Parsed(), {"train.steps=8", "model.vocab_size=1024"})) {
    EXPECT_EQ(rung.config.train().steps(), 8);
    EXPECT_EQ(rung.config.model().vocab_size(), 1024);
    EXPECT_EQ(rung.tokens, 8.0 * static_cast<double>(rung.config.train().batch_sequences()) * 256);
  }
}

TEST(Rungs, MistakesNameTheFieldOrTheRung) {
  const std::string text = kLadder;
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    changed.replace(changed.find(from), from.size(), to);
    return changed;
  };
  EXPECT_THAT(Problem(with("model.layers=6", "model.layer=6")), HasSubstr("size[1].set: "));
  EXPECT_THAT(Problem(with("model.layers=6", "model.layer=6")), HasSubstr("did you mean \"model.layers\"?"));
  EXPECT_THAT(Problem(with("model.mtp.depth=0", "model.mtp=0")), HasSubstr("set: "));
  EXPECT_THAT(Problem(with("model.hidden_size=64", "model.hidden_size=0")), HasSubstr("dense-s: model.hidden_size = 0"));
  EXPECT_THAT(Problem(with("model.vocab_size=512", "model.vocab_size=0")), HasSubstr("model.vocab_size = 0: the data decides"));
  EXPECT_THAT(Problem(with("experts: 32", "experts: 33")),
              HasSubstr("moe-s: model.moe.routed_experts = 33: must be divisible by model.moe.groups = 4"));
  EXPECT_THAT(Problem(text, {"train.step=8"}), HasSubstr("--set"));
}

// What the file promises of itself.
TEST(Rungs, TheLadderForTwoCoresTakesAtMostSixHours) {
  const auto ladder = LoadLadder(SourcePath("configs/ladders/small_cpu.textproto"));
  ASSERT_TRUE(ladder.ok()) << ladder.status();
  const auto rungs = PlanRungs(*ladder, Preset("quickstart_cpu"), {});
  ASSERT_TRUE(rungs.ok()) << rungs.status();
  LadderState state{.ladder = *ladder, .rungs = *rungs, .results = std::vector<std::optional<RungResult>>(rungs->size())};
  EXPECT_LE(CostOf(state).left_seconds, 6 * 3600);
  // FLOPs per token of the variants of a size are about the same: routers are what experts add.
  for (const Rung& rung : *rungs)
    for (const Rung& other : *rungs)
      EXPECT_NEAR(rung.size == other.size ? rung.flops_per_token / other.flops_per_token : 1, 1, 0.1)
          << rung.name << " and " << other.name;
}

// One thing is changed at a time: models of a size have as many parameters for a token, and all the law's same rates, batches and tokens.
TEST(Rungs, TheLadderOfChoicesChangesOneThingAtATime) {
  const auto ladder = LoadLadder(SourcePath("configs/ladders/choices_cpu.textproto"));
  ASSERT_TRUE(ladder.ok()) << ladder.status();
  const auto rungs = PlanRungs(*ladder, Preset("quickstart_cpu"), {});
  ASSERT_TRUE(rungs.ok()) << rungs.status();
  ASSERT_EQ(rungs->size(), 25u);
  for (const Rung& rung : *rungs)
    for (const Rung& other : *rungs) {
      if (rung.size != other.size) continue;
      EXPECT_EQ(rung.parameters, other.parameters) << rung.name << " and " << other.name;
      EXPECT_EQ(rung.tokens, other.tokens) << rung.name << " and " << other.name;
    }
}

TEST(Rungs, AResultIsThatOfARunThatIsFinished) {
  const TempFolder folder;
  const Rung rung = RungsOf(Parsed(), {"train.steps=8"})[0];
  const auto with = [&](const std::string& text) {
    folder.Write("summary.json", text);
    return ReadRungResult(rung, folder.path());
  };
  EXPECT_FALSE(ReadRungResult(rung, folder / "none")->has_value());
  EXPECT_FALSE(with("{\"steps\": 8, \"tok")->has_value()) << "torn";
  EXPECT_FALSE(with(R"({"steps": 4, "last_validation_loss": 3.5})")->has_value()) << "of a shorter run";
  EXPECT_THAT(std::string(with(R"({"steps": 8, "last_validation_loss": 0})").status().message()),
              HasSubstr("--validation-fraction"));
  const auto result = with(
      R"({"steps": 8, "tokens": 4096, "last_validation_loss": 3.5, "bits_per_byte": 1.5, "device_hours": 0.5, "devices": 2, "dollars": null})");
  ASSERT_TRUE(result.ok() && result->has_value());
  EXPECT_EQ((*result)->loss, 3.5);
  EXPECT_EQ((*result)->tokens, 4096);
  EXPECT_EQ((*result)->seconds, 900);
  EXPECT_FALSE((*result)->dollars.has_value());
}

}  // namespace
}  // namespace jevons
