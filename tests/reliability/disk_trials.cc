// Disks that are full or read-only under a real job. The disk is a tmpfs in a mount namespace of this process: it needs root.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/base/philox.h"
#include "tests/support/train_cli.h"
#include "tests/support/trials.h"

namespace jevons {
namespace {

constexpr uint64_t kSeed = 13;

class Disks : public TrainCli {
 protected:
  void SetUp() override {
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      GTEST_SKIP() << "a disk of one's own needs root and mount namespaces";
    ASSERT_EQ(Train(1, 1, "calm").exit_code, 0);
    calm_ = Hash("calm");
  }
  // A disk of that many KiB at folder_/disk.
  static void Mount(int64_t kib) {
    fs::create_directories(folder_ / "disk");
    ASSERT_EQ(mount("tmpfs", (folder_ / "disk").c_str(), "tmpfs", 0, absl::StrCat("size=", kib, "k").c_str()), 0);
  }
  static void Resize(int64_t kib) {
    ASSERT_EQ(mount("tmpfs", (folder_ / "disk").c_str(), "tmpfs", MS_REMOUNT, absl::StrCat("size=", kib, "k").c_str()), 0);
  }
  static void Unmount() { ASSERT_EQ(umount2((folder_ / "disk").c_str(), MNT_DETACH), 0); }
  static int64_t KibOf(const fs::path& folder) {
    int64_t bytes = 0;
    for (const auto& entry : fs::recursive_directory_iterator(folder))
      bytes += entry.is_regular_file() ? static_cast<int64_t>(entry.file_size()) : 0;
    return bytes / 1024;
  }
  // Documented: done, or failed; and said.
  static bool Said(const ProcessResult& result, const std::string& reason) {
    return (result.exit_code == 0 || result.exit_code == 1) && (result.exit_code == 0 || absl::StrContains(result.err, reason));
  }
  std::string calm_;
};

TEST_F(Disks, OneThatIsFullAndThenIsNot) {
  const auto trials = static_cast<uint64_t>(Trials(6));
  const auto whole = static_cast<uint64_t>(KibOf(folder_ / "calm"));
  int64_t lost = 0, went_on = 0;
  for (uint64_t number = 0; number < trials; ++number) {
    Mount(static_cast<int64_t>(16 + RandomBits(kSeed, 0, number) % (3 * whole)));
    const ProcessResult full = Train(2, 2, "disk/run");
    Resize(64 << 10);
    const ProcessResult again = Train(2, 2, "disk/run");
    const bool good = Said(full, "No space left on device") && again.exit_code == 0 && Hash("disk/run") == calm_;
    if (!good)
      ADD_FAILURE() << "trial " << number << ": exit codes " << full.exit_code << " and " << again.exit_code << "\n"
                    << full.err << again.err;
    lost += !good;
    went_on += full.exit_code == 0;
    Unmount();
  }
  ReportTrials("full_disk", static_cast<int64_t>(trials), absl::StrFormat("%d:0-%d", kSeed, trials - 1),
               absl::StrFormat("%d went on, %d failed and said so; all ended well with room", went_on,
                               static_cast<int64_t>(trials) - went_on - lost),
               "", lost);
}

// One rank alone: MPI's own shared memory is files too.
TEST_F(Disks, FilesThatMayNotGrow) {
  const auto trials = static_cast<uint64_t>(Trials(4));
  int64_t lost = 0;
  for (uint64_t number = 0; number < trials; ++number) {
    const std::string output = absl::StrCat("limited", number);
    std::vector<std::string> command = {"sh", "-c",
                                        absl::StrFormat("ulimit -f %d; exec \"$@\"", 1 + RandomBits(kSeed, 1, number) % 800),
                                        "sh"};  // blocks of 512 bytes
    const std::vector<std::string> train = Command(1, 1, output);
    command.insert(command.end(), std::find(train.begin(), train.end(), kJevons), train.end());
    const ProcessResult limited = RunProcess(command, kTimeout);
    const ProcessResult again = Train(2, 2, output);
    const bool good = Said(limited, "File too large") && again.exit_code == 0 && Hash(output) == calm_;
    if (!good)
      ADD_FAILURE() << "trial " << number << ": exit codes " << limited.exit_code << " and " << again.exit_code << "\n"
                    << limited.err << again.err;
    lost += !good;
  }
  ReportTrials("file_limit", static_cast<int64_t>(trials), absl::StrFormat("%d:0-%d", kSeed, trials - 1),
               "documented exit codes; all ended well without the limit", "", lost);
}

TEST_F(Disks, OneThatIsReadOnly) {
  Mount(64 << 10);
  ASSERT_EQ(mount("tmpfs", (folder_ / "disk").c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, nullptr), 0);
  const ProcessResult fresh = Train(2, 2, "disk/run");
  EXPECT_EQ(fresh.exit_code, 1);
  EXPECT_TRUE(absl::StrContains(fresh.err, "Read-only file system")) << fresh.err;
  Unmount();
  ReportTrials("read_only", 1, "all", "exit code 1, and the reason", "", HasFailure());
}

}  // namespace
}  // namespace jevons
