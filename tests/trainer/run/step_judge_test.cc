// A step is applied on all ranks or on none (contract 14): what becomes of one that a single rank has spoilt, under each policy, and of
// weights that are no longer the same on all ranks.
#include "trainer/run/step_judge.h"

#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <limits>

#include "tests/support/judged_run.h"

namespace jevons {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// The first element of a weight becomes something else for one step.
Spoilt SpoiltWeight(const std::string& name, float value, int rank = 1, int64_t step = 4) {
  auto kept = std::make_shared<float>();
  return {.spoil =
              [=](TrainStep& train, SampleBatch&) {
                float& element = *train.weights().value(ParamNamed(train, name)).as<float>();
                *kept = std::exchange(element, value);
              },
          .mend = [=](TrainStep& train, SampleBatch&) { *train.weights().value(ParamNamed(train, name)).as<float>() = *kept; },
          .rank = rank,
          .step = step};
}

// All tokens of this rank's samples become the same one: their gradients add up.
Spoilt SpoiltSamples() {
  auto kept = std::make_shared<std::vector<int32_t>>();
  return {.spoil = [=](TrainStep&,
                       SampleBatch& batch) { *kept = std::exchange(batch.tokens, std::vector<int32_t>(batch.tokens.size(), 3)); },
          .mend = [=](TrainStep&, SampleBatch& batch) { batch.tokens = *kept; }};
}

const float kNan = std::numeric_limits<float>::quiet_NaN();

// All ranks say the same of every step.
void ExpectAgreement(const Judged& judged) {
  for (const auto& steps : judged.steps) {
    ASSERT_EQ(steps.size(), judged.steps[0].size());
    for (size_t i = 0; i < steps.size(); ++i) {
      const JudgedStep &mine = steps[i], &first = judged.steps[0][i];
      EXPECT_EQ(mine.status, first.status);
      ASSERT_EQ(mine.bad.has_value(), first.bad.has_value()) << i;
      if (!mine.bad) continue;
      EXPECT_EQ(mine.bad->reason, first.bad->reason);
      EXPECT_EQ(mine.bad->gradient_hash, first.bad->gradient_hash);
    }
  }
}

std::vector<size_t> BadOnes(const Judged& judged) {
  std::vector<size_t> bad;
  for (size_t i = 0; i < judged.steps[0].size(); ++i)
    if (judged.steps[0][i].bad) bad.push_back(i);
  return bad;
}

void ExpectSameState(const Judged& a, const Judged& b) {
  ASSERT_EQ(a.state.size(), b.state.size());
  for (const auto& [name, bytes] : a.state) EXPECT_TRUE(bytes == b.state.at(name)) << name;
}

const std::vector<RunLayout> kLayouts = {{2, 1, 1}, {2, 2, 1}, {4, 2, 1}, {4, 2, 1, 2, DUALPIPEV}};

TEST(StepJudge, SkipLeavesAStepThatOneRankSpoiltOut) {
  for (const RunLayout& layout : kLayouts) {
    SCOPED_TRACE(layout.ranks);
    // Every rank of a pipeline may be the one with the head: all but the first spoil theirs.
    std::vector<Spoilt> spoilt;
    for (int rank = 1; rank < layout.ranks; ++rank)
      spoilt.push_back(SpoiltWeight("model.layers.0.input_layernorm.weight", kNan, rank));
    if (layout.pp > 1) spoilt = {};  // its first layer is elsewhere
    if (layout.pp > 1)
      spoilt.push_back(SpoiltWeight("lm_head.weight", kNan, 1)), spoilt.push_back(SpoiltWeight("lm_head.weight", kNan, 0));
    const Judged judged = RunJudged(With(SKIP), layout, spoilt);
    ExpectAgreement(judged);
    ASSERT_EQ(judged.steps[0].size(), static_cast<size_t>(kSteps));
    EXPECT_EQ(BadOnes(judged), (std::vector<size_t>{4}));
    EXPECT_THAT(judged.steps[0][4].bad->reason, HasSubstr("the loss is NaN or Inf"));
    ExpectSameState(judged, RunJudged(With(SKIP), layout, {}, /*left_out=*/4));
  }
}

TEST(StepJudge, StopAppliesNothing) {
  const RunLayout layout = {2, 1, 1};
  const Judged judged = RunJudged(With(STOP), layout, {SpoiltWeight("model.norm.weight", kNan)});
  ExpectAgreement(judged);
  ASSERT_EQ(judged.steps[0].size(), 5u);
  const JudgedStep& last = judged.steps[0].back();
  EXPECT_EQ(ExitCodeOf(last.status), ExitCode::kNumerical);
  EXPECT_THAT(std::string(last.status.message()), AllOf(HasSubstr("step 5: the loss is NaN or Inf"),
                                                        HasSubstr("samples 32 to 39"), HasSubstr("replay RUN --step 5")));
  EXPECT_EQ(judged.suspects, (std::vector<int64_t>{4, 4}));
  ExpectSameState(judged, RunJudged(With(STOP), layout, {}, -1, /*steps=*/4));
}

TEST(StepJudge, ASpikeIsSkippedOnceTheWindowIsFull) {
  const RunLayout layout = {2, 1, 1};
  const Judged judged = RunJudged(Spiking(SKIP), layout, {SpoiltSamples()});
  ExpectAgreement(judged);
  EXPECT_EQ(BadOnes(judged), (std::vector<size_t>{4}));
  EXPECT_THAT(judged.steps[0][4].bad->reason, HasSubstr("standard deviations above the last 4 steps' mean"));
  ExpectSameState(judged, RunJudged(Spiking(SKIP), layout, {}, /*left_out=*/4));
  // Without thresholds, or before there are enough steps, it is applied.
  EXPECT_TRUE(BadOnes(RunJudged(With(SKIP), layout, {SpoiltSamples()})).empty());
  Spoilt early = SpoiltSamples();
  early.step = 3;
  EXPECT_TRUE(BadOnes(RunJudged(Spiking(SKIP), layout, {early})).empty());
}

TEST(StepJudge, MoreInARowThanAllowedStop) {
  RunConfig config = With(SKIP);
  config.mutable_train()->mutable_bad_step()->set_most_in_a_row(2);
  std::vector<Spoilt> spoilt;
  for (const int64_t step : {1, 3, 4, 5}) spoilt.push_back(SpoiltWeight("model.norm.weight", kNan, 1, step));
  const Judged judged = RunJudged(config, {2, 1, 1}, spoilt);
  ExpectAgreement(judged);
  ASSERT_EQ(judged.steps[0].size(), 6u);
  EXPECT_EQ(BadOnes(judged), (std::vector<size_t>{1, 3, 4, 5}));
  EXPECT_THAT(std::string(judged.steps[0].back().status.message()),
              HasSubstr("more bad steps in a row than train.bad_step.most_in_a_row = 2: step 6: "));
  EXPECT_EQ(judged.suspects[0], 3) << "after three steps the weights were what they are still";
}

TEST(StepJudge, ReplaySkipsWhatIsBadTwice) {
  const RunLayout layout = {2, 1, 1};
  const Judged judged = RunJudged(Spiking(REPLAY), layout, {SpoiltSamples()});
  ExpectAgreement(judged);
  EXPECT_EQ(BadOnes(judged), (std::vector<size_t>{4}));
  ASSERT_EQ(judged.steps[0].size(), static_cast<size_t>(kSteps));
  ExpectSameState(judged, RunJudged(Spiking(REPLAY), layout, {}, /*left_out=*/4));
}

TEST(StepJudge, ReplayBlamesTheRankThatComputesOtherBits) {
  const RunLayout layout = {2, 1, 1};
  Spoilt once = SpoiltSamples();
  once.only_first = true;
  const Judged judged = RunJudged(Spiking(REPLAY), layout, {once});
  ExpectAgreement(judged);
  ASSERT_EQ(judged.steps[0].size(), 5u);
  const std::string message(judged.steps[0].back().status.message());
  EXPECT_EQ(ExitCodeOf(judged.steps[0].back().status), ExitCode::kPeerLost);
  EXPECT_THAT(message, AllOf(HasSubstr("step 5 was not applied: "), HasSubstr("A machine is at fault, not the data: rank 1 ("),
                             HasSubstr("contributed other bits"), Not(HasSubstr("rank 0"))));
  EXPECT_EQ(judged.suspects[0], 5) << "the weights are good: a checkpoint of them too";
}

// With experts over ranks a wrong row of one makes what others compute of it wrong.
TEST(StepJudge, ReplayBlamesNobodyWhereSeveralMachinesComputeOtherBits) {
  Spoilt once = SpoiltSamples();
  once.only_first = true;
  const Judged judged = RunJudged(Spiking(REPLAY), {2, 2, 1}, {once});
  ExpectAgreement(judged);
  ASSERT_EQ(judged.steps[0].size(), 5u);
  EXPECT_EQ(ExitCodeOf(judged.steps[0].back().status), ExitCode::kPeerLost);
  EXPECT_THAT(std::string(judged.steps[0].back().status.message()),
              AllOf(HasSubstr("rank 0 ("), HasSubstr("rank 1 ("), HasSubstr("which cannot be told")));
}

// Equal bits twice do not clear a machine whose weights are no longer the others'.
TEST(StepJudge, ReplayComparesTheWeights) {
  const Judged judged = RunJudged(With(REPLAY), {3, 1, 1}, {SpoiltWeight("model.norm.weight", kNan)});
  ExpectAgreement(judged);
  EXPECT_EQ(ExitCodeOf(judged.steps[0].back().status), ExitCode::kPeerLost);
  EXPECT_THAT(std::string(judged.steps[0].back().status.message()),
              AllOf(HasSubstr("step 5 was not applied: ranks do not have the same weights: model.norm.weight: rank 1 ("),
                    HasSubstr("has other bits than rank 0 (")));
}

// One bit, of any kind of weight that several ranks hold, before the next step is applied.
TEST(StepJudge, AFlippedBitIsFoundWithinAStep) {
  const auto flip = [](std::function<uint8_t*(TrainStep&)> byte, int rank) {
    return Spoilt{.spoil = [=](TrainStep& step, SampleBatch&) { *byte(step) ^= 1; },
                  .mend = [](TrainStep&, SampleBatch&) {},
                  .rank = rank,
                  .step = 3};
  };
  const auto weight = [](const std::string& name) {
    return [=](TrainStep& step) { return static_cast<uint8_t*>(step.weights().value(ParamNamed(step, name)).data); };
  };
  const auto bias = [](TrainStep& step) { return static_cast<uint8_t*>(step.weights().bias(0).data); };
  const auto codes = [](TrainStep& step) {
    return static_cast<uint8_t*>(step.model_weights().blocks[0].attention.q_a.fp8.plain.codes.data);
  };
  struct Case {
    std::string name;
    RunLayout layout;
    Spoilt flipped;
    ProductType gemm = AS_COMPUTE;
  };
  const std::vector<Case> cases = {
      {"model.embed_tokens.weight: rank 2 (", {3, 1, 1}, flip(weight("model.embed_tokens.weight"), 2)},
      {"model.layers.1.mlp.gate.e_score_correction_bias: rank 1 (", {3, 1, 1}, flip(bias, 1)},
      {"model.layers.0.self_attn.q_a_proj.weight: rank 1 (", {3, 1, 1}, flip(codes, 1), FP8_BLOCK},
      // Ranks 1, 3 and 5 hold the second half of the experts.
      {"expert 6: rank 3 (", {6, 2, 1}, flip(weight("model.layers.1.mlp.experts.gate_up_proj.weight"), 3)},
      {"lm_head.weight: rank ",
       {4, 1, 1, 2},
       flip(
           [&](TrainStep& step) {
             const size_t head = ParamNamed(step, "lm_head.weight");
             static uint8_t nowhere;
             return step.weights().holds(head) ? static_cast<uint8_t*>(step.weights().value(head).data) : &nowhere;
           },
           3)},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.name);
    RunConfig config = TinyRun(8, 1);
    config.mutable_precision()->set_gemm(one.gemm);
    EXPECT_EQ(RunJudged(config, one.layout, {one.flipped}).steps[0].size(), static_cast<size_t>(kSteps)) << "nobody looks";
    config.mutable_train()->set_verify_replicas(1);
    const Judged judged = RunJudged(config, one.layout, {one.flipped});
    ExpectAgreement(judged);
    ASSERT_EQ(judged.steps[0].size(), 4u);
    EXPECT_EQ(ExitCodeOf(judged.steps[0].back().status), ExitCode::kPeerLost);
    EXPECT_THAT(std::string(judged.steps[0].back().status.message()), HasSubstr(one.name));
    EXPECT_EQ(judged.suspects[0], 3) << "after two steps all was well";
    EXPECT_EQ(RunJudged(config, one.layout, {}).steps[0].size(), static_cast<size_t>(kSteps)) << "a false alarm";
  }
}

// What is saved was compared, however rarely steps are.
TEST(StepJudge, OnlyWeightsThatAllRanksHaveAlikeAreSaved) {
  RunConfig config = TinyRun(8, 1);
  const auto before_saves = [&] {
    std::vector<absl::Status> statuses;
    RunLoopback(3, [&](Communicator& world) {
      Mesh mesh(world, MeshShapeOn(config, world).value());
      TrainStep step(config, mesh);
      step.Initialize();
      StepJudge judge(config.train(), step, world);
      std::vector<absl::Status> mine;
      for (int64_t i = 0; i < 3; ++i) {
        const StepPlan plan = StepAt(i, config);
        ASSERT_TRUE(judge.Run(plan, BatchOf(step, plan, config.model().vocab_size())).status.ok());
        if (i == 2 && world.rank() == 1) *static_cast<uint8_t*>(step.weights().bias(0).data) ^= 1;
        mine.push_back(judge.CheckBeforeSave(i + 1));
      }
      EXPECT_EQ(judge.suspect(), mine.back().ok() ? 0 : 3);
      if (world.rank() == 2) statuses = mine;
    });
    return statuses;
  };
  for (const absl::Status& status : before_saves()) EXPECT_TRUE(status.ok()) << "nobody looks";
  config.mutable_train()->set_verify_replicas(100);
  for (const bool replay : {false, true}) {
    if (replay) config = With(REPLAY);
    const std::vector<absl::Status> statuses = before_saves();
    EXPECT_TRUE(statuses[0].ok() && statuses[1].ok()) << statuses[0] << statuses[1];
    EXPECT_EQ(ExitCodeOf(statuses[2]), ExitCode::kPeerLost);
    EXPECT_THAT(std::string(statuses[2].message()),
                AllOf(HasSubstr("after step 3, of which nothing is saved"), HasSubstr("e_score_correction_bias: rank 1 (")));
  }
}

// A bit of a master or a moment that turns between two steps, and one before a checkpoint.
TEST(StepJudge, WhatARankAloneHoldsIsAsTheLastStepLeftIt) {
  const auto turn = [](const std::string& part) {
    return Spoilt{.spoil =
                      [part](TrainStep& step, SampleBatch&) {
                        for (const StateSlice& slice : step.State())
                          if (slice.name.starts_with(part) && slice.data.size() > 0) {
                            *static_cast<uint8_t*>(slice.data.data) ^= 1;
                            return;
                          }
                      },
                  .mend = [](TrainStep&, SampleBatch&) {},
                  .rank = 1,
                  .step = 3};
  };
  RunConfig config = TinyRun(8, 1);
  config.mutable_optimizer()->set_ema_decay(0.9);
  const RunLayout three = {3, 1, 1};
  for (const std::string part : {"weight/", "m/", "v/", "ema/"}) {
    SCOPED_TRACE(part);
    config.mutable_train()->set_verify_state(false);
    EXPECT_EQ(RunJudged(config, three, {turn(part)}).steps[0].size(), static_cast<size_t>(kSteps)) << "nobody looks";
    config.mutable_train()->set_verify_state(true);
    const Judged judged = RunJudged(config, three, {turn(part)});
    ExpectAgreement(judged);
    ASSERT_EQ(judged.steps[0].size(), 4u);
    const absl::Status& status = judged.steps[0].back().status;
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kPeerLost);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("rank 1 ("), HasSubstr(": " + part), HasSubstr(" has other bits than step 3 left")));
    EXPECT_EQ(judged.suspects[0], 3) << "a checkpoint of step 3 may have it";
  }
  EXPECT_EQ(RunJudged(config, three, {}).steps[0].size(), static_cast<size_t>(kSteps)) << "a false alarm";
  RunLoopback(2, [&](Communicator& world) {
    Mesh mesh(world, MeshShapeOn(config, world).value());
    TrainStep step(config, mesh);
    step.Initialize();
    StepJudge judge(config.train(), step, world);
    EXPECT_TRUE(judge.CheckBeforeSave(0).ok()) << "before the first step";
    const StepPlan plan = StepAt(0, config);
    ASSERT_TRUE(judge.Run(plan, BatchOf(step, plan, config.model().vocab_size())).status.ok());
    EXPECT_TRUE(judge.CheckBeforeSave(1).ok());
    SampleBatch none;
    if (world.rank() == 1) turn("m/").spoil(step, none);
    EXPECT_EQ(ExitCodeOf(judge.CheckBeforeSave(1)), ExitCode::kPeerLost);
    EXPECT_EQ(judge.suspect(), 1);
  });
}

// Samples that are other while the step is computed for the first time, in a step that is computed twice and in one that is not.
TEST(StepJudge, AStepThatIsComputedTwiceGivesTheSameBits) {
  const RunLayout layout = {2, 1, 1};
  RunConfig config = TinyRun(8, 1);
  const Judged calm = RunJudged(config, layout, {});
  config.mutable_train()->set_verify_products(5);
  config.mutable_train()->set_verify_replicas(5);
  EXPECT_EQ(RunJudged(config, layout, {}).state, calm.state) << "looking changes nothing";
  Spoilt once = SpoiltSamples();
  once.only_first = true;
  const Judged judged = RunJudged(config, layout, {once});
  ExpectAgreement(judged);
  ASSERT_EQ(judged.steps[0].size(), 5u);
  EXPECT_EQ(ExitCodeOf(judged.steps[0].back().status), ExitCode::kPeerLost);
  EXPECT_THAT(std::string(judged.steps[0].back().status.message()),
              AllOf(HasSubstr("step 5 was not applied: other bits when it was computed again"), HasSubstr("rank 1 ("),
                    HasSubstr("contributed other bits"), Not(HasSubstr("rank 0"))));
  EXPECT_EQ(judged.suspects[0], 5) << "the weights are good: a checkpoint of them too";
  config.mutable_train()->set_verify_products(4);
  EXPECT_EQ(RunJudged(config, layout, {once}).steps[0].size(), static_cast<size_t>(kSteps)) << "nobody looks";
}

// Judged in two halves, with what a checkpoint keeps between them.
TEST(StepJudge, ItsHistoryGoesOn) {
  RunConfig config = Spiking(SKIP);
  RunLoopback(1, [&](Communicator& world) {
    Mesh mesh(world, {.world = 1, .pp = 1, .ep = 1});
    TrainStep step(config, mesh);
    step.Initialize();
    const auto plan_of = [](int64_t i) {
      return StepPlan{.step = i,
                      .first_sample = 8 * i,
                      .sequences = 8,
                      .tokens_before = 0,
                      .learning_rate = 0,
                      .gamma = 0,
                      .mtp_weight = 0.3};
    };
    StepJudge first(config.train(), step, world);
    EXPECT_EQ(first.Serialize(), "");
    for (int64_t i = 0; i < 4; ++i)
      EXPECT_FALSE(first.Run(plan_of(i), BatchOf(step, plan_of(i), config.model().vocab_size())).bad);
    SampleBatch spike = BatchOf(step, plan_of(4), config.model().vocab_size());
    std::fill(spike.tokens.begin(), spike.tokens.end(), 3);
    StepJudge second(config.train(), step, world), without(config.train(), step, world);
    ASSERT_TRUE(second.Parse(first.Serialize()));
    const JudgedStep a = first.Run(plan_of(4), spike), b = second.Run(plan_of(4), spike);
    ASSERT_TRUE(a.bad && b.bad);
    EXPECT_EQ(a.bad->reason, b.bad->reason);
    StepJudge third(config.train(), step, world);
    ASSERT_TRUE(third.Parse(second.Serialize()));
    EXPECT_EQ(third.Run(plan_of(5), spike).bad->in_a_row, 2);
    EXPECT_FALSE(without.Run(plan_of(4), spike).bad) << "it knows of no step before";
    EXPECT_FALSE(second.Parse("\xff"));
  });
}

}  // namespace
}  // namespace jevons
