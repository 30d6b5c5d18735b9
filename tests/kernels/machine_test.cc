#include "kernels/base/machine.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <filesystem>
#include <string>
#include <thread>

#include "tests/support/temp_folder.h"

namespace jevons {
namespace {

// A machine whose /proc and /sys are folders here.
class Quota : public ::testing::Test {
 protected:
  void Put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ / path).parent_path());
    root_.Write(path, text + "\n");
  }
  double Read() const { return CoreQuota(root_.path()); }
  TempFolder root_;
};

TEST_F(Quota, IsTheLeastOfTheGroupAndThoseAboveItInVersion2) {
  EXPECT_EQ(Read(), 0);  // no control groups at all
  Put("proc/self/cgroup", "0::/job/step");
  Put("sys/fs/cgroup/job/step/cpu.max", "max 100000");
  EXPECT_EQ(Read(), 0);
  Put("sys/fs/cgroup/job/cpu.max", "250000 100000");
  EXPECT_EQ(Read(), 2.5);
  Put("sys/fs/cgroup/job/step/cpu.max", "150000 100000");
  EXPECT_EQ(Read(), 1.5);
}

TEST_F(Quota, OfAContainerLiesAtTheMountsRoot) {
  Put("proc/self/cgroup", "0::/");
  Put("sys/fs/cgroup/cpu.max", "400000 100000");
  EXPECT_EQ(Read(), 4);
  Put("proc/self/cgroup", "0::/not/mounted/here");
  EXPECT_EQ(Read(), 4);
}

TEST_F(Quota, OfVersion1) {
  Put("proc/self/cgroup", "5:memory:/m\n4:cpu,cpuacct:/job\n0::/unified");
  Put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1");
  Put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000");
  EXPECT_EQ(Read(), 0);
  Put("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "300000");
  Put("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000");
  EXPECT_EQ(Read(), 3);
}

TEST(Cores, AreSharedByThoseThatMayUseThem) {
  EXPECT_EQ(ShareOfCores({{0, 1, 2, 3}, {0, 1, 2, 3}}, 1), 2);  // unbound
  EXPECT_EQ(ShareOfCores({{0, 1}, {2, 3, 4}}, 1), 3);           // bound apart
  EXPECT_DOUBLE_EQ(ShareOfCores({{0}, {0}, {0}}, 0), 1.0 / 3);  // bound to the same core
  EXPECT_EQ(ShareOfCores({{0, 1, 2, 3}, {0, 1}}, 0), 3);
}

TEST(Cores, AffinityLeavesWhatItLeaves) {
  std::thread([] {  // the mask is a thread's own
    const std::vector<int> before = AffinityCores();
    EXPECT_GE(MachineCores(), static_cast<int>(before.size()));
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(before.back()), &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_EQ(AffinityCores(), std::vector<int>{before.back()});
    EXPECT_EQ(UsableCores(), 1);
  })
      .join();
}

}  // namespace
}  // namespace jevons
