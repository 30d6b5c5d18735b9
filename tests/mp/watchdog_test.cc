// What becomes of jobs that go wrong: the exit code and the line on stderr. Starts mpirun itself.
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace jevons {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

struct Outcome {
  int exit_code = -1;
  std::string output;  // stdout and stderr
};

Outcome RunShell(const std::string& command) {
  Outcome outcome;
  FILE* pipe = popen(("exec 2>&1; " + command).c_str(), "r");
  if (pipe == nullptr) return outcome;
  std::array<char, 4096> buffer;
  while (const size_t read = fread(buffer.data(), 1, buffer.size(), pipe)) outcome.output.append(buffer.data(), read);
  const int status = pclose(pipe);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return outcome;
}

Outcome RunJob(int ranks, const std::string& what) {
  return RunShell("timeout 60 " MPIEXEC " --oversubscribe -np " + std::to_string(ranks) + " " BROKEN_JOB " " + what);
}

constexpr int kPeerLost = 5;

TEST(MpiWatchdogTest, AHealthyJobSucceeds) {
  for (int ranks : {1, 3}) {
    const Outcome outcome = RunJob(ranks, "healthy");
    EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
    EXPECT_EQ(outcome.output, "");
  }
}

TEST(MpiWatchdogTest, ARankThatNeverArrives) {
  for (const char* what : {"absent", "stopped"}) {
    const Outcome outcome = RunJob(3, what);
    EXPECT_EQ(outcome.exit_code, kPeerLost) << outcome.output;
    EXPECT_THAT(outcome.output, ContainsRegex("lost peer: rank [01] of 3, world.Barrier, call 1 of the group, step 8, 0 bytes "
                                              "sent: waited 1.0 s for rank [0-9, ]+; last calls: "));
  }
}

TEST(MpiWatchdogTest, ARankThatDiesEndsTheJob) {
  const Outcome outcome = RunJob(3, "dead");
  EXPECT_NE(outcome.exit_code, 0) << outcome.output;
  EXPECT_NE(outcome.exit_code, 124) << outcome.output;  // of `timeout`: a hang
}

TEST(MpiWatchdogTest, SizesThatDisagreeAreFoundAtOnce) {
  for (const std::string what : {"short", "long", "short_large", "long_large"}) {
    const Outcome outcome = RunJob(2, what);
    EXPECT_EQ(outcome.exit_code, kPeerLost) << what << ": " << outcome.output;
    EXPECT_THAT(outcome.output, AllOf(HasSubstr("rank 1 of 2, world.AllToAllV, call 1 of the group, step 8"),
                                      ContainsRegex("rank 0 sent .* this rank expects"), Not(HasSubstr("waited"))));
  }
}

TEST(MpiWatchdogTest, RanksThatMakeDifferentCalls) {
  const Outcome outcome = RunJob(2, "other_call");
  EXPECT_EQ(outcome.exit_code, kPeerLost) << outcome.output;
}

TEST(MpiWatchdogTest, AbortEndsAllRanksWithItsCode) {
  const Outcome outcome = RunJob(3, "one_fails");
  EXPECT_EQ(outcome.exit_code, 4) << outcome.output;
}

TEST(MpiSessionTest, WithoutALauncherTheWorldIsOneProcess) {
  const Outcome outcome = RunShell(BROKEN_JOB " healthy");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
}

TEST(MpiSessionTest, RefusesTheSilentSingleton) {
  const Outcome slurm = RunShell("SLURM_NTASKS=4 " BROKEN_JOB " healthy");
  EXPECT_EQ(slurm.exit_code, 2) << slurm.output;
  EXPECT_THAT(slurm.output, AllOf(HasSubstr("SLURM_NTASKS = 4"), HasSubstr("srun --mpi=pmix -n 4")));
  const Outcome mpich = RunShell("PMI_SIZE=2 " BROKEN_JOB " healthy");
  EXPECT_EQ(mpich.exit_code, 2) << mpich.output;
  EXPECT_THAT(mpich.output, AllOf(HasSubstr("PMI_SIZE = 2"), HasSubstr("mpirun -np 2")));
  EXPECT_EQ(RunShell("SLURM_NTASKS=1 " BROKEN_JOB " healthy").exit_code, 0);
  // mpirun inside an allocation of Slurm: mpirun's word counts.
  EXPECT_EQ(RunShell("SLURM_NTASKS=4 " MPIEXEC " -np 1 " BROKEN_JOB " healthy").exit_code, 0);
}

}  // namespace
}  // namespace jevons
