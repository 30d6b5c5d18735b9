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
}

TEST(Cost, AddsUpOverRestartsWithWhatWasLost) {
  CostLedger ledger;
  EXPECT_EQ(DollarsPerMillionTokens(ledger), 0);
  Charge(ledger, {.seconds = 1800, .devices = 4, .price_per_device_hour = 1});
  CostLedger resumed;  // from the checkpoint
  ASSERT_TRUE(resumed.ParseFromString(ledger.SerializeAsString()));
  AddRestart(resumed, 3600, 1);  // the dead run had gone on for an hour of device time
  Charge(resumed, {.seconds = 900, .devices = 4, .price_per_device_hour = 1});
  resumed.set_tokens(1'000'000);
  EXPECT_DOUBLE_EQ(resumed.device_seconds(), 7200 + 3600 + 3600);
  EXPECT_DOUBLE_EQ(resumed.dollars(), 4);
  EXPECT_DOUBLE_EQ(resumed.wasted_device_seconds(), 3600);
  EXPECT_DOUBLE_EQ(resumed.wasted_dollars(), 1);
  EXPECT_EQ(resumed.restarts(), 1);
  EXPECT_DOUBLE_EQ(DollarsPerMillionTokens(resumed), 4);
  EXPECT_EQ(CostSummary(resumed, "CPU core", /*priced=*/true),
            "1000000 tokens, 4 CPU core hours (25.0% of them lost, 1 restart), $4, $4 per million tokens");
  EXPECT_EQ(CostSummary(resumed, "CPU core", /*priced=*/false),
            "1000000 tokens, 4 CPU core hours (25.0% of them lost, 1 restart), price not set (cost.price_per_device_hour)");
}

}  // namespace
}  // namespace jevons
