#include "trainer/metrics/cost.h"

#include <gtest/gtest.h>

namespace jevons {
namespace {

TEST(Cost, DeepSeekV3PerTrillionTokens) {
  CostLedger ledger;
  Charge(ledger, {.seconds = 180e3 * 3600 / 2048, .devices = 2048, .price_per_device_hour = 2});
  ledger.set_tokens(1'000'000'000'000);
  EXPECT_NEAR(ledger.dollars(), 360e3, 1e-3);
  EXPECT_NEAR(DollarsPerMillionTokens(ledger), 0.36, 1e-9);
  EXPECT_NEAR(HoursPerTrillionTokens(ledger.device_seconds(), static_cast<double>(ledger.tokens())), kDeepSeekV3HoursPerTrillion,
              1e-6);
}

TEST(Cost, AddsUpOverRestartsWithWhatWasLost) {
  CostLedger ledger;
  EXPECT_EQ(DollarsPerMillionTokens(ledger), 0);
  Charge(ledger, {.seconds = 1800, .devices = 4, .price_per_device_hour = 1});
  CostLedger resumed;  // from the checkpoint
  ASSERT_TRUE(resumed.ParseFromString(ledger.SerializeAsString()));
  AddRestart(resumed,
             {.seconds = 900, .device_seconds = 3600, .dollars = 1});  // the dead run had gone on for an hour of device time
  Charge(resumed, {.seconds = 900, .devices = 4, .price_per_device_hour = 1});
  resumed.set_tokens(1'000'000);
  EXPECT_DOUBLE_EQ(resumed.device_seconds(), 7200 + 3600 + 3600);
  EXPECT_DOUBLE_EQ(resumed.seconds(), 1800 + 900 + 900);
  EXPECT_DOUBLE_EQ(resumed.dollars(), 4);
  EXPECT_DOUBLE_EQ(resumed.wasted_device_seconds(), 3600);
  EXPECT_DOUBLE_EQ(resumed.wasted_dollars(), 1);
  EXPECT_EQ(resumed.restarts(), 1);
  EXPECT_DOUBLE_EQ(DollarsPerMillionTokens(resumed), 4);
  EXPECT_EQ(CostSummary(resumed, "CPU core", /*priced=*/true),
            "1000000 tokens, 4 CPU core hours (25.0% of them lost, $1, 1 restart), $4, $4 per million tokens");
  EXPECT_EQ(CostSummary(resumed, "CPU core", /*priced=*/false),
            "1000000 tokens, 4 CPU core hours (25.0% of them lost, 1 restart), price not set (cost.price_per_device_hour)");
}

TEST(Cost, ASkippedStepIsPaidForAndLost) {
  CostLedger ledger;
  ledger.set_tokens(1'000'000);
  Charge(ledger, {.seconds = 7200, .devices = 4, .price_per_device_hour = 1});
  AddSkipped(ledger, 4096, 3600, 1);
  EXPECT_DOUBLE_EQ(ledger.device_seconds(), 8 * 3600) << "it was charged before";
  EXPECT_EQ(CostSummary(ledger, "CPU core", /*priced=*/true),
            "1000000 tokens, 8 CPU core hours (12.5% of them lost, $1, 0 restarts, 1 step of 4096 tokens skipped), $8, $8 per "
            "million tokens");
  AddSkipped(ledger, 4096, 3600, 1);
  EXPECT_EQ(CostSummary(ledger, "CPU core", /*priced=*/true),
            "1000000 tokens, 8 CPU core hours (25.0% of them lost, $2, 0 restarts, 2 steps of 8192 tokens skipped), $8, $8 per "
            "million tokens");
  EXPECT_DOUBLE_EQ(ledger.wasted_dollars(), 2);
}

// 250 GFLOP a token at 40% of 1 PFLOP/s: 1600 tokens a second.
TEST(Cost, AReferenceSpeedKnowsNoClock) {
  const ReferenceSpeed speed{.mfu = 0.4, .peak_flops = 1e15};
  EXPECT_DOUBLE_EQ(speed.device_seconds(250e9 * 1e12), 1e12 / 1600);
  EXPECT_EQ(ReferenceSpeed{}.device_seconds(1e12), 0);
}

}  // namespace
}  // namespace jevons
