#include "kernels/base/environment.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace jevons {
namespace {

constexpr char kVariable[] = "JEVONS_ENVIRONMENT_TEST";
constexpr const char* kNames[] = {"red", "blue"};

TEST(EnvironmentTest, NamesAreFoundAndNothingIsNothing) {
  unsetenv(kVariable);
  EXPECT_EQ(EnvironmentChoice(kVariable, kNames), std::nullopt);
  EXPECT_FALSE(EnvironmentSwitch(kVariable));
  setenv(kVariable, "", 1);
  EXPECT_EQ(EnvironmentChoice(kVariable, kNames), std::nullopt);
  EXPECT_FALSE(EnvironmentSwitch(kVariable));
  setenv(kVariable, "blue", 1);
  EXPECT_EQ(EnvironmentChoice(kVariable, kNames), 1u);
  setenv(kVariable, "1", 1);
  EXPECT_TRUE(EnvironmentSwitch(kVariable));
  setenv(kVariable, "0", 1);
  EXPECT_FALSE(EnvironmentSwitch(kVariable));
  unsetenv(kVariable);
}

TEST(EnvironmentDeathTest, OtherValuesEndTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto with = [](const char* value, auto read) {
    setenv(kVariable, value, 1);
    read();
  };
  EXPECT_EXIT(with("Blue", [] { EnvironmentChoice(kVariable, kNames); }), testing::ExitedWithCode(2),
              "JEVONS_ENVIRONMENT_TEST=Blue: say red or blue, or unset it");
  EXPECT_EXIT(with("yes", [] { EnvironmentSwitch(kVariable); }), testing::ExitedWithCode(2),
              "JEVONS_ENVIRONMENT_TEST=yes: say 0 or 1, or unset it");
}

}  // namespace
}  // namespace jevons
