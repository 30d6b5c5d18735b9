// A step is applied on all ranks or on none (contract 14): what becomes of one that a single rank has spoilt, under each policy, and of
// weights that are no longer the same on all ranks.
#include "trainer/run/step_judge.h"

#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <limits>

#include "tests/support/layout_run.h"
#include "tests/support/watched_group.h"

namespace jevons {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// A world that tells when its ranks first agree on something: for a judge between the two times that it computes a step, when it has compared
// the replicas.
class ListeningWorld final : public WatchedGroup {
 public:
  using WatchedGroup::WatchedGroup;
  void AllReduceMax(std::span<int64_t> values) override {
    if (heard) heard();
    WatchedGroup::AllReduceMax(values);
  }
  std::function<void()> heard;
};

// What happens on one rank before a step.
struct Spoilt {
  std::function<void(TrainStep&step, SampleBatch&batch)> spoil, mend;  // mend: after the step
  int rank = 1;
  int64_t step = 4;
  bool only_first = false;  // mended before the step is computed again
};

struct Judged {
  std::vector<std::vector<JudgedStep>> steps;  // [ranks][steps until the end]
  std::vector<int64_t> suspects;               // [ranks]
  std::map<std::string, std::vector<uint8_t>> state;
};

constexpr int64_t kSteps = 7;

// `left_out`: a step that is not even computed.
Judged RunJudged(RunConfig config, const RunLayout& layout, const std::vector<Spoilt>& spoilt, int64_t left_out = -1,
                 int64_t steps = kSteps) {
  layout.Set(*config.mutable_parallel());
  Judged judged;
  judged.steps.resize(static_cast<size_t>(layout.ranks));
  judged.suspects.resize(static_cast<size_t>(layout.ranks));
  std::mutex mutex;
  RunLoopback(layout.ranks, [&](Communicator& world) {
    omp_set_num_threads(layout.threads);
    Mesh mesh(world, MeshShapeOn(config, world).value());
    TrainStep step(config, mesh);
    step.Initialize();
    ListeningWorld listening(world);
    StepJudge judge(config.train(), step, listening);
    std::vector<JudgedStep>& mine = judged.steps[static_cast<size_t>(world.rank())];
    for (int64_t i = 0; i < steps && (mine.empty() || mine.back().status.ok()); ++i) {
      const StepPlan plan{.step = i,
                          .first_sample = i * config.train().batch_sequences(),
                          .sequences = config.train().batch_sequences(),
                          .tokens_before = 0,
                          .learning_rate = 1e-2,
                          .gamma = 0.01,
                          .mtp_weight = 0.3};
      SampleBatch batch = BatchOf(step, plan, config.model().vocab_size());
      if (i == left_out) continue;
      const Spoilt* now = nullptr;
      for (const Spoilt& one : spoilt)
        if (one.step == i && one.rank == world.rank()) now = &one;
      if (now != nullptr) now->spoil(step, batch);
      bool mended = now == nullptr;
      const auto mend = [&] {
        if (!std::exchange(mended, true)) now->mend(step, batch);
      };
      if (now != nullptr && now->only_first) listening.heard = mend;
      mine.push_back(judge.Run(plan, batch));
      mend();
    }
    judged.suspects[static_cast<size_t>(world.rank())] = judge.suspect();
    const std::lock_guard lock(mutex);
    for (const StateSlice& slice : step.State()) {
      const auto size = static_cast<size_t>(SizeOf(slice.data.dtype));
      std::vector<uint8_t>& bytes = judged.state[slice.name];
      bytes.resize(static_cast<size_t>(slice.shape.size()) * size, 0xAB);
      std::memcpy(bytes.data() + static_cast<size_t>(slice.elements.begin) * size, slice.data.data,
                  static_cast<size_t>(slice.elements.size()) * size);
    }
  });
  return judged;
}

size_t ParamNamed(const TrainStep& step, const std::string& name) {
  for (size_t p = 0; p < step.weights().specs().size(); ++p)
    if (step.weights().specs()[p].name == name) return p;
  ADD_FAILURE() << name;
  return 0;
}

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

RunConfig With(BadStepPolicy policy) {
  RunConfig config = TinyRun(8, 1);
  config.mutable_train()->mutable_bad_step()->set_policy(policy);
  return config;
}

RunConfig Spiking(BadStepPolicy policy) {
  RunConfig config = With(policy);
  config.mutable_train()->mutable_bad_step()->set_spike_sigmas(3);
  config.mutable_train()->mutable_bad_step()->set_spike_window(4);
  return config;
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
  EXPECT_EQ(ExitCodeOf(judged.steps[0].back().status), ExitCode::kNumerical);
  EXPECT_THAT(message, AllOf(HasSubstr("step 5 was not applied: "), HasSubstr("A machine is at fault, not the data: rank 1 ("),
                             HasSubstr("contributed other bits"), Not(HasSubstr("rank 0"))));
  EXPECT_EQ(judged.suspects[0], 5) << "the weights are good: a checkpoint of them too";
}

// Equal bits twice do not clear a machine whose weights are no longer the others'.
TEST(StepJudge, ReplayComparesTheWeights) {
  const Judged judged = RunJudged(With(REPLAY), {3, 1, 1}, {SpoiltWeight("model.norm.weight", kNan)});
  ExpectAgreement(judged);
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
    EXPECT_EQ(ExitCodeOf(judged.steps[0].back().status), ExitCode::kNumerical);
    EXPECT_THAT(std::string(judged.steps[0].back().status.message()), HasSubstr(one.name));
    EXPECT_EQ(judged.suspects[0], 3) << "after two steps all was well";
    EXPECT_EQ(RunJudged(config, one.layout, {}).steps[0].size(), static_cast<size_t>(kSteps)) << "a false alarm";
  }
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
