// Ranks that are slow by chance, up to ten times, are not taken for hung: the supervisor's watch over simulated steps.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/philox.h"
#include "launch/supervise/hang_watch.h"
#include "tests/support/trials.h"

namespace jevons {
namespace {

TEST(Alarm, NoneForRanksThatAreSlowByChance) {
  constexpr uint64_t kSeed = 15, kRarely = 20;
  constexpr double kLook = 0.5, kUsual = 1, kTimes = 10, kFade = 1 - 1e-3;  // seconds; as heartbeats fade
  const auto steps = static_cast<uint64_t>(Trials(100'000));
  HangWatch watch(/*floor=*/4);
  std::vector<RankState> ranks(3);
  for (size_t r = 0; r < ranks.size(); ++r)
    ranks[r] = {.rank = static_cast<int>(r),
                .pid = 1,
                .stage = HeartbeatStage::kTraining,
                .phase = Phase::kForward,
                .action = "",
                .longest_silence = kUsual,
                .longest_wait = kUsual};
  int64_t alarms = 0;
  for (uint64_t step = 0; step < steps; ++step) {
    // One rank computes for as long as it takes; the others poll for it. Then all change.
    const size_t slow = step % ranks.size();
    const double times = RandomBits(kSeed, 0, step) % kRarely == 0
                             ? 1 + (kTimes - 1) * static_cast<double>(RandomBits(kSeed, 1, step) % 1000) / 1000
                             : 1;
    const double seconds = kUsual * times;
    for (double passed = 0; passed < seconds; passed += kLook) {
      for (RankState& state : ranks) state.alive += state.rank != static_cast<int>(slow);
      alarms += watch.Look(ranks, std::min(kLook, seconds - passed)).has_value();
    }
    for (RankState& state : ranks) {
      state.changed = ++state.alive;
      state.longest_wait = std::max(state.longest_wait * kFade, seconds);
      state.longest_silence = std::max(state.longest_silence * kFade, state.rank == static_cast<int>(slow) ? seconds : kLook);
    }
  }
  EXPECT_EQ(alarms, 0);
  ReportTrials("alarm", static_cast<int64_t>(steps), absl::StrCat(kSeed, ":0-", steps - 1),
               "steps of three ranks, simulated, one in twenty up to ten times as slow", "", alarms);
}

}  // namespace
}  // namespace jevons
