// The choice of a table, and what tables say where they cannot serve.
#include <gmock/gmock.h>

#include <cstdlib>

#include "kernels/cuda/cuda_ops.h"
#include "tests/kernels/op_test.h"

namespace jevons {
namespace {

using testing::HasSubstr;

TEST(Registry, EndsWithTheReference) {
  EXPECT_STREQ(OpTables().back()->name, "ref");
  EXPECT_STREQ(OpTables().front()->name, "cpu");
}

// Run by CTest once as is and once with JEVONS_OPS=ref: the table that the name says is the one that
// computes, seen in bits in which the two differ.
TEST(Registry, TheForcedTableRuns) {
  const char* forced = std::getenv("JEVONS_OPS");
  EXPECT_STREQ(Ops().name, forced != nullptr ? forced : "cpu");
  Guarded logits(DType::kF32, 40, 300);
  int32_t labels[40] = {};
  const auto run = [&] {
    GuardedVector losses(DType::kF32, 40);
    CrossEntropy(TestContext(), logits.Fill(1, 3).tensor, Tensor::Of(labels, {40}), losses.tensor);
    return losses.Values();
  };
  const auto with = [&](const OpTable& table) {
    TableScope scope(table, 1);
    return run();
  };
  const std::vector<float> chosen = run(), cpu = with(kCpuOps), ref = with(kRefOps);
  EXPECT_FALSE(SameBits(cpu, ref));
  EXPECT_TRUE(SameBits(chosen, forced != nullptr && std::string(forced) == "ref" ? ref : cpu));
}

TEST(RegistryDeathTest, UnknownNamesAreRefused) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        setenv("JEVONS_OPS", "fast", 1);
        Ops();
      },
      testing::ExitedWithCode(2), "JEVONS_OPS=fast: say cpu or ref, or unset it");
}

constexpr Stream kCountsForCuda{.device = Device::kNone, .counted = Device::kCuda};

TEST(Refusal, RoutingOnCudaHasAMostOfExperts) {
  const OpTable& cuda = Ops(kCountsForCuda);
  const RouterDesc published{.experts = 256, .top_k = 8, .groups = 8, .kept_groups = 4}, many{.experts = 40000, .top_k = 8};
  EXPECT_EQ(cuda.router.refusal(published, {}), "");
  EXPECT_EQ(cuda.balance_loss.refusal(published, {}, 4096, {}, {}), "");
  EXPECT_EQ(cuda.router_backward.refusal(published, {}), "");
  EXPECT_THAT(cuda.router.refusal(many, {}), HasSubstr("routing to 40000 experts"));
  EXPECT_THAT(cuda.balance_loss.refusal(many, {}, 4096, {}, {}), HasSubstr("routing to 40000 experts"));
  EXPECT_EQ(cuda.router_backward.refusal(many, {}), "");  // takes a third of the forward's room
  EXPECT_EQ(kCpuOps.router.refusal(many, {}), "");
}

TEST(Refusal, SortingOnCudaHasAMostOfExperts) {
  std::vector<int64_t> counts(3073);
  const auto refusal = [&](int64_t experts) {
    return Ops(kCountsForCuda).sort_by_expert.refusal({}, Tensor::Of(counts.data(), {experts}), {}, {});
  };
  EXPECT_EQ(refusal(3072), "");
  EXPECT_EQ(refusal(3073), "CUDA sorts by at most 3072 experts, and there are 3073");
}

// CUDA's products read W^T where it lies, those of the CPU turn W.
TEST(Refusal, WeightsOfTheCpuAreNotThoseOfCuda) {
  Arena arena("test", int64_t{1} << 20);
  const Tensor value = arena.Allocate("value", DType::kF32, {130, 70});
  const QuantizeWeightDesc of_cpu{value, AllocateFp8Weight(arena, Device::kCpu, 130, 70)},
      of_cuda{value, AllocateFp8Weight(arena, Device::kCuda, 130, 70)};
  for (const OpTable* table : {&kCpuOps, &kRefOps}) {
    EXPECT_EQ(table->quantize_weights.refusal({{of_cpu, of_cuda}}, nullptr), "");
  }
  const auto& cuda = Ops(kCountsForCuda).quantize_weights;
  EXPECT_EQ(cuda.refusal({{of_cuda}}, nullptr), "");
  EXPECT_THAT(cuda.refusal({{of_cuda, of_cpu}}, nullptr), HasSubstr("the weight F32 [130, 70] has no room for it"));
}

TEST(RefusalDeathTest, EndsTheCallOfTheOperator) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Arena arena("test", int64_t{1} << 20);
  const Tensor value = arena.Allocate("value", DType::kF32, {130, 70});
  const Fp8Weight weight = AllocateFp8Weight(arena, Device::kCpu, 130, 70);
  EXPECT_DEATH(QuantizeWeights({.stream = kCountsForCuda, .scratch = &arena}, {{{value, weight}}}, nullptr),
               "CUDA's products read W");
}

}  // namespace
}  // namespace jevons
