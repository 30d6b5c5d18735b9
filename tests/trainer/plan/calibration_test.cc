// From synthetic measurements back to what they were made of.
#include "trainer/plan/calibration.h"

#include <gmock/gmock.h>

#include "configs/cluster.h"
#include "trainer/plan/kernel_model.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

constexpr double kRates[] = {0.2e12, 0.4e12, 0.1e12};  // FP32, BF16, FP8
constexpr double kStart = 5e-6;

Measurements Synthetic() {
  Measurements m{.device = "Some \"CPU\"",
                 .date = "today",
                 .shapes = "A few sizes",
                 .ranks = 2,
                 .ranks_per_node = 2,
                 .threads = 3,
                 .memory_gib = 64,
                 .occupied_gib = 8,
                 .peak_tflops = 0.25,
                 .products = {},
                 .copy = {.bytes = 20e9, .seconds = 1},
                 .elementwise = {.bytes = 12e9, .seconds = 1},
                 .cast = {.bytes = 7e9, .seconds = 1}};
  for (size_t p = 0; p < m.products.size(); ++p) {
    for (const double flops : {1e6, 1e8, 5e8, 1e10}) {
      const double bytes = flops / 1e3;
      m.products[p].push_back({.flops = flops, .bytes = bytes, .seconds = flops / kRates[p] + bytes / 20e9 + kStart});
    }
  }
  m.attention_length = 256;
  m.attention_forward_flops = m.attention_backward_flops = 1e9;
  m.attention_forward_seconds = 0.01;
  m.attention_backward_seconds = 0.02;
  m.exchange_seconds = 30e-6;
  m.exchange_gbs = 2;
  m.dollars_per_device_hour = 0.05;
  return m;
}

TEST(Calibration, FindsRatesAndStart) {
  const ProductFit fit = FitProducts(Synthetic());
  for (size_t p = 0; p < 3; ++p) EXPECT_NEAR(fit.tflops[p] * 1e12 / kRates[p], 1, 1e-9) << p;
  EXPECT_NEAR(fit.launch_us, kStart * 1e6, 1e-6);
  EXPECT_NEAR(fit.mean_error, 0, 1e-9);
}

TEST(Calibration, OneSizeLeavesNoStart) {
  Measurements m = Synthetic();
  for (auto& samples : m.products) samples.assign(2, {.flops = 1e8, .bytes = 0, .seconds = 1e-3});
  const ProductFit fit = FitProducts(m);
  EXPECT_EQ(fit.launch_us, 0);
  EXPECT_NEAR(fit.tflops[0], 0.1, 1e-9);
}

TEST(Calibration, TheModelRunsAtTheMeasuredRates) {
  const Measurements m = Synthetic();
  const Constants constants;
  const KernelModel kernels(FitCluster(m, constants), constants);
  const ProductSample& large = m.products[0].back();
  const double n = std::sqrt(large.flops / 2e3);
  EXPECT_NEAR(kernels.Gemm({n, n, 1e3}, Precision::kFp32) / (large.flops / kRates[0] + 4 * n * n / 20e9 + kStart), 1, 1e-6);
  EXPECT_NEAR(kernels.Stream(20e9), 1, 1e-9);
  EXPECT_NEAR(kernels.Elementwise(12e9), 1, 1e-9);
  EXPECT_NEAR(kernels.Cast(7e9), 1, 1e-9);
  EXPECT_NEAR(kernels.AttentionForward(1e9, 1, 256), 0.01, 1e-9);
  EXPECT_NEAR(kernels.PointToPoint(2e9, true), 1, 1e-3);
  // A grouped product is padded by nothing.
  EXPECT_LT(kernels.Gemm({1e3, 1e3, 1e3, 8}, Precision::kFp32), 1.02 * kernels.Gemm({1e3, 1e3, 1e3}, Precision::kFp32));
}

TEST(Calibration, TextIsTheFittedCluster) {
  const Measurements m = Synthetic();
  const auto parsed = ParseCluster(CalibrationText(m), "measured.textproto");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const ClusterConfig fitted = FitCluster(m);
  EXPECT_EQ(parsed->name(), fitted.name());
  EXPECT_EQ(parsed->gpus(), 2);
  EXPECT_EQ(parsed->gpu().sms(), 3);
  EXPECT_EQ(parsed->gpu().tile_rows(), 0);
  EXPECT_NEAR(parsed->gpu().fp32_tflops() / fitted.gpu().fp32_tflops(), 1, 1e-3);
  EXPECT_NEAR(parsed->gpu().hbm_gib(), 32, 0.01);
  EXPECT_NEAR(parsed->node().nvlink_gbs() / fitted.node().nvlink_gbs(), 1, 1e-3);
  EXPECT_NEAR(parsed->network().latency_us(), 15, 0.01);
  EXPECT_NEAR(parsed->network().exchange_us(), 30, 0.01);
  EXPECT_NEAR(parsed->hour().dollars_per_gpu(), 0.15, 1e-4);
}

TEST(Calibration, SeveralMachinesHaveANetworkAndOneRankHasNoPeer) {
  Measurements m = Synthetic();
  m.ranks = 4;
  m.network_gbs = 0.5;
  EXPECT_TRUE(ParseCluster(CalibrationText(m), "m").ok());
  // Over two nodes every row of a token with two experts crosses the network with even odds, at the speed that was measured, flat or forwarded.
  ModelShape model;
  model.experts = 4;
  model.top_k = model.groups = model.kept_groups = 2;
  const KernelModel kernels(FitCluster(m), Constants());
  const Layout flat{.gpus = 4, .ep = 4, .dispatch = Dispatch::kFlat};
  EXPECT_NEAR(kernels.ToExperts(1e6, 1e3, model, flat).sum(), 1e9 * (2 * 0.5 / 0.5e9 + 2 * 0.25 / 2e9) + 30e-6, 1e-6);
  // Forwarded, half of the tokens cross it, at the rail's speed, and as many sums of groups come back; inside, two sources' rows go to the other
  // rank where one of its experts is wanted. Each hop has a start, and the plan two rounds of the whole group, lists, and the host's time.
  m.rail_gbs = 0.25;
  m.rail_exchange_seconds = 20e-6;
  m.node_exchange_seconds = 5e-6;
  m.forward_plan_seconds = 50e-9;
  const KernelModel forwarding(FitCluster(m), Constants());
  const Layout hops{.gpus = 4, .ep = 4, .dispatch = Dispatch::kTwoHops};
  const Hops there = forwarding.ToExperts(1e6, 1e3, model, hops), back = forwarding.FromExperts(1e6, 1e3, model, hops);
  const double nodes = PartsOfToken(2, model, true) / 2, ranks = PartsOfToken(4, model, true) / 2;
  EXPECT_NEAR(there.network, 1e9 * nodes / 0.25e9 + 20e-6, 1e-6);
  EXPECT_NEAR(there.node, 1e9 * ranks / 2e9 + 5e-6, 1e-6);
  EXPECT_NEAR(back.network, 1e9 * PartsOfToken(2, model, true) / 2 / 0.25e9 + 20e-6, 1e-6);
  EXPECT_NEAR(forwarding.PlanDispatch(1e6, model, hops), 2 * 30e-6 + 4e6 * (4 + 2 * nodes + 2 * ranks) / 2 / 0.25e9 + 2e6 * 50e-9,
              1e-6);
  EXPECT_NEAR(forwarding.PlanDispatch(1e6, model, flat), 30e-6, 1e-9);
  m.ranks = m.ranks_per_node = 1;
  m.network_gbs = 0;
  m.exchange_gbs = m.exchange_seconds = 0;
  EXPECT_TRUE(ParseCluster(CalibrationText(m), "m").ok());
  EXPECT_THAT(CalibrationText(m), HasSubstr("not measured: one rank has no peer"));
}

}  // namespace
}  // namespace jevons
