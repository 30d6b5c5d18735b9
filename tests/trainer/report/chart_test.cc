#include "trainer/report/chart.h"

#include <gmock/gmock.h>

#include <cmath>
#include <random>

namespace jevons {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

TEST(Ticks, AreRoundAndFew) {
  EXPECT_THAT(LinearTicks(0, 10, 6), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(LinearTicks(3.1, 5.9, 6), ElementsAre(3.5, 4, 4.5, 5, 5.5));
  EXPECT_THAT(LinearTicks(-40, 70, 5), ElementsAre(0, 50));
  EXPECT_THAT(LinearTicks(7, 7, 5), ElementsAre(7));
  EXPECT_THAT(LogTicks(1, 1000, 8), ElementsAre(1, 10, 100, 1000));
  EXPECT_THAT(LogTicks(1, 20, 6), ElementsAre(1, 2, 5, 10, 20));
  EXPECT_THAT(LogTicks(3.1, 5.9, 6), ElementsAre(3.5, 4, 4.5, 5, 5.5)) << "few round powers in the range";
  EXPECT_FALSE(std::signbit(LinearTicks(0, 1, 5)[0])) << "-0 is no label";
}

TEST(Ticks, StayWithinTheRangeWhateverItIs) {
  std::mt19937_64 random(5);
  for (int trial = 0; trial < 2000; ++trial) {
    const double low = std::pow(10, std::uniform_real_distribution(-9.0, 9.0)(random)),
                 high = low * (1 + std::pow(10, std::uniform_real_distribution(-3.0, 6.0)(random)));
    for (const auto& ticks : {LinearTicks(low, high, 6), LogTicks(low, high, 6)}) {
      ASSERT_GE(ticks.size(), 1u);
      ASSERT_LE(ticks.size(), 6u) << low << " " << high;
      for (size_t i = 0; i < ticks.size(); ++i) {
        ASSERT_GE(ticks[i], low * (1 - 1e-6)) << low << " " << high;
        ASSERT_LE(ticks[i], high * (1 + 1e-6)) << low << " " << high;
        ASSERT_GT(ticks[i], i > 0 ? ticks[i - 1] : 0);
      }
    }
  }
}

TEST(LineChart, DrawsPointsWhereTheyBelong) {
  // The plot lies from x 50 to 398 and from y 192 up to 8.
  const std::string html =
      LineChart{.title = "a", .x_label = "x", .series = {{.name = "", .curve = {.x = {0, 5, 10}, .y = {0, 1, 2}}}}}.Html();
  EXPECT_THAT(html, HasSubstr("d=\"M50.0 192.0L224.0 100.0L398.0 8.0\""));
  const std::string log =
      LineChart{
          .title = "a", .x_label = "x", .series = {{.name = "", .curve = {.x = {0, 5, 10}, .y = {1, 10, 100}}}}, .log_y = true}
          .Html();
  EXPECT_THAT(log, HasSubstr("d=\"M50.0 192.0L224.0 100.0L398.0 8.0\""));
}

TEST(LineChart, HasNoPlotWhereThereIsNothing) {
  EXPECT_EQ(LineChart({.title = "A <b>", .x_label = "x"}).Html(), "<p>A &lt;b&gt;: not recorded.</p>\n");
  const std::string one =
      LineChart{.title = "one", .x_label = "x", .series = {{.name = "", .curve = {.x = {3}, .y = {4}}}}}.Html();
  EXPECT_THAT(one, HasSubstr("<circle"));
  EXPECT_THAT(one, Not(HasSubstr("nan")));
}

TEST(LineChart, EscapesNamesAndHasALegendForSeveralSeries) {
  const Curve curve{.x = {0, 1}, .y = {1, 2}};
  const std::string html = LineChart{.title = "t",
                                     .x_label = "x & y",
                                     .series = {{.name = "<i>", .curve = curve}, {.name = "b", .curve = curve, .color = 1}}}
                               .Html();
  EXPECT_THAT(html, HasSubstr("<span class=\"key s0\"><i></i>&lt;i&gt;</span>"));
  EXPECT_THAT(html, HasSubstr("x &amp; y"));
}

TEST(HeatMap, JoinsNeighboursOfOneClass) {
  const HeatScale scale{"much", {1, 2}, {"low", "middle", "high"}};
  const std::string html =
      HeatMap{.title = "t", .x_label = "x", .y_label = "y", .rows = {"r"}, .values = {{0, 0.5, 1, 1.5, 3}}, .scale = scale}
          .Html();
  EXPECT_THAT(html, testing::ContainsRegex(
                        "class=\"cell much0\" d=\"M[0-9.]+ [0-9.]+h[0-9.]+v[0-9.]+h-[0-9.]+z\""));  // one rectangle for two
  EXPECT_THAT(html, HasSubstr("class=\"cell much1\""));
  EXPECT_THAT(html, HasSubstr("class=\"cell much2\""));
  EXPECT_THAT(HeatLegend(scale), HasSubstr("class=\"cell much2\"/></svg>high"));
}

}  // namespace
}  // namespace jevons
