// `jevons` from the outside: help, errors, exit codes, output streams.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launch/process.h"

namespace jevons {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr double kTimeout = 60;  // seconds; every command here is done in far less

ProcessResult Jevons(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), JEVONS_BINARY_DIR "/jevons");
  return RunProcess(std::move(arguments), kTimeout);
}

class EveryCommand : public ::testing::TestWithParam<const char*> {};

TEST_P(EveryCommand, HelpBeginsWithAnExampleOfItself) {
  const ProcessResult result = Jevons({GetParam(), "--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, StartsWith("Example:\n  "));
  const std::string example = result.out.substr(0, result.out.find("\n\n"));
  EXPECT_THAT(example, HasSubstr(std::string("jevons ") + GetParam()));
  EXPECT_EQ(result.err, "");
}

TEST_P(EveryCommand, UnknownFlagIsAUsageError) {
  const ProcessResult result = Jevons({GetParam(), "--no-such-flag=1"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, StartsWith("error: --no-such-flag: unknown flag"));
}

INSTANTIATE_TEST_SUITE_P(Cli, EveryCommand, ::testing::Values("prepare", "inspect", "doctor"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Cli, HelpListsCommandsAndExitCodes) {
  const ProcessResult result = Jevons({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, StartsWith("Example:\n  jevons prepare"));
  EXPECT_THAT(result.out, HasSubstr("75 stopped by a signal"));
}

TEST(Cli, VersionNamesCompilerAndBackends) {
  const ProcessResult result = Jevons({"--version"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, StartsWith("jevons 0."));
  EXPECT_THAT(result.out, HasSubstr("\nbackends cpu"));
}

TEST(Cli, NoCommandIsAUsageError) {
  const ProcessResult result = Jevons({});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("jevons --help"));
}

TEST(Cli, MisspeltNamesAreGuessed) {
  EXPECT_THAT(Jevons({"inspct"}).err, HasSubstr("inspct: unknown command; did you mean inspect?"));
  EXPECT_THAT(Jevons({"inspect", "--confg", "x"}).err, HasSubstr("--confg: unknown flag; did you mean --config?"));
}

}  // namespace
}  // namespace jevons
