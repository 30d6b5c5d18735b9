#include "trainer/spec/flops.h"

#include <gmock/gmock.h>

#include "tests/configs/presets.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

double Forward(const FlopCount& count, const std::string& name) {
  for (const FlopTerm& term : count.terms) {
    if (term.name == name) return term.forward;
  }
  ADD_FAILURE() << "no term " << name;
  return 0;
}

TEST(Flops, DeepSeekV3AsPublished) {
  const RunConfig config = Preset("deepseek_v3_671b");
  const FlopCount causal = CountFlops(config.model(), 4096, CoreCount::kCausal);
  const FlopCount full = CountFlops(config.model(), 4096, CoreCount::kFull);
  EXPECT_NEAR(causal.training_without_mtp() / 1e9, 250.5, 0.05);
  EXPECT_NEAR(full.training_without_mtp() / 1e9, 281.2, 0.05);
  EXPECT_NEAR(causal.training() / 1e9, 260.6, 0.1);
  EXPECT_NEAR(full.training() / 1e9, 291.9, 0.1);
  EXPECT_THAT(FlopTable(config.model(), 4096), HasSubstr("250.5 GFLOP per token causal, 281.2 full (without MTP)"));
}

TEST(Flops, SmallCpuTermByTerm) {
  const FlopCount count = CountFlops(Preset("small_cpu").model(), 512, CoreCount::kCausal);
  EXPECT_NEAR(count.training_without_mtp() / 1e6, 176.9, 0.05);
  EXPECT_EQ(Forward(count, "embedding"), 0);
  EXPECT_EQ(Forward(count, "attention projections"), 8 * 2.0 * (512 * 256 + 256 * 768 + 512 * 160 + 128 * 1024 + 512 * 512));
  EXPECT_EQ(Forward(count, "attention core"), 8 * 2.0 * 8 * (96 + 64) * 256.5);
  EXPECT_EQ(Forward(count, "dense FFN"), 2.0 * 3 * 512 * 1536);
  EXPECT_EQ(Forward(count, "router"), 7 * 2.0 * 32 * 512);
  EXPECT_EQ(Forward(count, "shared experts"), 7 * 2.0 * 3 * 512 * 256);
  EXPECT_EQ(Forward(count, "routed experts"), 7 * 4 * 2.0 * 3 * 512 * 256);
  EXPECT_EQ(Forward(count, "head"), 2.0 * 512 * 8192);
  EXPECT_EQ(Forward(count, "MTP projection"), 2.0 * 512 * 1024);
  EXPECT_EQ(Forward(count, "MTP head"), 2.0 * 512 * 8192);
  EXPECT_EQ(Forward(count, "MTP routed experts"), 4 * 2.0 * 3 * 512 * 256);
  double sum = 0;
  for (const FlopTerm& term : count.terms) sum += term.forward;
  EXPECT_DOUBLE_EQ(count.training(), 3 * sum);
}

TEST(Flops, WithoutMtpItsTermsAreZero) {
  const FlopCount count = CountFlops(Preset("small_cpu", {"model.mtp.depth=0"}).model(), 512, CoreCount::kFull);
  EXPECT_EQ(count.training(), count.training_without_mtp());
  EXPECT_EQ(Forward(count, "MTP head"), 0);
}

}  // namespace
}  // namespace jevons
