// Hosts of a supervised run: agents as real processes, started by what stands for a remote shell; who takes part, without any process.
#include "launch/supervise/agent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "configs/load.h"
#include "kernels/base/machine.h"
#include "launch/supervise/layout_for.h"
#include "launch/supervise/quarantine.h"
#include "launch/supervise/remote_host.h"
#include "launch/supervise/roster.h"
#include "parallel/comm/loopback.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"
#include "tests/trainer/checkpoint/test_state.h"
#include "trainer/checkpoint/memory_writer.h"

namespace jevons {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using Clock = std::chrono::steady_clock;

// A host that a test plays.
class PlayedHost : public Host {
 public:
  explicit PlayedHost(std::string name) : name_(std::move(name)) {}
  const std::string& name() const override { return name_; }
  const std::string& heartbeats() const override { return name_; }
  double silent() const override { return silence; }
  std::vector<RankState> Ranks() override { return ranks; }
  std::string WhereItIs(int64_t) override { return name_; }
  void KillRanks() override { ranks.clear(); }
  void Clear() override {}
  std::vector<MemoryPart> Parts() override { return parts; }
  absl::Status CopyPart(const MemoryPart& part, const std::string&) override {
    copied.push_back(part.rank);
    return absl::OkStatus();
  }
  void ForgetParts() override {}

  double silence = 0;
  std::vector<RankState> ranks;
  std::vector<MemoryPart> parts;
  std::vector<int> copied;

 private:
  std::string name_;
};

class Agent : public testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);  // as the program does
    auto host = RemoteHost::Start({BinaryPath("jevons"), "supervise", "--agent", memory_});
    ASSERT_TRUE(host.ok()) << host.status();
    host_ = *std::move(host);
  }
  void TearDown() override {
    for (const pid_t child : children_) {
      kill(child, SIGKILL);
      waitpid(child, nullptr, 0);
    }
  }
  // A process that says what a rank says, and then stays.
  pid_t StartRank(int rank) {
    const pid_t child = fork();
    if (child == 0) {
      close_range(3, ~0U, 0);  // the streams to the agent are not a rank's
      setenv(kHeartbeatVariable, host_->heartbeats().c_str(), 1);
      if (!OpenHeartbeat(rank, 2).ok()) _exit(99);
      HeartbeatSteps(40);
      HeartbeatStep(7);
      HeartbeatAction("0F3");
      for (;;) pause();
    }
    children_.push_back(child);
    return child;
  }
  // Seconds until the agent says that `is_so` of its ranks.
  template <typename Predicate>
  double Until(Predicate is_so) {
    const auto begin = Clock::now();
    while (!is_so(host_->Ranks())) {
      if (Clock::now() - begin > std::chrono::seconds(30)) {
        ADD_FAILURE() << "the agent has not said it in 30 s";
        break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }

  const TempFolder folder_;
  const std::string memory_ = folder_ / "memory";
  std::unique_ptr<RemoteHost> host_;
  std::vector<pid_t> children_;
};

TEST_F(Agent, TellsWhatRanksDoAndWhenTheyDie) {
  EXPECT_EQ(host_->name(), HostName());
  EXPECT_THAT(host_->Ranks(), IsEmpty());
  const pid_t first = StartRank(0), second = StartRank(1);
  Until([](const auto& ranks) { return ranks.size() == 2 && ranks[0].step == 7 && ranks[1].step == 7; });
  const RankState state = host_->Ranks()[1];
  EXPECT_EQ(state.pid, second);
  EXPECT_EQ(state.steps, 40);
  EXPECT_EQ(PhaseText(state), "other, 0F3");
  EXPECT_TRUE(state.lives);
  EXPECT_LT(host_->silent(), Roster::kSilence);

  kill(first, SIGSTOP);
  RecordProperty("seconds_until_stopped", std::to_string(Until([](const auto& ranks) { return ranks[0].stopped; })));
  EXPECT_THAT(host_->WhereItIs(first), HasSubstr("stopped"));
  kill(second, SIGKILL);
  RecordProperty("seconds_until_dead", std::to_string(Until([](const auto& ranks) { return !ranks[1].lives; })));

  host_->KillRanks();
  Until([](const auto& ranks) { return !ranks[0].lives; });
  host_->Clear();
  EXPECT_THAT(host_->Ranks(), IsEmpty());
}

TEST_F(Agent, EndsItsRanksWithItsSupervisor) {
  const pid_t rank = StartRank(0);
  Until([](const auto& ranks) { return ranks.size() == 1; });
  host_.reset();
  int status = 0;
  ASSERT_EQ(waitpid(rank, &status, 0), rank);
  EXPECT_TRUE(WIFSIGNALED(status));
  children_.clear();
}

TEST(ServeAsAgent, StopsWhoIsCutOff) {
  class Counts : public PlayedHost {
   public:
    using PlayedHost::PlayedHost;
    void KillRanks() override { ++kills; }
    int kills = 0;
  } host("a");
  int in[2], out[2];
  ASSERT_EQ(pipe(in) + pipe(out), 0);
  const auto begin = Clock::now();
  ServeAsAgent(host, in[0], out[1]);  // nobody says a word, and nobody closes the stream
  EXPECT_GE(Clock::now() - begin, std::chrono::duration<double>(kAgentPatience));
  EXPECT_EQ(host.kills, 1);
  for (const int fd : {in[0], in[1], out[0], out[1]}) close(fd);
}

TEST_F(Agent, ThatIsGoneIsSilentAndAnswersNothing) {
  kill(host_->shell(), SIGKILL);
  while (host_->silent() <= Roster::kSilence) host_->Ranks();
  EXPECT_THAT(host_->WhereItIs(1), HasSubstr("does not answer"));
  EXPECT_THAT(host_->Parts(), IsEmpty());
  waitpid(host_->shell(), nullptr, 0);
}

TEST_F(Agent, BringsWhatIsInMemoryToDisk) {
  const TestState state(5);
  RunLoopback(2, [&](Communicator& world) {
    MemoryWriter writer(memory_, world, 1);
    EXPECT_EQ(writer.Save(state.Info(), state.Slices(world.rank(), 2), {}), absl::OkStatus());
    EXPECT_EQ(writer.Finish(), absl::OkStatus());
  });
  const std::vector<MemoryPart> whole = NewestWhole(host_->Parts(), -1);
  ASSERT_THAT(whole, SizeIs(2));
  const std::string directory = folder_ / "checkpoints", partial = directory + "/new.partial";
  ASSERT_EQ(MakeDirectories(PosixFileSystem(), partial), absl::OkStatus());
  for (const MemoryPart& part : whole) EXPECT_EQ(host_->CopyPart(part, partial), absl::OkStatus());
  EXPECT_EQ(CommitCopied(PosixFileSystem(), directory, partial, 2, 0), absl::OkStatus());
  auto reader = CheckpointReader::Open(PosixFileSystem(), directory + "/step-00000005");
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(state.Mismatch(*reader, 3), "");
  host_->ForgetParts();
  EXPECT_FALSE(std::filesystem::exists(memory_));
  EXPECT_THAT(std::string(host_->CopyPart(whole[0], partial).message()), HasSubstr("rank-00000")) << "and says what it cannot do";
}

TEST(RemoteHost, WhatStartsNoAgentIsNamed) {
  EXPECT_THAT(std::string(RemoteHost::Start({"false", "node7"}).status().message()), HasSubstr("`false node7` starts no agent"));
}

TEST(Quarantine, HoldsWhatFailsTwiceInAnHour) {
  Quarantine quarantine;
  quarantine.Failed("a", 0);
  EXPECT_FALSE(quarantine.Holds("a", 1));
  quarantine.Failed("b", 10);
  quarantine.Failed("a", 100);
  EXPECT_TRUE(quarantine.Holds("a", 101));
  EXPECT_FALSE(quarantine.Holds("b", 101));
  EXPECT_TRUE(quarantine.Holds("a", Quarantine::kMemory - 1));
  EXPECT_FALSE(quarantine.Holds("a", Quarantine::kMemory + 1)) << "the first is forgotten";
}

class RosterTest : public testing::Test {
 protected:
  std::vector<std::string> Present() {
    std::vector<std::string> names;
    for (const HostSlots& host : roster_.slots()) names.push_back(host.name);
    return names;
  }
  std::map<std::string, std::shared_ptr<PlayedHost>> hosts_ = {{"a", std::make_shared<PlayedHost>("a")},
                                                               {"b", std::make_shared<PlayedHost>("b")},
                                                               {"c", std::make_shared<PlayedHost>("c")}};
  std::string unreachable_;
  Roster roster_{{{"a", 2}, {"b", 2}, {"c", 4}}, [this](const std::string& name) -> absl::StatusOr<std::shared_ptr<Host>> {
                   if (absl::StrContains(unreachable_, name)) return FailureError(name + " is not there");
                   return hosts_.at(name);
                 }};
};

TEST_F(RosterTest, GoesOnWithoutAHostThatIsLostAndTakesItBackLater) {
  ASSERT_EQ(roster_.Gather(0), absl::OkStatus());
  EXPECT_THAT(Present(), ElementsAre("a", "b", "c"));
  EXPECT_TRUE(roster_.complete());
  hosts_["b"]->silence = 0.9 * Roster::kSilence;
  EXPECT_FALSE(roster_.Lost()) << "a link may fail for a moment";
  hosts_["b"]->silence = 1.1 * Roster::kSilence;
  ASSERT_EQ(roster_.Lost(), 1);
  EXPECT_FALSE(roster_.Failed(1, 10)) << "once";
  roster_.Drop(1, 10);
  EXPECT_FALSE(roster_.Lost());
  ASSERT_EQ(roster_.Gather(11), absl::OkStatus());
  EXPECT_THAT(Present(), ElementsAre("a", "c")) << "to wait for it would cost the others time";
  hosts_["b"]->silence = 0;
  ASSERT_EQ(roster_.Gather(11 + Roster::kRetry), absl::OkStatus());
  EXPECT_THAT(Present(), ElementsAre("a", "b", "c"));
  EXPECT_TRUE(roster_.Failed(1, 100));
  ASSERT_EQ(roster_.Gather(101), absl::OkStatus());
  EXPECT_THAT(Present(), ElementsAre("a", "c")) << "it has failed twice";
}

TEST_F(RosterTest, TheLastHostIsNeverLeftOut) {
  unreachable_ = "bc";
  ASSERT_EQ(roster_.Gather(0), absl::OkStatus());
  EXPECT_THAT(Present(), ElementsAre("a"));
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(roster_.Failed(0, i));
  ASSERT_EQ(roster_.Gather(4), absl::OkStatus());
  EXPECT_THAT(Present(), ElementsAre("a"));
  unreachable_ = "abc";
  roster_.Drop(0, 5);
  EXPECT_THAT(std::string(roster_.Gather(6).message()), HasSubstr("no host"));
}

TEST_F(RosterTest, AsksAllAndKnowsWhoHasWhat) {
  ASSERT_EQ(roster_.Gather(0), absl::OkStatus());
  hosts_["c"]->ranks = {{.rank = 0}, {.rank = 3}};
  hosts_["a"]->ranks = {{.rank = 1}, {.rank = 2}};
  const std::vector<RankState> ranks = roster_.Ranks();
  ASSERT_THAT(ranks, SizeIs(4));
  for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(ranks[static_cast<size_t>(rank)].rank, rank);
  EXPECT_EQ(roster_.WhereItIs(ranks[3]), "c");
  EXPECT_EQ(roster_.heartbeats(), "a,b,c");
  hosts_["a"]->parts = {{.step = 4, .rank = 0, .ranks = 2}};
  hosts_["b"]->parts = {{.step = 4, .rank = 1, .ranks = 2}, {.step = 2, .rank = 0, .ranks = 2}};
  const std::vector<MemoryPart> whole = NewestWhole(roster_.Parts(), 3);
  ASSERT_THAT(whole, SizeIs(2));
  EXPECT_EQ(roster_.CopyParts(whole, "partial"), absl::OkStatus());
  EXPECT_THAT(hosts_["a"]->copied, ElementsAre(0));
  EXPECT_THAT(hosts_["b"]->copied, ElementsAre(1));
}

TEST(LayoutFor, KeepsWhatIsLegalAndChangesTheLeast) {
  const auto layout = [](int64_t ranks, const std::vector<std::string>& overrides) {
    std::vector<std::string> all = {"model.moe.routed_experts=16"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    const auto config = LoadRunConfig(SourcePath("configs/presets/quickstart_cpu.textproto"), all);
    EXPECT_TRUE(config.ok()) << config.status();
    return *LayoutFor(*config, ranks, /*on_all_hosts=*/false);
  };
  const RankLayout as_it_is = layout(8, {"parallel.ep=4"});
  EXPECT_EQ(as_it_is.ranks, 8);
  EXPECT_THAT(as_it_is.assignments, IsEmpty());
  const RankLayout fewer = layout(6, {"parallel.ep=4"});
  EXPECT_EQ(fewer.ranks, 6);
  EXPECT_THAT(fewer.assignments, ElementsAre("parallel.ep=3"));
  const RankLayout stages = layout(3, {"parallel.ep=2", "parallel.pp=2"});
  EXPECT_EQ(stages.ranks, 3);
  EXPECT_THAT(stages.assignments, testing::Contains("parallel.pp=1"));
  EXPECT_THAT(layout(4, {"parallel.ep=4", "parallel.dispatch=FORWARDING"}).assignments, ElementsAre("parallel.dispatch=AUTO"));
}

}  // namespace
}  // namespace jevons
