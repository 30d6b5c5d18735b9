// The NCCL of this machine, as far as it can be asked without a GPU.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/status.h"
#include "parallel/comm/loopback.h"
#include "parallel/comm/nccl.h"
#include "parallel/comm/nccl_api.h"

namespace jevons {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

TEST(NcclLibraryTest, TheReportSaysWhatThereIs) {
  const NcclReport report = ExamineNccl();
  EXPECT_EQ(report.built, bool{JEVONS_BUILT_WITH_NCCL});
  EXPECT_EQ(report.compiled.empty(), !report.built);
  EXPECT_NE(report.loaded.empty(), report.problem.empty());
  EXPECT_EQ(NcclLibrary().ok(), report.problem.empty());
  if (report.built) {
    EXPECT_THAT(report.compiled, MatchesRegex("2\\.[0-9]+\\.[0-9]+"));
  }
  if (report.problem.empty()) {
    EXPECT_THAT(report.loaded, MatchesRegex("2\\.[0-9]+\\.[0-9]+"));
  }
}

TEST(NcclLibraryTest, WithoutNcclThereIsNoCommunicatorButAReason) {
  if (ExamineNccl().problem.empty()) GTEST_SKIP() << "this machine has NCCL";
  RunLoopback(1, [](Communicator& world) {
    const auto made = MakeNcclCommunicator(world);
    EXPECT_EQ(ExitCodeOf(made.status()), ExitCode::kFailure);
    EXPECT_THAT(std::string(made.status().message()), HasSubstr("NCCL"));
  });
}

TEST(NcclLibraryTest, ItExplainsItsErrors) {
  const auto library = NcclLibrary();
  if (!library.ok()) GTEST_SKIP() << library.status().message();
  EXPECT_THAT((*library)->Explain(6, nullptr), HasSubstr("remote process exited"));
}

}  // namespace
}  // namespace jevons
