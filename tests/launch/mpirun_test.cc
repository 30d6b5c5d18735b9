// launch/mpirun.sh, with an mpirun that does as told instead of Open MPI's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "launch/process.h"
#include "tests/support/paths.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr double kTimeout = 100;

class Mpirun : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / absl::StrCat("jevons_mpirun_", getpid());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  // launch/mpirun.sh with `arguments`, where mpirun is a script of this text.
  Process Start(const std::string& script, const std::vector<std::string>& arguments = {}) {
    std::ofstream(folder_ / "mpirun") << "#!/bin/bash\n" << script;
    fs::permissions(folder_ / "mpirun", fs::perms::owner_all);
    std::vector<std::string> command = {SourcePath("launch/mpirun.sh")};
    command.insert(command.end(), arguments.begin(), arguments.end());
    const std::vector<std::string> environment = {absl::StrCat("PATH=", folder_.string(), ":", getenv("PATH"))};
    auto process = Process::Start(command, environment);
    EXPECT_TRUE(process.ok());
    return *std::move(process);
  }
  // Until the script has said that it is ready.
  void WaitForFile(const std::string& name) const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!fs::exists(folder_ / name) && std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  std::string Ready() const { return absl::StrCat("touch ", (folder_ / "ready").string(), "\n"); }

  fs::path folder_;
};

TEST_F(Mpirun, HandsOnArgumentsOutputAndExitCode) {
  const ProcessResult result = Start("printf '<%s>' \"$@\"; echo problem >&2; exit 75", {"-np", "2", "two words"}).Wait(kTimeout);
  EXPECT_EQ(result.exit_code, 75);
  EXPECT_EQ(result.out, "<-np><2><two words>");
  EXPECT_EQ(result.err, "problem\n");
  EXPECT_EQ(Start("exit 0").Wait(kTimeout).exit_code, 0);
}

// An mpirun that would stay for a quarter of an hour, as Open MPI's does when it cannot reach one of its daemons.
TEST_F(Mpirun, EndsAfterARankHasLostItsPeer) {
  const ProcessResult result =
      Start("echo 'jevons: lost peer: rank 0 of 2, ep.AllToAllV: waited 5.0 s for rank 1' >&2; exec sleep 900").Wait(kTimeout);
  EXPECT_FALSE(result.timed_out);
  EXPECT_EQ(result.exit_code, 5);
  EXPECT_EQ(result.err, "jevons: lost peer: rank 0 of 2, ep.AllToAllV: waited 5.0 s for rank 1\n");
}

TEST_F(Mpirun, ALostPeerIsCode5WhateverMpirunReturns) {
  EXPECT_EQ(Start("echo 'jevons: lost peer: rank 0' >&2; exit 1").Wait(kTimeout).exit_code, 5);
  EXPECT_EQ(Start("echo 'said jevons: lost peer: rank 0' >&2; exit 1").Wait(kTimeout).exit_code, 1);
}

// What mpirun does not hand on reaches the ranks as what it does.
TEST_F(Mpirun, StopsRanksBySigusr1) {
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) {
    fs::remove(folder_ / "ready");
    Process process =
        Start(absl::StrCat("trap 'exit 75' USR1\ntrap 'exit 1' TERM INT\n", Ready(), "while :; do sleep 0.05; done"));
    WaitForFile("ready");
    kill(process.pid(), signal);
    EXPECT_EQ(process.Wait(kTimeout).exit_code, 75) << signal;
  }
}

}  // namespace
}  // namespace jevons
