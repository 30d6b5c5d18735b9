// Checkpoints in memory: what is left of them when ranks or a host have gone, and that it becomes the checkpoint that the ranks would have
// saved.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/comm/loopback.h"
#include "tests/support/temp_folder.h"
#include "tests/support/watched_group.h"
#include "tests/trainer/checkpoint/test_state.h"
#include "trainer/checkpoint/memory_parts.h"
#include "trainer/checkpoint/memory_writer.h"

namespace jevons {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kEpoch = 3;

class OnHosts : public WatchedGroup {
 public:
  OnHosts(Communicator& group, std::vector<int> hosts) : WatchedGroup(group), hosts_(std::move(hosts)) {}
  int NodeOf(int rank) const override { return hosts_[static_cast<size_t>(rank)]; }

 private:
  const std::vector<int> hosts_;
};

class MemoryCheckpoint : public testing::Test {
 protected:
  std::string Host(int host) const { return folder_ / absl::StrCat("host-", host); }
  std::vector<MemoryPart> PartsOf(const std::vector<int>& hosts) {
    std::vector<MemoryPart> all;
    for (const int host : hosts)
      for (const MemoryPart& part : ListMemoryParts(files_, Host(host))) all.push_back(part);
    return all;
  }
  // Ranks, each on the host that `hosts` says, with the folder of that host.
  template <typename Body>
  void OnRanks(const std::vector<int>& hosts, Body body) {
    for (const int host : hosts) std::filesystem::create_directories(Host(host));
    RunLoopback(static_cast<int>(hosts.size()), [&](Communicator& world) {
      OnHosts on_hosts(world, hosts);
      MemoryWriter writer(Host(hosts[static_cast<size_t>(world.rank())]), on_hosts, kEpoch);
      body(writer, world);
    });
  }
  static absl::Status Save(MemoryWriter& writer, const TestState& state, const Communicator& world) {
    return writer.Save(state.Info(), state.Slices(world.rank(), world.size()), {});
  }
  // The newest whole state of `parts` as a checkpoint on disk, and how it differs from `state`.
  std::string OnDisk(const std::vector<MemoryPart>& parts, const TestState& state) {
    const std::vector<MemoryPart> whole = NewestWhole(parts, -1);
    const std::string directory = folder_ / "checkpoints", partial = directory + "/new.partial";
    EXPECT_EQ(MakeDirectories(files_, partial), absl::OkStatus());
    for (const MemoryPart& part : whole)
      if (const absl::Status copied = CopyToDisk(files_, part, partial); !copied.ok()) return std::string(copied.message());
    if (const absl::Status status = CommitCopied(files_, directory, partial, static_cast<int>(whole.size()), 0); !status.ok())
      return std::string(status.message());
    const std::string path = CheckpointPath(files_, directory, state.step()).value();
    auto reader = CheckpointReader::Open(files_, path);
    return reader.ok() ? state.Mismatch(*reader, 5) : std::string(reader.status().message());
  }

  const TempFolder folder_;
  FileSystem& files_ = PosixFileSystem();
};

std::vector<int64_t> StepsOf(const std::vector<MemoryPart>& parts) {
  std::vector<int64_t> steps;
  for (const MemoryPart& part : parts) steps.push_back(part.step);
  return steps;
}

TEST_F(MemoryCheckpoint, TheStateBeforeStaysUntilTheNextIsWhole) {
  OnRanks({0, 0, 0}, [&](MemoryWriter& writer, Communicator& world) {
    EXPECT_FALSE(writer.has_buddies());
    for (int64_t step = 1; step <= 5; ++step) {
      ASSERT_EQ(Save(writer, TestState(step), world), absl::OkStatus());
      world.Barrier();
      const auto whole = NewestWhole(PartsOf({0}), -1);
      if (step > 1) {
        ASSERT_THAT(whole, SizeIs(3)) << "after step " << step;
        EXPECT_GE(whole[0].step, step - 1);
      }
      world.Barrier();
    }
    EXPECT_EQ(writer.Finish(), absl::OkStatus());
  });
  EXPECT_THAT(StepsOf(NewestWhole(PartsOf({0}), 4)), ElementsAre(5, 5, 5));
  EXPECT_THAT(NewestWhole(PartsOf({0}), 5), IsEmpty()) << "no newer than the disk's";
  EXPECT_EQ(OnDisk(PartsOf({0}), TestState(5)), "");
}

TEST_F(MemoryCheckpoint, AHostThatIsLostHasLeftItsRanksCopiesWithBuddies) {
  for (const std::vector<int>& hosts : {std::vector{0, 0, 1, 1}, {0, 0, 0, 1}, {2, 1, 0, 2, 1, 0}}) {
    OnRanks(hosts, [&](MemoryWriter& writer, Communicator& world) {
      ASSERT_TRUE(writer.has_buddies());
      for (int64_t step = 1; step <= 3; ++step) {
        ASSERT_EQ(Save(writer, TestState(step), world), absl::OkStatus());
        EXPECT_EQ(writer.Poll(), absl::OkStatus());
      }
      EXPECT_EQ(writer.Finish(), absl::OkStatus());
    });
    for (int lost = 0; lost <= *std::max_element(hosts.begin(), hosts.end()); ++lost) {
      std::vector<int> left;
      for (int host = 0; host < 3; ++host)
        if (host != lost) left.push_back(host);
      EXPECT_THAT(StepsOf(NewestWhole(PartsOf(left), -1)), AllOf(SizeIs(hosts.size()), Each(3))) << "host " << lost;
      std::filesystem::remove_all(folder_ / "checkpoints");
      EXPECT_EQ(OnDisk(PartsOf(left), TestState(3)), "");
    }
    for (int host = 0; host < 3; ++host) std::filesystem::remove_all(Host(host));
  }
}

TEST_F(MemoryCheckpoint, WhatIsForgottenIsWholeOnNoHost) {
  OnRanks({0, 0, 1}, [&](MemoryWriter& writer, Communicator& world) {
    for (int64_t step = 1; step <= 3; ++step) ASSERT_EQ(Save(writer, TestState(step), world), absl::OkStatus());
    EXPECT_EQ(writer.Finish(), absl::OkStatus());
    writer.Forget(4);
    EXPECT_THAT(StepsOf(NewestWhole(PartsOf({0, 1}), -1)), ElementsAre(3, 3, 3));
    world.Barrier();
    writer.Forget(3);
    for (const auto& hosts : {std::vector{0, 1}, {0}, {1}})
      EXPECT_THAT(StepsOf(NewestWhole(PartsOf(hosts), -1)), ElementsAre(2, 2, 2));
    world.Barrier();
  });
}

TEST(Buddies, AreOnAnotherHostAndSharedOut) {
  EXPECT_THAT(BuddiesOf(std::vector{7, 7, 7}), IsEmpty());
  EXPECT_THAT(BuddiesOf(std::vector{0, 0, 5, 5}), ElementsAre(2, 3, 0, 1));
  EXPECT_THAT(BuddiesOf(std::vector{0, 0, 0, 3}), ElementsAre(3, 3, 3, 0));
  EXPECT_THAT(BuddiesOf(std::vector{1, 2, 3, 1, 2, 3}), ElementsAre(1, 2, 0, 4, 5, 3)) << "round robin";
}

TEST_F(MemoryCheckpoint, WhatIsDamagedOrOfSeveralIncarnationsIsNoState) {
  OnRanks({0, 0}, [&](MemoryWriter& writer, Communicator& world) {
    for (int64_t step = 1; step <= 2; ++step) ASSERT_EQ(Save(writer, TestState(step), world), absl::OkStatus());
    EXPECT_EQ(writer.Finish(), absl::OkStatus());
  });
  std::vector<MemoryPart> parts = NewestWhole(PartsOf({0}), -1);
  ASSERT_THAT(StepsOf(parts), ElementsAre(2, 2));
  EXPECT_EQ(parts[1].epoch, kEpoch);
  parts[1].epoch = kEpoch + 1;
  EXPECT_THAT(NewestWhole(parts, -1), IsEmpty());
  parts[1] = parts[0];
  EXPECT_THAT(NewestWhole(parts, -1), IsEmpty()) << "one rank twice";

  parts = NewestWhole(PartsOf({0}), -1);
  std::fstream file(parts[1].path + ".bin", std::ios::in | std::ios::out);
  file.seekg(1000);
  const int byte = file.get();
  file.seekp(1000).put(static_cast<char>(byte ^ 1));
  file.close();
  EXPECT_THAT(OnDisk(parts, TestState(2)), HasSubstr("do not match their hash"));
  EXPECT_THAT(CommittedSteps(files_, folder_ / "checkpoints").value(), IsEmpty());
  std::filesystem::resize_file(parts[1].path + ".pb", 100);
  EXPECT_THAT(StepsOf(NewestWhole(PartsOf({0}), -1)), ElementsAre(1, 1));
}

}  // namespace
}  // namespace jevons
