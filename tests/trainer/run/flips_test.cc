// Bits that turn by themselves on one of three ranks, at random: how many of them a run finds that looks, and whom it blames.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/philox.h"
#include "kernels/registry/registry.h"
#include "tests/support/judged_run.h"
#include "tests/support/trials.h"

namespace jevons {
namespace {

constexpr uint64_t kSeed = 16;
constexpr int64_t kFlipped = 4;  // the step before or in which it happens
const RunLayout kThree = {3, 1, 1};

uint64_t Random(uint64_t what, uint64_t trial, uint64_t below) { return RandomBits(kSeed, what, trial) % below; }

void TurnBit(const Tensor& tensor, uint64_t bit) {
  bit %= 8 * static_cast<uint64_t>(tensor.bytes());
  static_cast<uint8_t*>(tensor.data)[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
}

// A run that looks as closely as it can.
RunConfig Watchful() {
  RunConfig config = Spiking(REPLAY);
  config.mutable_train()->set_verify_replicas(1);
  config.mutable_train()->set_verify_products(1);
  config.mutable_train()->set_verify_state(true);
  return config;
}

struct Found {
  int64_t all = 0, at_once = 0, later = 0, blamed = 0, harmless = 0;

  // `judged`: of a run in which `rank` was hit.
  void Count(const Judged& judged, int rank) {
    ++all;
    for (size_t i = kFlipped; i < judged.steps[0].size(); ++i) {
      const JudgedStep& step = judged.steps[0][i];
      if (!step.bad && step.status.ok()) continue;
      ++(i == kFlipped ? at_once : later);
      blamed += absl::StrContains(step.status.message(), absl::StrFormat("rank %d (", rank));
      return;
    }
    harmless += judged.state == calm;
  }
  // Of those that had not changed nothing.
  void Report(const std::string& key) const {
    const int64_t harmful = all - harmless;
    ReportTrials(
        key, all, absl::StrFormat("%d:0-%d", kSeed, all - 1),
        absl::StrFormat("%d found in their step, %d later, the rank named %d times; %d changed no bit of the run", at_once, later,
                        blamed, harmless),
        absl::StrFormat("%.1f", harmful == 0 ? 100.0 : 100.0 * static_cast<double>(at_once) / static_cast<double>(harmful)),
        harmful - at_once);
  }

  const std::map<std::string, std::vector<uint8_t>> calm = RunJudged(Watchful(), kThree, {}).state;
};

Spoilt Flip(int rank, std::function<void(TrainStep&)> turn) {
  return {.spoil = [turn = std::move(turn)](TrainStep& step, SampleBatch&) { turn(step); },
          .mend = [](TrainStep&, SampleBatch&) {},
          .rank = rank,
          .step = kFlipped};
}

TEST(Flips, InWeightsThatSeveralRanksHold) {
  Found found;
  for (uint64_t trial = 0; trial < static_cast<uint64_t>(Trials(12)); ++trial) {
    const int rank = static_cast<int>(Random(0, trial, 3));
    found.Count(RunJudged(Watchful(), kThree,
                          {Flip(rank,
                                [=](TrainStep& step) {
                                  const WeightStore& weights = step.weights();
                                  const size_t params = weights.specs().size();
                                  const size_t which = Random(1, trial, params + weights.bias_names().size());
                                  TurnBit(which < params ? weights.value(which) : weights.bias(which - params),
                                          RandomBits(kSeed, 2, trial));
                                })}),
                rank);
  }
  EXPECT_EQ(found.at_once, found.all);
  EXPECT_EQ(found.blamed, found.all);
  found.Report("flips_weights");
}

// Held once: nobody has another copy, but its rank knows what they were.
TEST(Flips, InMoments) {
  Found found;
  for (uint64_t trial = 0; trial < static_cast<uint64_t>(Trials(12)); ++trial) {
    const int rank = static_cast<int>(Random(3, trial, 3));
    found.Count(RunJudged(Watchful(), kThree,
                          {Flip(rank,
                                [=](TrainStep& step) {
                                  std::vector<Tensor> state;
                                  for (const StateSlice& slice : step.State())
                                    if (slice.data.size() > 0 &&
                                        (absl::StartsWith(slice.name, "m/") || absl::StartsWith(slice.name, "v/")))
                                      state.push_back(slice.data);
                                  TurnBit(state[Random(4, trial, state.size())], RandomBits(kSeed, 5, trial));
                                })}),
                rank);
  }
  EXPECT_EQ(found.at_once, found.all);
  EXPECT_EQ(found.blamed, found.all);
  found.Report("flips_moments");
}

thread_local int64_t products_left = -1;  // of this rank, until the one that comes out wrong; negative: none will
thread_local uint64_t wrong_bit = 0;
const OpTable* sound = nullptr;

void WrongOnce(const OpContext& ctx, std::span<const GemmDesc> descs) {
  sound->grouped_gemm(ctx, descs);
  for (const GemmDesc& product : descs)
    if (product.c.size() > 0 && products_left-- == 0) TurnBit(product.c, wrong_bit);
}

// In what a product gives, once: computed again it is right.
TEST(Flips, InProducts) {
  sound = &Ops();
  OpTable wrong = *sound;
  wrong.grouped_gemm = WrongOnce;
  SelectOps(wrong);
  constexpr int64_t kMany = int64_t{1} << 40;
  std::array<int64_t, 3> products{};  // of a step, of each rank: they have different numbers of micro-batches
  std::vector<Spoilt> counting;
  for (int rank = 0; rank < 3; ++rank)
    counting.push_back({.spoil = [](TrainStep&, SampleBatch&) { products_left = kMany; },
                        .mend =
                            [&products, rank](TrainStep&, SampleBatch&) {
                              products[static_cast<size_t>(rank)] = kMany - std::exchange(products_left, -1);
                            },
                        .rank = rank,
                        .step = kFlipped});
  RunJudged(Watchful(), kThree, counting);
  for (const int64_t count : products) EXPECT_GT(count, 100);
  Found found;
  for (uint64_t trial = 0; trial < static_cast<uint64_t>(Trials(12)); ++trial) {
    const int rank = static_cast<int>(Random(6, trial, 3));
    found.Count(RunJudged(Watchful(), kThree,
                          {Flip(rank,
                                [=](TrainStep&) {
                                  products_left = static_cast<int64_t>(
                                      Random(7, trial, static_cast<uint64_t>(products[static_cast<size_t>(rank)])));
                                  wrong_bit = RandomBits(kSeed, 8, trial);
                                })}),
                rank);
  }
  SelectOps(*sound);
  EXPECT_EQ(found.at_once + found.harmless, found.all);
  EXPECT_LE(found.blamed, found.at_once);
  found.Report("flips_products");
}

}  // namespace
}  // namespace jevons
