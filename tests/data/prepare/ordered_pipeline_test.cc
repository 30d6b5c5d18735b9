#include "data/prepare/ordered_pipeline.h"

#include <atomic>

#include "gtest/gtest.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

struct Counter {
  int next = 0;
  int end = 0;
  int fail_at = -1;
  absl::StatusOr<std::optional<int>> operator()() {
    if (next == fail_at) return UsageError("produce");
    if (next == end) return std::nullopt;
    return next++;
  }
};

TEST(RunOrderedTest, ConsumesInOrderWithAnyNumberOfThreads) {
  for (const int threads : {1, 2, 8}) {
    for (const int n : {0, 1, 7, 1000}) {
      std::vector<int> seen;
      std::atomic<int> worked = 0;
      const absl::Status status = RunOrdered<int, int>(
          threads, Counter{.end = n},
          [&](int worker, int item) {
            EXPECT_LT(worker, threads);
            if (item % 5 == 0) std::this_thread::yield();
            ++worked;
            return item * item;
          },
          [&](int result) {
            seen.push_back(result);
            return absl::OkStatus();
          });
      EXPECT_TRUE(status.ok());
      EXPECT_EQ(worked, n);
      ASSERT_EQ(static_cast<int>(seen.size()), n);
      for (int i = 0; i < n; ++i) ASSERT_EQ(seen[i], i * i);
    }
  }
}

TEST(RunOrderedTest, TheFirstErrorInOrderWins) {
  const auto square = [](int, int item) { return item * item; };
  for (int trial = 0; trial < 50; ++trial) {
    int consumed = 0;
    const auto count_to = [&consumed](int limit) {
      return [&consumed, limit](int) { return consumed++ == limit ? IntegrityError("consume") : absl::OkStatus(); };
    };
    EXPECT_EQ((RunOrdered<int, int>(3, Counter{.end = 100, .fail_at = 20}, square, count_to(10))).message(), "consume");
    EXPECT_EQ(consumed, 11);
    consumed = 0;
    EXPECT_EQ((RunOrdered<int, int>(3, Counter{.end = 100, .fail_at = 20}, square, count_to(30))).message(), "produce");
    EXPECT_EQ(consumed, 20);
  }
}

}  // namespace
}  // namespace jevons
