#include "trainer/metrics/prometheus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "tests/support/temp_folder.h"

namespace jevons {
namespace {

std::string Text(const std::string& path) {
  std::ostringstream bytes;
  bytes << std::ifstream(path, std::ios::binary).rdbuf();
  return bytes.str();
}

// The format of https://prometheus.io/docs/instrumenting/exposition_formats, of a run whose name has all that must be escaped.
TEST(Prometheus, ShowsTheNewestValueOfEachName) {
  const TempFolder folder;
  const std::string path = folder.path() + "/jevons.prom";
  auto file = PrometheusFile::Create(path, "a\"b\\c\nd");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(Text(path), "");
  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  ASSERT_TRUE(file->Append({1, 1763755200.5, {{"loss/main", 5.25}, {"fp8/weights_saturated", 0}}}).ok());
  ASSERT_TRUE(
      file->Append({123456789, 1763755201.5, {{"loss/main", kInfinite}, {"validation/loss", -kInfinite / kInfinite}}}).ok());
  const std::string label = R"({run="a\"b\\c\nd"} )";
  EXPECT_EQ(Text(path), "# TYPE jevons_fp8_weights_saturated gauge\njevons_fp8_weights_saturated" + label +
                            "0\n"
                            "# TYPE jevons_loss_main gauge\njevons_loss_main" +
                            label +
                            "+Inf\n"
                            "# TYPE jevons_step gauge\njevons_step" +
                            label +
                            "123456789\n"
                            "# TYPE jevons_time_seconds gauge\njevons_time_seconds" +
                            label +
                            "1763755201.5\n"
                            "# TYPE jevons_validation_loss gauge\njevons_validation_loss" +
                            label + "NaN\n");
  // What an earlier start has shown is not this one's.
  ASSERT_TRUE(PrometheusFile::Create(path, "next").ok());
  EXPECT_EQ(Text(path), "");
}

TEST(Prometheus, ABadStepsFiguresGoWithTheNextGoodOne) {
  const TempFolder folder;
  const std::string path = folder.path() + "/jevons.prom";
  auto file = PrometheusFile::Create(path, "caf\xff\u00e9");  // a byte that is no UTF-8
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(file->Append({1, 1, {{"loss/main", 5}}}).ok());
  ASSERT_TRUE(file->Append({2, 2, {{"bad_step/loss", 80}, {"cost/device_seconds", 3}}}).ok());
  const std::string label = "{run=\"caf\ufffd\u00e9\"} ";
  EXPECT_THAT(Text(path), ::testing::AllOf(::testing::HasSubstr("jevons_bad_step_loss" + label + "80\n"),
                                           ::testing::HasSubstr("jevons_loss_main" + label + "5\n")));
  ASSERT_TRUE(file->Append({3, 3, {{"loss/main", 4}}}).ok());
  EXPECT_THAT(Text(path), ::testing::AllOf(::testing::Not(::testing::HasSubstr("bad_step")),
                                           ::testing::HasSubstr("jevons_cost_device_seconds" + label + "3\n")));
}

TEST(Prometheus, AFileThatCannotBeWrittenIsNamed) {
  const TempFolder folder;
  const auto none = PrometheusFile::Create(folder.path() + "/none/jevons.prom", "run");
  EXPECT_THAT(std::string(none.status().message()), ::testing::HasSubstr("/none/jevons.prom.new: cannot open for writing: "));
  auto file = PrometheusFile::Create(folder.path() + "/jevons.prom", "run");
  ASSERT_TRUE(file.ok());
  std::filesystem::create_directory(folder.path() + "/jevons.prom.new");
  EXPECT_FALSE(file->Append({1, 1, {}}).ok());
  std::filesystem::remove(folder.path() + "/jevons.prom.new");
  std::filesystem::create_directory(folder.path() + "/folder.prom");
  EXPECT_FALSE(PrometheusFile::Create(folder.path() + "/folder.prom", "run").ok());
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/folder.prom.new")) << "nothing is left behind";
  EXPECT_TRUE(file->Append({2, 2, {}}).ok());
}

}  // namespace
}  // namespace jevons
