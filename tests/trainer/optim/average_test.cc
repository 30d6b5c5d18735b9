// The moving average of the weights: exact, whoever owns them, and of no effect on anything else. That any layout resumes it is in train_test.
#include "tests/support/layout_run.h"
#include "trainer/optim/weight_average.h"

namespace jevons {
namespace {

constexpr double kDecay = 0.75;

float Averaged(float average, float weight, double decay) { return average + static_cast<float>(1 - decay) * (weight - average); }

// Large enough that the thread is still at work when the masters would change if nobody waited for it.
TEST(WeightAverageTest, ReadsTheMastersOfItsOwnUpdate) {
  constexpr int64_t kSize = int64_t{1} << 22;
  std::vector<float> masters(kSize), expected(kSize);
  for (int64_t i = 0; i < kSize; ++i)
    expected[static_cast<size_t>(i)] = masters[static_cast<size_t>(i)] = static_cast<float>(i % 1001) * 0.37f;
  WeightAverage average(0.999, {Tensor::Of(masters.data(), {kSize}), Tensor::Of(masters.data(), {0})}, {});
  average.Reset({});
  for (int step = 0; step < 3; ++step) {
    average.Finish();
    for (float& weight : masters) weight = weight * 1.01f - 0.5f;
    for (size_t i = 0; i < expected.size(); ++i) expected[i] = Averaged(expected[i], masters[i], 0.999);
    average.Begin({});
  }
  average.Finish();
  std::fill(masters.begin(), masters.end(), 7.0f);
  EXPECT_EQ(std::memcmp(average.of(0).data, expected.data(), expected.size() * sizeof(float)), 0);
  EXPECT_EQ(average.of(1).size(), 0);
  EXPECT_EQ(average.bytes(), kSize * 4);
}

TEST(WeightAverageDeathTest, IsFinishedBeforeItIsReadOrBegunAgain) {
  std::vector<float> masters(3, 1.0f);
  const auto begun = [&](auto then) {
    WeightAverage average(kDecay, {Tensor::Of(masters.data(), {3})}, {});
    average.Reset({});
    average.Begin({});
    then(average);
  };
  EXPECT_DEATH(begun([](WeightAverage& average) { average.Begin({}); }), "under way");
  EXPECT_DEATH(begun([](WeightAverage& average) { average.of(0); }), "under way");
}

using State = std::map<std::string, std::vector<float>>;

// Of all ranks: what a checkpoint of FP32 tensors would have after each step, from the first weights on.
std::vector<State> StatesOf(const RunConfig& config, int ranks, int steps) {
  std::vector<State> states(static_cast<size_t>(steps) + 1);
  std::mutex mutex;
  RunLoopback(ranks, [&](Communicator& world) {
    Mesh mesh(world, {.world = ranks, .pp = 1, .ep = ranks});
    TrainStep step(config, mesh);
    step.Initialize();
    for (int i = 0; i <= steps; ++i) {
      if (i > 0) {
        const StepPlan plan{.step = i - 1,
                            .first_sample = 0,
                            .sequences = config.train().batch_sequences(),
                            .tokens_before = 0,
                            .learning_rate = 1e-2,
                            .gamma = 0.01,
                            .mtp_weight = 0.3};
        ASSERT_TRUE(step.Run(plan, BatchOf(step, plan, config.model().vocab_size())).ok());
      }
      const std::lock_guard lock(mutex);
      for (const StateSlice& slice : step.State()) {
        ASSERT_EQ(slice.data.dtype, DType::kF32);
        std::vector<float>& values = states[static_cast<size_t>(i)][slice.name];
        values.resize(static_cast<size_t>(slice.shape.size()));
        std::copy_n(slice.data.as<float>(), slice.data.size(), values.begin() + slice.elements.begin);
      }
    }
    int64_t owned = 0;
    for (const StateSlice& slice : step.State())
      owned += slice.name.rfind("weight/", 0) == 0 ? Arena::SliceBytes(DType::kF32, slice.data.shape) : 0;
    EXPECT_EQ(step.memory().host, config.optimizer().ema_decay() > 0 ? owned : 0);
  });
  return states;
}

class AverageTest : public testing::TestWithParam<ComputeType> {};

TEST_P(AverageTest, IsThatOfAScalarRecomputation) {
  RunConfig config = TinyRun(4, 1);
  config.mutable_optimizer()->set_ema_decay(kDecay);
  config.mutable_precision()->set_compute(GetParam());
  const std::vector<State> states = StatesOf(config, 3, 4);
  State expected;
  for (const auto& [name, values] : states[0])
    if (name.rfind("weight/", 0) == 0) expected["ema/" + name.substr(7)] = values;
  for (size_t i = 0; i < states.size(); ++i) {
    for (auto& [name, average] : expected) {
      const std::vector<float>& weights = states[i].at("weight/" + name.substr(4));
      for (size_t j = 0; i > 0 && j < average.size(); ++j) average[j] = Averaged(average[j], weights[j], kDecay);
      ASSERT_EQ(states[i].at(name), average) << name << " after step " << i;
    }
  }
  EXPECT_NE(states[4].at("ema/model.norm.weight"), states[4].at("weight/model.norm.weight"));
}

TEST_P(AverageTest, ChangesNothingElse) {
  RunConfig config = TinyRun(4, 1);
  config.mutable_precision()->set_compute(GetParam());
  config.mutable_optimizer()->clear_ema_decay();
  const State without = StatesOf(config, 2, 2).back();
  config.mutable_optimizer()->set_ema_decay(kDecay);
  State with = StatesOf(config, 2, 2).back();
  const size_t averages = std::erase_if(with, [](const auto& tensor) { return tensor.first.rfind("ema/", 0) == 0; });
  EXPECT_EQ(averages, ParameterTable(config.model()).size());
  EXPECT_EQ(with, without);
}

INSTANTIATE_TEST_SUITE_P(Types, AverageTest, testing::Values(FP32, BF16));

}  // namespace
}  // namespace jevons
