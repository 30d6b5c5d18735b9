// `cmake --install`: a program that is installed elsewhere finds the files that came with it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "launch/process.h"
#include "tests/support/paths.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr double kTimeout = 60;

class Install : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "jevons_install_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    const ProcessResult result = RunProcess({"cmake", "--install", BinaryPath(""), "--prefix", Prefix()}, kTimeout);
    ASSERT_EQ(result.exit_code, 0) << result.err;
    fs::create_directory(root_ + "/elsewhere");
  }
  void TearDown() override { fs::remove_all(root_); }

  std::string Prefix() const { return root_ + "/prefix"; }
  // The installed program, in a folder that has no files of ours.
  ProcessResult Jevons(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"sh", "-c", "cd \"$0\" && exec \"$@\"", root_ + "/elsewhere", Prefix() + "/bin/jevons"});
    return RunProcess(std::move(arguments), kTimeout);
  }

  std::string root_;
};

TEST_F(Install, FindsItsFilesBelowThePrefix) {
  const ProcessResult claim = Jevons({"plan", "--reproduce", "deepseek-v3"});
  EXPECT_EQ(claim.exit_code, 0) << claim.err;
  EXPECT_THAT(claim.out, HasSubstr("pre-training"));

  const ProcessResult published = Jevons({"plan", "--validate", "configs/published/throughput.csv"});
  EXPECT_EQ(published.exit_code, 0) << published.err;
  EXPECT_THAT(published.out, HasSubstr("worst"));

  const ProcessResult plan = Jevons(
      {"plan", "--config", "configs/presets/deepseek_v3_671b.textproto", "--cluster", "configs/clusters/h800_2048.textproto"});
  EXPECT_THAT(plan.out, HasSubstr("memory of rank")) << plan.err;  // it is read and planned, be it that it fits or not

  const ProcessResult preset = Jevons({"inspect", "--config", "configs/presets/quickstart_cpu.textproto", "--print-config"});
  EXPECT_EQ(preset.exit_code, 0) << preset.err;
  EXPECT_THAT(preset.out, HasSubstr("steps: "));
}

// Without its files nothing else serves in their place, such as the source folder's: so the test above read the installed ones.
TEST_F(Install, NamesTheFolderWhereItsFilesAreMissing) {
  fs::remove_all(Prefix() + "/share/jevons/configs");
  const ProcessResult claim = Jevons({"plan", "--reproduce", "deepseek-v3"});
  EXPECT_EQ(claim.exit_code, 2);
  EXPECT_EQ(claim.out, "");
  EXPECT_THAT(claim.err, HasSubstr(Prefix() + "/share/jevons/configs"));

  const ProcessResult preset = Jevons({"inspect", "--config", "configs/presets/quickstart_cpu.textproto", "--print-config"});
  EXPECT_EQ(preset.exit_code, 2);
  EXPECT_THAT(preset.err, HasSubstr("error: configs/presets/quickstart_cpu.textproto"));
}

TEST_F(Install, BringsTheScriptsOfClusters) {
  EXPECT_TRUE(fs::exists(Prefix() + "/share/jevons/launch/slurm/jevons.sbatch"));
  EXPECT_TRUE(fs::exists(Prefix() + "/share/jevons/launch/kubernetes/mpijob.yaml"));
  EXPECT_TRUE(fs::exists(Prefix() + "/share/jevons/launch/mpirun.sh"));
  EXPECT_TRUE(fs::exists(Prefix() + "/share/jevons/configs/run.proto"));
}

}  // namespace
}  // namespace jevons
