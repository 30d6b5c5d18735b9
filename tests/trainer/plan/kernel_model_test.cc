// Kernels beside the published tables they are fitted on, and limits.
#include "trainer/plan/kernel_model.h"

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "tests/trainer/plan/plan_cases.h"
#include "trainer/plan/dispatch_rows.h"

namespace jevons {
namespace {

double Tflops(const KernelModel& kernels, double m, double n, double k, double groups = 1) {
  return 2 * m * n * k / kernels.Gemm({m, n, k, groups}, Precision::kFp8Block) / 1e12;
}

// DeepGEMM, first table: M, N, K, groups, TFLOPS. Small products are worst: their tiles do not fill the GPU.
TEST(KernelModel, DeepGemmsTable) {
  const KernelModel kernels(H800(), {});
  constexpr double kRows[][6] = {
      {4096, 2112, 7168, 1, 1058, 0.25},  {4096, 24576, 1536, 1, 990, 0.1},   {4096, 32768, 512, 1, 590, 0.25},
      {4096, 7168, 16384, 1, 1358, 0.1},  {4096, 4096, 7168, 1, 1304, 0.1},   {4096, 7168, 2048, 1, 1025, 0.1},
      {32768, 4096, 7168, 4, 1297, 0.05}, {32768, 7168, 2048, 4, 1099, 0.05}, {32768, 4096, 7168, 8, 1288, 0.05},
      {32768, 7168, 2048, 8, 1093, 0.05}, {64, 7168, 16384, 1, 336, 0.1},     {64, 24576, 1536, 1, 289, 0.1},
      {128, 7168, 16384, 1, 645, 0.1},    {128, 4096, 7168, 1, 533, 0.1}};
  for (const auto& row : kRows) {
    const double tflops = Tflops(kernels, row[0], row[1], row[2], row[3]);
    EXPECT_LT(std::abs(tflops / row[4] - 1), row[5]) << row[0] << "x" << row[1] << "x" << row[2] << ": " << tflops;
  }
}

// DeepEP, 4096 tokens of 7168, FP8 there and BF16 back, top 4 groups of as many as nodes: milliseconds from the published GB/s.
TEST(KernelModel, DeepEpsTable) {
  const KernelModel kernels(H800(), {});
  constexpr double kRows[][3] = {
      {8, 153, 5.29}, {16, 43, 1.99}, {32, 58, 3.61}, {64, 51, 3.63}};  // EP, GB/s, copies of a row counted
  for (const auto& row : kRows) {
    ModelShape model = DeepSeekV3();
    Layout layout = PublishedLayout();
    layout.ep = static_cast<int64_t>(row[0]);
    model.groups = layout.ep / 8;
    model.kept_groups = std::min<int64_t>(model.groups, 4);
    const double published = 4096 * 7168 * row[2] / (row[1] * 1e9);
    EXPECT_NEAR(kernels.ToExperts(4096, 7168, model, layout).sum() / published, 1, 0.05) << layout.ep;
  }
}

// DeepSeek's published trace: the kernels of a pair of four MoE layers, evenly routed, on 112 of 132 SMs [ms].
TEST(KernelModel, DeepSeeksTrace) {
  Constants even;
  even.expert_imbalance = 1;
  const Layout layout = PublishedLayout();
  const ModelShape model = DeepSeekV3();
  const LayerModel layers(model, layout, KernelModel(H800(), even));
  const BlockTimes t = layers.Block(false);
  const Work there = layers.Beside(t.attention_f + t.shared_f + t.experts_f + t.attention_i + t.shared_i + t.experts_i),
             w = layers.Beside(t.weight());
  EXPECT_NEAR(4e3 * (w[Cost::kProducts] + w[Cost::kExperts]), 32.8, 1.0);
  EXPECT_NEAR(4e3 * there[Cost::kExperts], 22.9, 1.2);
  EXPECT_NEAR(4e3 * there[Cost::kProducts], 18.8, 1.0);
  EXPECT_NEAR(4e3 * there[Cost::kAttention], 21.9, 1.2);
  EXPECT_NEAR(4e3 * (there[Cost::kCasts] + w[Cost::kCasts]), 16.7, 0.5);
  EXPECT_NEAR(4e3 * (there[Cost::kElementwise] + w[Cost::kElementwise]), 14.1, 0.5);
  EXPECT_NEAR(4e3 * layers.Overlapped(t, t), 129.0, 3.0);
}

TEST(KernelModel, TimeGrowsWithEverySize) {
  const KernelModel kernels(H800(), {});
  for (const Precision precision : {Precision::kBf16, Precision::kFp8Block, Precision::kFp8Tensor}) {
    const double base = kernels.Gemm({1024, 2048, 4096}, precision);
    EXPECT_GT(kernels.Gemm({2048, 2048, 4096}, precision), base);
    EXPECT_GT(kernels.Gemm({1024, 4096, 4096}, precision), base);
    EXPECT_GT(kernels.Gemm({1024, 2048, 8192}, precision), base);
    EXPECT_GT(kernels.Gemm({1024, 2048, 4096, 64}, precision), base);  // padding of each group
    EXPECT_GE(kernels.Gemm({0, 2048, 4096}, precision), 0);
  }
}

// By hand from the formulas: N (1 - C(128-32g, 8) / C(128, 8)), over the choices of 4 of 8 groups.
TEST(DispatchRows, OfDeepSeekV3OnEightNodes) {
  const ModelShape model = DeepSeekV3();
  Layout layout = PublishedLayout();
  EXPECT_NEAR(PartsOfToken(8, model, true), 3.629, 5e-4);
  EXPECT_NEAR(PartsOfToken(4, model, true), 2.928, 5e-4);
  EXPECT_NEAR(PartsOfToken(2, model, true), 1.926, 5e-4);
  EXPECT_NEAR(PartsOfToken(8, model, false), 5.295, 5e-4);
  EXPECT_NEAR(PartsOfToken(64, model, true), 7.36, 5e-3);
  EXPECT_EQ(PartsOfToken(1, model, true), 1);
  EXPECT_NEAR(RowsOfToken(model, layout, 8).network, 3.175, 5e-4);
  layout.dispatch = Dispatch::kFlat;
  EXPECT_EQ(RowsOfToken(model, layout, 8).network, 7);
  EXPECT_EQ(RowsOfToken(model, layout, 64).network, 0);
}

// As the program counts them (parallel/README.md, "Forwarding"): back come sums of groups, inside a node the rows of parts of groups.
TEST(DispatchRows, OfTwoHops) {
  const ModelShape model = DeepSeekV3();
  Layout layout = PublishedLayout();
  layout.dispatch = Dispatch::kTwoHops;
  const struct {
    int64_t ep;
    double there, back, node;
  } kCases[] = {{16, 0.96, 1.81, 4.67}, {32, 2.20, 2.72, 5.77}, {64, 3.18, 3.18, 6.44}};
  for (const auto& [ep, there, back, node] : kCases) {
    layout.ep = ep;
    EXPECT_NEAR(RowsOfToken(model, layout, 8).network, there, 5e-3) << ep;
    EXPECT_NEAR(RowsOfToken(model, layout, 8).links, node, 5e-3) << ep;
    EXPECT_NEAR(SumsOfToken(model, layout, 8).network, back, 5e-3) << ep;
    EXPECT_EQ(SumsOfToken(model, layout, 8).links, 7) << ep;
  }
  layout.ep = 8;  // one node, each GPU with a group
  EXPECT_NEAR(SumsOfToken(model, layout, 8).links, PartsOfToken(8, model, true) * 7 / 8, 1e-9);
  layout.dispatch = Dispatch::kForwarding;
  EXPECT_EQ(SumsOfToken(model, layout, 8).network, RowsOfToken(model, layout, 8).network);
}

// Counted on routing drawn at random, of nodes that hold parts of groups too.
TEST(DispatchRows, AgreeWithCounting) {
  std::mt19937 random(1);
  ModelShape model = DeepSeekV3();
  model.experts = 48;
  model.groups = 4;
  model.kept_groups = 2;
  model.top_k = 5;
  std::vector<int> groups = {0, 1, 2, 3};
  for (const int nodes : {1, 2, 3, 4, 6, 8}) {
    int64_t hit = 0;
    constexpr int kTokens = 40000;
    for (int t = 0; t < kTokens; ++t) {
      std::shuffle(groups.begin(), groups.end(), random);
      std::vector<int> allowed;
      for (const int g : {groups[0], groups[1]})
        for (int e = 0; e < 12; ++e) allowed.push_back(12 * g + e);
      std::shuffle(allowed.begin(), allowed.end(), random);
      std::set<int> of;
      for (int i = 0; i < 5; ++i) of.insert(allowed[i] / (48 / nodes));
      hit += static_cast<int64_t>(of.size());
    }
    EXPECT_NEAR(PartsOfToken(nodes, model, true), static_cast<double>(hit) / kTokens, 0.01) << nodes;
  }
}

TEST(KernelModel, OneRankExchangesNothing) {
  Layout layout = PublishedLayout();
  layout.ep = 1;
  EXPECT_EQ(KernelModel(H800(), {}).ToExperts(4096, 7168, DeepSeekV3(), layout).sum(), 0);
  EXPECT_EQ(KernelModel(H800(), {}).Ring(1e9, 1, 1), 0);
}

}  // namespace
}  // namespace jevons
