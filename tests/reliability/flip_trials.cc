// Bits that flip in the files that a run reads, between two starts: found before they are used, or of no consequence.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/philox.h"
#include "tests/support/train_cli.h"
#include "tests/support/trials.h"

namespace jevons {
namespace {

constexpr uint64_t kSeed = 14;

class Flips : public TrainCli {
 protected:
  // What a run says of its state and of its validation set once it has gone on.
  struct Result {
    int exit_code = 0;
    std::string hash = {}, evaluation = {}, err = {};
  };
  // Goes on from a copy of "run" by two steps, and evaluates.
  static Result GoOn() {
    fs::remove_all(folder_ / "copy");
    fs::copy(folder_ / "run", folder_ / "copy", fs::copy_options::recursive);
    const ProcessResult trained = Train(1, 1, "copy", {"train.steps=6"});
    if (trained.exit_code != 0) return {.exit_code = trained.exit_code, .err = trained.err};
    const ProcessResult evaluated = Jevons({"eval", "--checkpoint", folder_ / "copy"});
    return {.exit_code = evaluated.exit_code, .hash = Hash("copy"), .evaluation = evaluated.out, .err = evaluated.err};
  }
  // As GoOn, with a bit of the file turned.
  static Result GoOnWith(const fs::path& path, uint64_t bit) {
    const auto turn = [&] {
      std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
      file.seekg(static_cast<std::streamoff>(bit / 8));
      const int byte = file.get();
      file.seekp(static_cast<std::streamoff>(bit / 8));
      file.put(static_cast<char>(byte ^ 1 << bit % 8));
    };
    turn();
    const Result result = GoOn();
    turn();
    return result;
  }
};

TEST_F(Flips, InEveryFileThatIsRead) {
  ASSERT_EQ(Train(2, 2, "run", {"train.steps=4"}).exit_code, 0);
  const Result calm = GoOn();
  ASSERT_EQ(calm.exit_code, 0) << calm.err;
  std::vector<fs::path> paths = {folder_ / "run/tokenizer.json"};
  for (const fs::path& folder : {folder_ / "data", folder_ / "run/checkpoints"})
    for (const auto& entry : fs::recursive_directory_iterator(folder))
      if (entry.is_regular_file()) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  ASSERT_GT(paths.size(), 9u);
  const auto flips = static_cast<uint64_t>(Trials(3));
  int64_t found = 0, harmless = 0, lost = 0;
  uint64_t number = 0;
  for (const fs::path& path : paths) {
    for (uint64_t flip = 0; flip < flips; ++flip, ++number) {
      const uint64_t bit = RandomBits(kSeed, 0, number) % (8 * fs::file_size(path));
      const Result result = GoOnWith(path, bit);
      const bool named = absl::StrContains(result.err, path.filename().string()) ||
                         absl::StrContains(result.err, path.parent_path().filename().string());
      if (result.exit_code == 3 && named) {
        ++found;
      } else if (result.exit_code == 0 && result.hash == calm.hash && result.evaluation == calm.evaluation) {
        ++harmless;
      } else {
        ++lost;
        ADD_FAILURE() << path << ", bit " << bit << ": exit code " << result.exit_code << "\n" << result.err << result.evaluation;
      }
    }
  }
  ReportTrials("flips", static_cast<int64_t>(number), absl::StrFormat("%d:0-%d", kSeed, number - 1),
               absl::StrFormat("%d files: %d refused with the file's name, %d changed nothing", paths.size(), found, harmless),
               "", lost);
}

}  // namespace
}  // namespace jevons
