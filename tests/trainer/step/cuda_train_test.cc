// Training on CUDA against training on the CPU. As with the operators (tests/kernels/cuda/cuda_test.h) the same tests are two
// programs: one with a device, and one that runs the kernels on the host, where the host's code cannot touch the device's memory.
#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/data/test_data.h"
#include "tests/kernels/cuda/cuda_test.h"
#include "tests/support/memory_disk.h"
#include "tests/support/tiny_model.h"
#include "tests/trainer/step/cuda_ranks.h"
#include "trainer/run/state.h"
#include "trainer/step/planned_memory.h"

namespace jevons {
namespace {

constexpr int64_t kS = 12, kBatch = 4, kSteps = 2;

RunConfig Tiny(ComputeType compute, ProductType product) {
  RunConfig config;
  *config.mutable_model() = TinyModel();
  config.mutable_model()->set_hidden_size(144);  // sums over more than one block
  config.mutable_model()->set_init_std(0.05);
  config.mutable_data()->set_sequence_length(kS);
  config.mutable_train()->set_batch_sequences(kBatch);
  config.mutable_precision()->set_compute(compute);
  config.mutable_precision()->set_gemm(product);
  if (compute == BF16) config.mutable_optimizer()->set_moments(MOMENTS_BF16);
  config.mutable_optimizer()->set_ema_decay(0.9);
  return config;
}

RunConfig On(BackendType backend, RunConfig config) {
  config.mutable_parallel()->set_backend(backend);
  return config;
}

SampleBatch BatchOf(const TrainStep& step, const RunConfig& config, int64_t number) {
  const Range mine = step.SamplesOf(kBatch);
  SampleBatch batch{.first = mine.begin, .count = mine.size(), .tokens = {}, .document_start = {}};
  for (int64_t s = mine.begin; s < mine.end; ++s) {
    for (const int32_t token : RandomTokens(kS + 1, config.model().vocab_size(), static_cast<uint64_t>(number * kBatch + s)))
      batch.tokens.push_back(token);
    for (int32_t i = 0; i < kS && config.data().document_mask(); ++i)
      batch.document_start.push_back(i < 5 ? 0 : i < 7 + s ? 5 : static_cast<int32_t>(7 + s));
  }
  return batch;
}

StepPlan PlanOf(int64_t number) {
  return {.step = number,
          .first_sample = number * kBatch,
          .sequences = kBatch,
          .tokens_before = 0,
          .learning_rate = 3e-3,
          .gamma = 0.001,
          .mtp_weight = 0.3};
}

// The figures of each step, of rank 0.
std::vector<StepStats> Train(RunConfig config, int ranks, int ep, int nodes = 0) {
  config.mutable_parallel()->set_ep(ep);
  config.mutable_parallel()->set_ep_nodes(nodes);
  config.mutable_parallel()->set_dispatch(nodes > 0 ? FORWARDING : FLAT);
  std::vector<StepStats> all;
  const auto body = [&](Communicator& world) {
    Mesh mesh(world, MeshShapeOn(config, world).value());
    TrainStep step(config, mesh);
    step.Initialize();
    for (int64_t i = 0; i < kSteps; ++i) {
      const auto stats = step.Run(PlanOf(i), BatchOf(step, config, i));
      ASSERT_TRUE(stats.ok()) << stats.status();
      if (world.rank() == 0) all.push_back(*stats);
    }
  };
  RunCudaRanks(ranks, body);
  return all;
}

struct Bounds {
  double loss, norm;  // relative
};

void ExpectNear(const std::vector<StepStats>& cuda, const std::vector<StepStats>& cpu, const Bounds& bounds) {
  ASSERT_EQ(cuda.size(), cpu.size());
  const auto tell = [](const char* what, size_t step, double a, double b, double bound) {
    std::printf("deviation training %s, step %zu: %.3g of its bound\n", what, step, std::abs(a - b) / (bound * std::abs(b)));
  };
  for (size_t i = 0; i < cpu.size(); ++i) {
    tell("loss", i, cuda[i].loss, cpu[i].loss, bounds.loss);
    tell("gradient norm", i, cuda[i].gradient_norm, cpu[i].gradient_norm, bounds.norm);
    EXPECT_NEAR(cuda[i].loss, cpu[i].loss, bounds.loss * cpu[i].loss) << "step " << i;
    EXPECT_NEAR(cuda[i].mtp_loss, cpu[i].mtp_loss, bounds.loss * cpu[i].mtp_loss) << "step " << i;
    EXPECT_NEAR(cuda[i].balance_loss, cpu[i].balance_loss, 0.02 * cpu[i].balance_loss) << "step " << i;
    EXPECT_NEAR(cuda[i].gradient_norm, cpu[i].gradient_norm, bounds.norm * cpu[i].gradient_norm) << "step " << i;
    EXPECT_EQ(cuda[i].fp8.activations.elements, cpu[i].fp8.activations.elements);
    EXPECT_EQ(cuda[i].fp8.weights.elements, cpu[i].fp8.weights.elements);
    EXPECT_EQ(cuda[i].fp8.cached.elements, cpu[i].fp8.cached.elements);
  }
}

using Case = std::tuple<ComputeType, ProductType, bool>;
class CudaTraining : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const std::string reason = CudaRefusal(); !reason.empty()) GTEST_SKIP() << "no CUDA device: " << reason;
    BeforeCudaRepeat(0);
  }
  RunConfig Config() const {
    RunConfig config = Tiny(std::get<0>(GetParam()), std::get<1>(GetParam()));
    config.mutable_data()->set_document_mask(std::get<2>(GetParam()));
    return config;
  }
  // In FP32 the two differ by the order of sums; else by roundings to 8 and to 4 bits that fall to the other side.
  Bounds BoundsOf() const {
    if (std::get<1>(GetParam()) == FP8_BLOCK) return {1e-2, 0.1};
    return std::get<0>(GetParam()) == BF16 ? Bounds{2e-3, 0.03} : Bounds{1e-5, 1e-3};
  }
};

TEST_P(CudaTraining, FollowsTheCpu) {
  const std::vector<StepStats> cpu = Train(On(CPU, Config()), 1, 1), cuda = Train(On(CUDA, Config()), 1, 1);
  ExpectNear(cuda, cpu, BoundsOf());
  if (std::get<0>(GetParam()) == FP32 && std::get<1>(GetParam()) == AS_COMPUTE) {
    int64_t moved = 0, all = 0;  // pairs of token and expert: scores that tie to an ulp may choose another one
    for (size_t i = 0; i < cpu[0].loads.size(); ++i) {
      moved += std::max<int64_t>(0, cuda[0].loads[i] - cpu[0].loads[i]);
      all += cpu[0].loads[i];
    }
    std::printf("deviation FollowsTheCpu loads: %lld of %lld pairs went to another expert\n", static_cast<long long>(moved),
                static_cast<long long>(all));
    EXPECT_EQ(cuda[0].loads, cpu[0].loads);
  }
  // The counts of each MoE layer (MTP modules have one, too) and micro-batch, and once all that the step has summed.
  const auto layers = static_cast<int64_t>(cuda[0].loads.size()) / Config().model().moe().routed_experts();
  EXPECT_EQ(cuda[1].host_waits, kBatch * layers + 1);
  EXPECT_EQ(cpu[1].host_waits, 0);
}

TEST_P(CudaTraining, GivesTheSameBitsOnEveryLayout) {
  if (MostCudaRanks() < 4) GTEST_SKIP() << "several ranks are several processes here: tests/gpu/train.sh trains with them";
  RunConfig config = On(CUDA, Config());
  config.mutable_parallel()->set_sums(EXACT);
  const std::vector<StepStats> alone = Train(config, 1, 1);
  for (const std::vector<StepStats>& spread : {Train(config, 4, 2), Train(config, 4, 4, /*nodes=*/2)}) {
    for (size_t i = 0; i < alone.size(); ++i) {
      EXPECT_EQ(alone[i].loss, spread[i].loss);
      EXPECT_EQ(alone[i].gradient_norm, spread[i].gradient_norm);
      EXPECT_EQ(alone[i].loads, spread[i].loads);
    }
  }
}

// Two micro-batches at once on one stream, and the host waits no more often.
TEST_P(CudaTraining, GivesTheSameBitsInPairs) {
  RunConfig config = Config(), pairs = Config();
  config.mutable_parallel()->set_sums(EXACT);
  pairs.mutable_parallel()->set_sums(EXACT);
  pairs.mutable_parallel()->set_schedule(DUALPIPEV);
  const std::vector<StepStats> apart = Train(On(CUDA, config), 1, 1);
  for (const int ranks : {1, 2}) {
    if (ranks > MostCudaRanks()) continue;
    const std::vector<StepStats> paired = Train(On(CUDA, pairs), ranks, ranks);
    for (size_t i = 0; i < apart.size(); ++i) {
      EXPECT_EQ(apart[i].loss, paired[i].loss);
      EXPECT_EQ(apart[i].gradient_norm, paired[i].gradient_norm);
      EXPECT_EQ(apart[i].loads, paired[i].loads);
      if (ranks == 1) {  // a count of the process
        EXPECT_EQ(apart[i].host_waits, paired[i].host_waits);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, CudaTraining,
                         testing::Values(Case{FP32, AS_COMPUTE, true}, Case{BF16, AS_COMPUTE, false},
                                         Case{BF16, FP8_BLOCK, true}));

// The plan counts what a backend keeps: weights in FP8 twice where its products take them turned.
TEST(CudaWeights, ArePlannedForTheBackend) {
  std::map<BackendType, int64_t> weights;
  for (const BackendType backend : {CPU, CUDA})
    weights[backend] = PlanMemory(On(backend, Tiny(BF16, FP8_BLOCK)), {.world = 1, .pp = 1, .ep = 1}, 0).use.weights;
  EXPECT_GT(weights[CUDA], weights[CPU]);
}

using MemoryCase = std::tuple<ComputeType, ProductType, bool, bool, SumType>;
class CudaMemory : public testing::TestWithParam<MemoryCase> {};

// What is planned is what is used, to the byte, where the host plays the libraries; with the real ones at most. Every token goes to every
// expert: so the load is even, as planned; and documents are those of a plan.
TEST_P(CudaMemory, IsPlanned) {
  if (const std::string reason = CudaRefusal(); !reason.empty()) GTEST_SKIP() << "no CUDA device: " << reason;
  const auto [compute, product, mask, whole_heads, sums] = GetParam();
  RunConfig config = On(CUDA, Tiny(compute, product));
  config.mutable_model()->set_hidden_size(48);
  config.mutable_data()->set_document_mask(mask);
  config.mutable_train()->set_eval_sequences(kBatch);
  const TempFolder folder;
  WriteDataset(folder / "set", {RandomTokens(kBatch * kS + 1, config.model().vocab_size(), 7)}, config.model().vocab_size());
  const auto validation = ValidationSet::Open(folder / "set", kS, config.model().vocab_size());
  ASSERT_TRUE(validation.ok()) << validation.status();
  config.mutable_parallel()->set_sums(sums);
  MoeConfig& moe = *config.mutable_model()->mutable_moe();
  moe.set_routed_experts(4);
  moe.set_groups(2);
  moe.set_top_k(moe.routed_experts());
  moe.set_kept_groups(moe.groups());
  config.mutable_model()->mutable_mtp()->set_depth(1);
  if (whole_heads) {  // cuDNN's
    AttentionConfig& attention = *config.mutable_model()->mutable_attention();
    attention.set_query_rank(8);
    attention.set_kv_rank(8);
    attention.set_nope_dim(8);
    attention.set_rope_dim(8);
    attention.set_value_dim(8);
  }
  const int ranks = MostCudaRanks();
  RunCudaRanks(ranks, [&](Communicator& world) {
    Mesh mesh(world, {.world = ranks, .pp = 1, .ep = std::min(ranks, 2)});
    TrainStep step(config, mesh);
    step.Initialize();
    SampleBatch batch = BatchOf(step, config, 0);
    for (size_t i = 0; i < batch.document_start.size(); ++i)
      batch.document_start[i] = static_cast<int32_t>(i % kS < kS / 2 ? 0 : i % kS);
    ASSERT_TRUE(step.Run(PlanOf(0), batch).ok());
    ASSERT_TRUE(step.Evaluate(*validation, kBatch).ok());
    const PlannedMemory planned = PlanMemory(config, mesh.shape(), world.rank());
    const MemoryUse used = step.memory();
    SCOPED_TRACE(testing::Message() << "rank " << world.rank());
    EXPECT_EQ(used.weights, planned.use.weights);
    EXPECT_EQ(used.gradients, planned.use.gradients);
    EXPECT_EQ(used.optimizer, planned.use.optimizer);
    EXPECT_EQ(used.host, planned.use.host);
    EXPECT_GT(used.host, 0);
    std::printf("deviation CudaMemory: %.4f of the plan is used\n",
                static_cast<double>(used.activations) / static_cast<double>(planned.use.activations));
    if (LibrariesArePlayed()) {
      EXPECT_EQ(used.activations, planned.use.activations);
      EXPECT_EQ(step.memory_ledger().saved, planned.ledger.saved);
      EXPECT_EQ(step.memory_ledger().temporary, planned.ledger.temporary);
    } else {
      EXPECT_LE(used.activations, planned.use.activations);
      EXPECT_GT(used.activations, planned.use.activations * 9 / 10);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Runs, CudaMemory,
                         testing::Values(MemoryCase{FP32, AS_COMPUTE, true, false, EXACT},
                                         MemoryCase{BF16, AS_COMPUTE, true, true, CHAIN},
                                         MemoryCase{BF16, AS_COMPUTE, false, false, CHAIN},
                                         MemoryCase{BF16, FP8_BLOCK, false, true, CHAIN},
                                         MemoryCase{FP32, FP8_BLOCK, true, false, EXACT}));

// The average of the masters, which are copied to the host beside the next step: that of a scalar recomputation.
TEST(CudaAverage, IsExact) {
  if (const std::string reason = CudaRefusal(); !reason.empty()) GTEST_SKIP() << "no CUDA device: " << reason;
  const RunConfig config = On(CUDA, Tiny(BF16, AS_COMPUTE));
  RunCudaRanks(1, [&](Communicator& world) {
    Mesh mesh(world, {.world = 1, .pp = 1, .ep = 1});
    TrainStep step(config, mesh);
    step.Initialize();
    std::map<std::string, std::vector<float>> expected;  // by parameter: a rank alone owns them whole
    for (int64_t i = 0; i <= kSteps; ++i) {
      if (i > 0) {
        ASSERT_TRUE(step.Run(PlanOf(i - 1), BatchOf(step, config, i - 1)).ok());
      }
      std::map<std::string, std::vector<float>> weights;
      for (const StateSlice& slice : step.State()) {
        const std::string parameter = slice.name.substr(slice.name.find('/') + 1) + absl::StrCat(":", slice.elements.begin);
        std::vector<float> values(static_cast<size_t>(slice.data.size()));
        if (slice.name.rfind("weight/", 0) == 0) {
          Fetch(step.stream(), slice.data.data, values.data(), slice.data.bytes());
          std::vector<float>& average = expected.try_emplace(parameter, values).first->second;
          for (size_t j = 0; j < values.size(); ++j) average[j] += static_cast<float>(1 - 0.9) * (values[j] - average[j]);
          weights[parameter] = values;
        } else if (slice.name.rfind("ema/", 0) == 0) {
          std::copy_n(slice.data.as<float>(), values.size(), values.begin());
          ASSERT_EQ(values, expected.at(parameter)) << slice.name << " after step " << i;
          if (i > 0 && slice.name == "ema/model.norm.weight") {
            EXPECT_NE(values, weights.at(parameter));
          }
        }
      }
    }
  });
}

// A checkpoint knows no backend: each reads the other's, and goes on where it stopped.
TEST(CudaCheckpoint, CrossesBackends) {
  if (const std::string reason = CudaRefusal(); !reason.empty()) GTEST_SKIP() << "no CUDA device: " << reason;
  const RunConfig config = Tiny(BF16, AS_COMPUTE);
  for (const BackendType first : {CPU, CUDA}) {
    MemoryDisk disk;
    double expected = 0, resumed = 0;
    RunCudaRanks(1, [&](Communicator& world) {
      Mesh mesh(world, {.world = 1, .pp = 1, .ep = 1});
      const RunConfig before = On(first, config), after = On(first == CPU ? CUDA : CPU, config);
      TrainStep step(before, mesh);
      step.Initialize();
      ASSERT_TRUE(step.Run(PlanOf(0), BatchOf(step, config, 0)).ok());
      CheckpointWriter writer(disk, "checkpoints", world, 1);
      ASSERT_TRUE(writer.Begin({.step = 1}, SlicesOf(step.State()), step.stream()).ok());
      expected = step.Run(PlanOf(1), BatchOf(step, config, 1))->loss;
      ASSERT_TRUE(writer.Finish().ok());

      auto path = CheckpointPath(disk, "checkpoints", 1);
      ASSERT_TRUE(path.ok()) << path.status();
      auto reader = CheckpointReader::Open(disk, *path);
      ASSERT_TRUE(reader.ok()) << reader.status();
      TrainStep other(after, mesh);
      ASSERT_TRUE(LoadState(*reader, other).ok());
      other.RestoreWeights();
      resumed = other.Run(PlanOf(1), BatchOf(other, config, 1))->loss;
    });
    EXPECT_NEAR(resumed, expected, 2e-3 * expected) << "from " << (first == CPU ? "CPU" : "CUDA");
    EXPECT_GT(expected, 0);
  }
}

// What a step says of NaN is the same, found by looking again.
TEST(CudaNonFinite, IsNamed) {
  if (const std::string reason = CudaRefusal(); !reason.empty()) GTEST_SKIP() << "no CUDA device: " << reason;
  std::map<BackendType, std::string> said;
  for (const BackendType backend : {CPU, CUDA}) {
    RunCudaRanks(1, [&](Communicator& world) {
      const RunConfig config = On(backend, Tiny(FP32, AS_COMPUTE));
      Mesh mesh(world, {.world = 1, .pp = 1, .ep = 1});
      TrainStep step(config, mesh);
      step.Initialize();
      const Tensor& weight = step.weights().value(5);
      const float nan = std::nanf("");
      CopyBytes(step.stream(), &nan, weight.data, sizeof nan);
      const auto stats = step.Run(PlanOf(0), BatchOf(step, config, 0));
      ASSERT_FALSE(stats.ok());
      const std::string message(stats.status().message());
      said[backend] = message.substr(std::min(message.size(), message.find("first seen")));  // before it, NaN of either sign
    });
  }
  EXPECT_EQ(said[CPU], said[CUDA]);
  EXPECT_NE(said[CUDA].find("micro-batch 0, layer 0"), std::string::npos) << said[CUDA];
}

}  // namespace
}  // namespace jevons
