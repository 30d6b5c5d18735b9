#include "kernels/base/worker.h"

#include <gtest/gtest.h>

#include <latch>
#include <vector>

namespace jevons {
namespace {

TEST(WorkerTest, DoesInOrderWhatItIsGivenWhileTheGiverGoesOn) {
  std::latch given(1);
  std::vector<int> done;
  Worker worker;
  worker.Give([&] {
    given.wait();  // whoever gives does not wait
    done.push_back(0);
  });
  for (int i = 1; i < 100; ++i) worker.Give([&, i] { done.push_back(i); });
  given.count_down();
  worker.Wait();
  ASSERT_EQ(done.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(done[static_cast<size_t>(i)], i);
  worker.Wait();
  worker.Give([&] { done.clear(); });
  worker.Wait();
  EXPECT_TRUE(done.empty());
}

TEST(WorkerTest, EndsWhenAllIsDone) {
  int done = 0;
  {
    Worker worker;
    for (int i = 0; i < 10; ++i) worker.Give([&] { ++done; });
  }
  EXPECT_EQ(done, 10);
  Worker idle;
}

}  // namespace
}  // namespace jevons
