// A disk that takes longer for each fsync than a rank waits for another: a run on it is slow, and nobody is taken for lost.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/train_cli.h"
#include "tests/support/trials.h"

namespace jevons {
namespace {

class SlowDisk : public TrainCli {};

TEST_F(SlowDisk, IsNotTakenForALostRank) {
  // Everything: the epoch, the tokenizer's copy, the record of the start, a save of all ranks.
  std::vector<std::string> command = Command(2, 2, "slow", {"parallel.watchdog_seconds=2", "train.steps=1"});
  command.insert(command.begin(),
                 {"env", absl::StrCat("LD_PRELOAD=", JEVONS_SLOW_DISK), "ASAN_OPTIONS=verify_asan_link_order=0",
                  "SLOW_FSYNC_MILLISECONDS=2500", absl::StrCat("SLOW_FSYNC_PATH=", (folder_ / "slow").string())});
  const ProcessResult slow = RunProcess(command, kTimeout);
  EXPECT_EQ(slow.exit_code, 0) << slow.err;
  ASSERT_EQ(Train(1, 1, "quick", {"train.steps=1"}).exit_code, 0);
  EXPECT_EQ(Hash("slow"), Hash("quick"));
  ReportTrials("slow_disk", 1, "all", "fsyncs of 2.5 s under a watchdog of 2 s: taken for what they are", "", HasFailure());
}

}  // namespace
}  // namespace jevons
