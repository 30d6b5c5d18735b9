// kill -9 at random instants of saves: of all ranks at once, and of one rank under mpirun. Afterwards the
// newest checkpoint is whole, is no older than what was reported as committed, and the next run goes on from
// it without help.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/philox.h"
#include "tests/faults/save_loop.h"
#include "tests/support/temp_folder.h"
#include "tests/support/trials.h"
#include "tests/trainer/checkpoint/test_state.h"

namespace jevons {
namespace {

constexpr char kForEver[] = "1000000";

// The number in a file; 0 where there is none.
int64_t NumberIn(const std::string& path) {
  FileSystem& files = PosixFileSystem();
  const auto info = files.Stat(path);
  if (!info.ok() || !info->has_value()) return 0;
  std::string text(static_cast<size_t>((*info)->bytes), ' ');
  const auto file = files.Open(path, OpenMode::kRead);
  int64_t number = 0;
  if (file.ok() && ReadExactly(**file, 0, std::as_writable_bytes(std::span(text)), path).ok()) {
    (void)absl::SimpleAtoi(text, &number);
  }
  return number;
}

pid_t Start(std::vector<std::string> command) {
  std::vector<char*> argv;
  for (std::string& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    const int quiet = open("/dev/null", O_WRONLY);  // mpirun reports each death at length
    dup2(quiet, STDOUT_FILENO);
    dup2(quiet, STDERR_FILENO);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  return child;
}

class TestRun {
 public:
  // The processes of the ranks, once all have told; empty if `launcher` ends before.
  std::vector<pid_t> WaitForRanks(int ranks, pid_t launcher) {
    std::vector<pid_t> pids(static_cast<size_t>(ranks), 0);
    for (int rank = 0; rank < ranks;) {
      pids[static_cast<size_t>(rank)] = static_cast<pid_t>(NumberIn(PidFile(rank)));
      if (pids[static_cast<size_t>(rank)] != 0) {
        ++rank;
      } else if (waitpid(launcher, nullptr, WNOHANG) == launcher) {
        return {};
      } else {
        usleep(500);
      }
    }
    for (int rank = 0; rank < ranks; ++rank) unlink(PidFile(rank).c_str());
    return pids;
  }

  // "" where the newest checkpoint is whole and nothing promised is lost.
  std::string Damage() {
    FileSystem& files = PosixFileSystem();
    const std::string directory = path() + "/checkpoints";
    const std::vector<int64_t> steps = CommittedSteps(files, directory).value();
    const int64_t promised = NumberIn(path() + "/promised");
    newest_ = steps.empty() ? 0 : steps.back();
    if (newest_ < promised) return absl::StrCat("step ", promised, " was promised, ", newest_, " is the newest");
    for (const int64_t step : steps) {
      auto reader = CheckpointReader::Open(files, CheckpointPath(files, directory, step).value());
      if (!reader.ok()) return std::string(reader.status().message());
      const std::string mismatch = TestState(step, kSaveLoopScale).Mismatch(*reader, 1);
      if (!mismatch.empty()) return mismatch;
    }
    return "";
  }

  const std::string& path() const { return directory_.path(); }
  int64_t newest() const { return newest_; }

  // The time that a save takes here, in microseconds: kills are spread over two of them.
  uint64_t SaveTime(std::vector<std::string> command_of_ten_saves) {
    const auto start = std::chrono::steady_clock::now();
    int status = -1;
    waitpid(Start(std::move(command_of_ten_saves)), &status, 0);
    EXPECT_EQ(status, 0);
    for (int rank = 0; rank < 4; ++rank) unlink(PidFile(rank).c_str());
    const auto time = std::chrono::steady_clock::now() - start;
    return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(time).count()) / 10 + 1;
  }

  // After the kills: a run of its own accord cleans up and ends well.
  void ExpectTheNextRunToEndWell(std::vector<std::string> command) {
    const int64_t before = newest_;
    int status = -1;
    waitpid(Start(std::move(command)), &status, 0);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(Damage(), "");
    EXPECT_EQ(newest_, before + 2);
    const std::vector<std::string> names = PosixFileSystem().List(path() + "/checkpoints").value();
    for (const std::string& name : names) {
      EXPECT_FALSE(absl::EndsWith(name, ".partial")) << name;
    }
  }

 private:
  std::string PidFile(int rank) const { return absl::StrCat(path(), "/pid-", rank); }

  TempFolder directory_;
  int64_t newest_ = 0;
};

TEST(Kill, AllRanksAtRandomInstants) {
  const auto kills = static_cast<int>(Trials(170));
  TestRun run;
  const uint64_t save_time = run.SaveTime({JEVONS_SAVE_LOOP, run.path(), "10", "4"});
  for (int trial = 0; trial < kills && !HasFailure(); ++trial) {
    const pid_t process = Start({JEVONS_SAVE_LOOP, run.path(), kForEver, absl::StrCat(1 + trial % 4)});
    ASSERT_FALSE(run.WaitForRanks(1 + trial % 4, process).empty()) << "trial " << trial << " did not start";
    usleep(static_cast<useconds_t>(RandomBits(1, 0, static_cast<uint64_t>(trial)) % (2 * save_time)));
    kill(process, SIGKILL);
    waitpid(process, nullptr, 0);
    EXPECT_EQ(run.Damage(), "") << "trial " << trial;
  }
  EXPECT_GT(run.newest(), 10) << "no save came through between the kills";
  run.ExpectTheNextRunToEndWell({JEVONS_SAVE_LOOP, run.path(), "2", "3"});
  ReportTrials("kill", kills, absl::StrCat("1:0-", kills - 1),
               absl::StrCat(run.newest(), " saves, of 1 to 4 ranks, killed together"));
}

TEST(Kill, OneRankOrAllUnderMpi) {
  constexpr int kRanks = 3;
  const auto kills = static_cast<int>(Trials(30));
  TestRun run;
  const auto command = [&](const char* steps) {
    return std::vector<std::string>{JEVONS_MPIEXEC,   "--oversubscribe", "-np", absl::StrCat(kRanks),
                                    JEVONS_SAVE_LOOP, run.path(),        steps, "mpi"};
  };
  for (int trial = 0; trial < kills && !HasFailure(); ++trial) {
    const pid_t launcher = Start(command(kForEver));
    const std::vector<pid_t> ranks = run.WaitForRanks(kRanks, launcher);
    ASSERT_FALSE(ranks.empty()) << "trial " << trial << " did not start";
    usleep(static_cast<useconds_t>(RandomBits(2, 0, static_cast<uint64_t>(trial)) % 80'000));
    const size_t victim = static_cast<size_t>(trial) % (kRanks + 1);
    for (size_t rank = 0; rank < ranks.size(); ++rank) {
      if (rank == victim || victim == kRanks) kill(ranks[rank], SIGKILL);
    }
    waitpid(launcher, nullptr, 0);  // it ends the other ranks
    EXPECT_EQ(run.Damage(), "") << "trial " << trial;
  }
  EXPECT_GT(run.newest(), 0);
  run.ExpectTheNextRunToEndWell(command("2"));
  ReportTrials("kill", kills, absl::StrCat("2:0-", kills - 1),
               absl::StrCat(run.newest(), " saves of 3 ranks under mpirun, one or all killed"));
}

}  // namespace
}  // namespace jevons
