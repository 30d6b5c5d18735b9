#include "trainer/report/comparison.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/trainer/report/written_run.h"

namespace jevons {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// Losses that do not change are what smoothing leaves of them: figures can be worked out by hand.
WrittenRun Flat(const TempFolder& folder, const std::string& name, double loss, int steps,
                const std::vector<std::string>& overrides = {}) {
  WrittenRun run(folder, name, overrides);
  for (int step = 1; step <= steps; ++step) run.Add(StepOfRun(step, loss));
  run.Add(ValidationOfRun(steps, loss - 0.5));
  return run;
}

const Figure& Named(const RunComparison& comparison, const std::string& name) {
  for (const Figure& figure : comparison.figures)
    if (figure.name == name) return figure;
  ADD_FAILURE() << name;
  return comparison.figures.front();
}

double At(const RunComparison& comparison, const std::string& name, size_t column) {
  return Named(comparison, name).columns.at(column).value().mean();
}

TEST(Comparison, TellsWhatRunsReachedAndWhatItCost) {
  const TempFolder folder;
  const std::vector<RunHistory> runs = {Flat(folder, "a", 4, 10).Read(),
                                        Flat(folder, "b", 3, 20, {"optimizer.learning_rate.peak=1e-3"}).Read()};
  const auto comparison = CompareRuns(runs, {.prices = {3600, 7200}});
  ASSERT_TRUE(comparison.ok()) << comparison.status();
  EXPECT_DOUBLE_EQ(At(*comparison, "loss", 0), 4);
  EXPECT_DOUBLE_EQ(At(*comparison, "validation_loss", 1), 2.5);
  EXPECT_EQ(At(*comparison, "steps", 1), 20);
  EXPECT_DOUBLE_EQ(At(*comparison, "device_hours", 0), 10 * 2 * 4 / 3600.0);
  EXPECT_DOUBLE_EQ(At(*comparison, "dollars", 1), 160);
  EXPECT_DOUBLE_EQ(At(*comparison, "dollars_at_7200", 1), 320);
  EXPECT_DOUBLE_EQ(At(*comparison, "dollars_per_million_tokens", 1), 80e3);
  EXPECT_DOUBLE_EQ(At(*comparison, "dollars_per_million_tokens_at_7200", 0), 160e3);
  EXPECT_NEAR(At(*comparison, "device_hours_per_trillion_tokens", 0), 80e12 / 1000 / 3600, 1);
  EXPECT_DOUBLE_EQ(At(*comparison, "load_max_over_mean", 0), 1 + (1 / 6.0 + 1 / 7.0 + 1 / 8.0 + 1 / 9.0 + 1 / 10.0) / 5);
  ASSERT_EQ(comparison->config.size(), 1u);
  EXPECT_EQ(comparison->config[0].path, "optimizer.learning_rate.peak");
  EXPECT_THAT(comparison->config[0].values, ElementsAre("0.003", "0.001"));
  const std::string text = RunComparisonText(*comparison);
  EXPECT_THAT(text, testing::ContainsRegex("\n  loss, smoothed, last +4 +3 \\(-25.00%\\)\n"));
  EXPECT_THAT(text, HasSubstr("180K H800 hours per 1e12 tokens, $0.36 per million tokens at $2 an hour"));
  EXPECT_THAT(text, Not(HasSubstr("reference")));
}

TEST(Comparison, PutsRunsAtEqualBudgets) {
  const TempFolder folder;
  WrittenRun a(folder, "a"), b(folder, "b");
  for (int step = 1; step <= 5; ++step) a.Add(StepOfRun(step, 4));
  for (int step = 1; step <= 9; ++step) b.Add(StepOfRun(step, 3, 4));  // 4 seconds were lost
  for (int step = 1; step <= 9; step += 2) b.Add(ValidationOfRun(step, 10 - step));
  const std::vector<RunHistory> runs = {a.Read(), b.Read()};
  const auto budgets = [&](Axis axis) {
    const auto comparison = CompareRuns(runs, {.at = axis});
    std::vector<double> budgets;
    for (const Figure& figure : comparison.value().figures)
      if (figure.name == "loss_at") budgets.push_back(*figure.budget);
    return budgets;
  };
  // From the later beginning to the earlier end.
  EXPECT_THAT(budgets(Axis::kTokens), ElementsAre(140, 200, 300, 400, 500));
  EXPECT_THAT(budgets(Axis::kSeconds), ElementsAre(6.4, 7, 8, 9, 10));
  EXPECT_THAT(budgets(Axis::kDollars), ElementsAre(testing::DoubleEq(12.8), 14, 16, 18, 20));
  const auto comparison = CompareRuns(runs, {.at = Axis::kTokens});
  std::vector<double> validation;
  for (const Figure& figure : comparison->figures)
    if (figure.name == "validation_loss_at") {
      EXPECT_FALSE(figure.columns[0]) << "a has no validation";
      validation.push_back(figure.columns[1]->mean());
    }
  EXPECT_THAT(validation, ElementsAre(testing::DoubleEq(8.6), 8, 7, 6, 5));
}

TEST(Comparison, TellsWhatALossCost) {
  const TempFolder folder;
  WrittenRun run(folder, "a");
  for (int step = 1; step <= 9; step += 2) {
    run.Add(StepOfRun(step, 5));
    run.Add(ValidationOfRun(step, 10 - step));
  }
  const std::vector<RunHistory> runs = {run.Read(), Flat(folder, "b", 9, 3).Read()};
  const auto comparison = CompareRuns(runs, {.loss = 6});
  ASSERT_TRUE(comparison.ok());
  EXPECT_EQ(At(*comparison, "tokens_to_validation_loss", 0), 400);
  EXPECT_EQ(At(*comparison, "seconds_to_validation_loss", 0), 8);
  EXPECT_EQ(At(*comparison, "dollars_to_validation_loss", 0), 16);
  EXPECT_EQ(At(*comparison, "tokens_to_loss", 0), 100) << "from the first step on";
  EXPECT_FALSE(Named(*comparison, "tokens_to_validation_loss").columns[1]) << "b does not reach it";
  EXPECT_THAT(RunComparisonText(*CompareRuns(runs, {.loss = 0.5})), HasSubstr("# no run reached a loss of 0.5"));
}

TEST(Comparison, SeedsAreOneColumnWithMeanAndSpread) {
  const TempFolder folder;
  const std::vector<RunHistory> runs = {
      Flat(folder, "a", 4, 5, {"train.seed=1"}).Read(), Flat(folder, "b", 3, 5, {"train.seed=2", "run.name=second"}).Read(),
      Flat(folder, "c", 8, 5, {"data.seed=3"}).Read(), Flat(folder, "d", 7, 5, {"train.seed=2", "optimizer.beta2=0.9"}).Read()};
  const auto comparison = CompareRuns(runs, {.by_seeds = true});
  ASSERT_TRUE(comparison.ok());
  ASSERT_EQ(comparison->columns.size(), 2u);
  EXPECT_THAT(comparison->columns[0].runs, ElementsAre(0, 1, 2));
  const Measured& loss = Named(*comparison, "loss").columns[0].value();
  EXPECT_DOUBLE_EQ(loss.mean(), 5);
  EXPECT_DOUBLE_EQ(loss.spread(), std::sqrt((1 + 4 + 9) / 2.0));
  EXPECT_EQ(Named(*comparison, "loss").columns[1]->spread(), 0);
  const std::string text = RunComparisonText(*comparison);
  EXPECT_THAT(text, HasSubstr("a and 2 more"));
  EXPECT_THAT(text, testing::ContainsRegex("loss, smoothed, last +5 \\+/- 2.6 +7 \\(\\+40.00%\\)"));
  EXPECT_THAT(text, testing::ContainsRegex("  train.seed +1, 2 +2\n"));
  EXPECT_EQ(CompareRuns(runs, {})->columns.size(), 4u);
}

TEST(Comparison, SaysWhyRunsCannotBePutSideBySide) {
  const TempFolder folder;
  WrittenRun early(folder, "early"), late(folder, "late");
  for (int step = 1; step <= 3; ++step) early.Add(StepOfRun(step, 5));
  for (int step = 7; step <= 9; ++step) late.Add(StepOfRun(step, 5));
  const std::vector<RunHistory> apart = {early.Read(), late.Read()};
  const auto message = [](const absl::Status& status) {
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage);
    return std::string(status.message());
  };
  EXPECT_THAT(message(CompareRuns(apart, {}).status()),
              HasSubstr("no budget in common: one ends at 300 tokens, another begins at 700 tokens"));
  EXPECT_THAT(message(CompareRuns(apart, {.at = Axis::kReference}).status()),
              HasSubstr("cost.reference_mfu of " + early.path() + " is not set"));
  std::vector<RunHistory> unpriced = {early.Read()};
  for (MetricsRecord& record : unpriced[0].steps)
    std::erase_if(record.values, [](const auto& value) { return value.first == "cost/dollars"; });
  EXPECT_THAT(message(CompareRuns(unpriced, {.at = Axis::kDollars}).status()), HasSubstr("give one by --price"));
  EXPECT_TRUE(CompareRuns(unpriced, {.at = Axis::kDollars, .prices = {2}}).ok());
}

TEST(Comparison, JsonHasWhatTheTextHas) {
  const TempFolder folder;
  const std::vector<RunHistory> runs = {Flat(folder, "a", 4, 5).Read(), Flat(folder, "b", 3, 5).Read()};
  const auto comparison = CompareRuns(runs, {.at = Axis::kSeconds});
  const auto json = nlohmann::json::parse(RunComparisonJson(comparison.value()));
  EXPECT_EQ(json["at"], "seconds");
  EXPECT_EQ(json["runs"][1]["name"], "b");
  EXPECT_EQ(json["figures"].size(), comparison->figures.size());
  EXPECT_EQ(json["figures"][3]["name"], "loss");
  EXPECT_EQ(json["figures"][3]["columns"][1]["mean"], 3);
}

}  // namespace
}  // namespace jevons
