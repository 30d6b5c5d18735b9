// The claim's tables stay within their bounds.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/trainer/plan/plan_cases.h"
#include "trainer/plan/report.h"
#include "trainer/plan/reproduce.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

const Claim& TheClaim() {
  static const Claim claim = [] {
    auto result = ReproduceDeepSeekV3(Preset("deepseek_v3_671b"), H800(), ClusterNamed("h100_1024"));
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *std::move(result) : Claim();
  }();
  return claim;
}

TEST(Claim, HoursWithinFivePercent) {
  ASSERT_EQ(TheClaim().hours.size(), 5);
  for (const ClaimLine& line : TheClaim().hours) EXPECT_LT(std::abs(line.error()), 0.05) << line.name << " " << line.predicted;
}

TEST(Claim, EachLineOfTheStepWithinFifteenPercent) {
  ASSERT_EQ(TheClaim().step.size(), 10);
  for (const ClaimLine& line : TheClaim().step) EXPECT_LT(std::abs(line.error()), 0.15) << line.name << " " << line.predicted;
}

TEST(Claim, WhatIsNoPredictionSaysSo) {
  EXPECT_THAT(TheClaim().hours[1].note, HasSubstr("FITTED"));
  EXPECT_THAT(TheClaim().hours[2].note, HasSubstr("NOT PREDICTED"));
  EXPECT_THAT(TheClaim().step[0].note, HasSubstr("fitted"));
  EXPECT_THAT(ConstantsText({}), HasSubstr("FITTED ON DEEPSEEK-V3'S STEP"));
}

TEST(Claim, EveryChoiceOfTheReportSavesMoney) {
  const auto dollars = [](const std::string& name) {
    for (const ClaimVariant& v : TheClaim().variants)
      if (v.name == name) return v.dollars;
    ADD_FAILURE() << name;
    return 0.0;
  };
  const double published = dollars("as published");
  for (const char* other :
       {"BF16 products, dispatch and caches", "no overlap of communication", "tokens to any node", "plain 1F1B, no overlap",
        "half the network", "dense model of equal loss, 158B (rule of thumb), TP8 PP8"})
    EXPECT_GT(dollars(other), published) << other;
  EXPECT_NEAR(dollars("$1 per GPU hour"), published / 2, 1);
}

TEST(Claim, FitsWhereBf16DoesNot) {
  EXPECT_TRUE(TheClaim().plan.fits());
  EXPECT_FALSE(TheClaim().variants[1].fits);
}

RunPlan WholeRun(const Plan& plan) { return {.tokens = 14.8e12, .priced_tokens = 14.8e12, .gpu_hours = plan.gpu_hours(14.8e12)}; }

TEST(PlanReport, JsonHoldsTheFiguresOfTheText) {
  const Plan& plan = TheClaim().plan;
  const nlohmann::ordered_json json = PlanJson(plan, WholeRun(plan));
  EXPECT_EQ(json["step_seconds"], plan.step_seconds);
  EXPECT_EQ(json["memory"]["ranks"].size(), 16);
  EXPECT_NEAR(json["run"]["dollars"].get<double>(), 5.328e6, 0.05 * 5.328e6);
  double sum = 0;
  for (const auto& [name, seconds] : json["step"].items()) sum += seconds.get<double>();
  EXPECT_NEAR(sum, plan.step_seconds, 1e-9);
  EXPECT_THAT(PlanText(plan, WholeRun(plan)), HasSubstr("fits            yes"));
}

// The context extension is priced with its own steps; a stage that cannot be priced on the layout is told, and is in no sum.
TEST(PlanReport, EachStageOfARunHasItsOwnStep) {
  const RunConfig config = Preset("deepseek_v3_671b_128k", {"parallel.schedule=ONE_F_ONE_B"});
  const Plan plan = PlanOf(LayoutOf(config, 2048));
  const RunPlan run = PlanRun(plan, config);
  ASSERT_EQ(run.parts.size(), 3u);
  EXPECT_EQ(run.parts[0].step_seconds, plan.step_seconds);
  EXPECT_EQ(run.parts[1].first_step, 242783);
  EXPECT_EQ(run.parts[1].tokens, 1000.0 * 1920 * 32768);
  Layout longer = plan.layout;
  longer.sequence = 32768;
  longer.batch = 1920;
  EXPECT_EQ(run.parts[1].step_seconds, PlanOf(longer).step_seconds);
  EXPECT_DOUBLE_EQ(run.parts[1].gpu_hours, 1000 * run.parts[1].step_seconds * 2048 / 3600);
  // 480 sequences are no whole number for each of 128 replicas.
  EXPECT_THAT(run.parts[2].unpriced, HasSubstr("480"));
  EXPECT_EQ(run.parts[2].gpu_hours, 0);
  EXPECT_DOUBLE_EQ(run.priced_tokens, run.parts[0].tokens + run.parts[1].tokens);
  EXPECT_DOUBLE_EQ(run.tokens, RunTokens(config));
  EXPECT_DOUBLE_EQ(run.gpu_hours, run.parts[0].gpu_hours + run.parts[1].gpu_hours);
  const std::string text = PlanText(plan, run);
  EXPECT_THAT(text, HasSubstr("run of 14.93T tokens at $"));
  EXPECT_THAT(text, HasSubstr("what follows is of the 14.86T tokens that are priced"));
  EXPECT_THAT(text, HasSubstr("  from step 242784       0.06291T tokens, 1920 sequences of 32768 a step: "));
  EXPECT_THAT(text, HasSubstr("480 sequences of 131072 a step: not priced: "));
  const nlohmann::ordered_json json = PlanJson(plan, run);
  EXPECT_EQ(json["run"]["stages"][1]["step_seconds"], run.parts[1].step_seconds);
  EXPECT_EQ(json["run"]["stages"][2]["unpriced"], run.parts[2].unpriced);
  // Money for the first stage and half of the second; money alone, and without any end.
  const double price = plan.cluster.hour().dollars_per_gpu();
  const double dollars = price * (run.parts[0].gpu_hours + run.parts[1].gpu_hours / 2);
  RunConfig paid = config;
  paid.mutable_train()->set_dollars(dollars);
  const RunPlan spent = PlanRun(plan, paid);
  EXPECT_TRUE(spent.spent);
  ASSERT_EQ(spent.parts.size(), 2u);
  EXPECT_NEAR(spent.parts[1].tokens, run.parts[1].tokens / 2, 1e-6 * run.parts[1].tokens);
  EXPECT_NEAR(spent.gpu_hours * price, dollars, 1e-9 * dollars);
  EXPECT_THAT(PlanText(plan, spent), HasSubstr(" tokens, which train.dollars end, at $"));
  paid.mutable_train()->clear_stage();
  paid.mutable_train()->clear_steps();
  paid.mutable_train()->set_dollars(price);
  EXPECT_NEAR(PlanRun(plan, paid).tokens, 3600 * plan.tokens_per_second_per_gpu(), 1);
  paid.mutable_train()->clear_dollars();
  EXPECT_TRUE(PlanRun(plan, paid).parts.empty());
  const RunConfig alone = Preset("deepseek_v3_671b");
  EXPECT_DOUBLE_EQ(PlanRun(TheClaim().plan, alone).gpu_hours, TheClaim().plan.gpu_hours(RunTokens(alone)));
}

// A plan is of what the program will do; what it does not do yet is named and priced, where it makes a difference.
TEST(PlanReport, SaysWhatTrainDoesNotDoYet) {
  const AheadOfTrain hops = WhatTrainLacks(TheClaim().plan);
  EXPECT_THAT(hops.of, testing::ElementsAre(HasSubstr("forwarded inside a node while others cross the network")));
  EXPECT_GT(hops.step_seconds, TheClaim().plan.step_seconds);
  ModelShape model = TheClaim().plan.model;
  model.groups = model.kept_groups = 1;
  const Plan plan = MakePlan(model, TheClaim().plan.layout, TheClaim().plan.cluster).value();
  const AheadOfTrain ahead = WhatTrainLacks(plan);
  EXPECT_EQ(ahead.of.size(), 1u);
  EXPECT_GT(ahead.step_seconds, plan.step_seconds);
  EXPECT_THAT(PlanText(plan, {}),
              testing::ContainsRegex("of train today +[0-9.]+ s, which does not do yet: rows .* forwarded there"));
  EXPECT_EQ(PlanJson(plan, {})["step_seconds_of_train"], ahead.step_seconds);
  Layout alone = plan.layout;
  alone.ep = 1;
  alone.pp = 1;
  alone.cut.clear();
  alone.batch = 16384;
  alone.schedule = ScheduleKind::k1F1B;
  const Plan plain = PlanOf(alone);
  EXPECT_TRUE(WhatTrainLacks(plain).of.empty());
  EXPECT_THAT(PlanText(plain, {}), testing::Not(HasSubstr("does not do yet")));
}

// Two hops start twice: where that takes longer than the rows that they save, a plan says so.
TEST(PlanReport, SaysWhereForwardingDoesNotPay) {
  const Plan& pays = TheClaim().plan;
  EXPECT_GT(FlatStepSeconds(pays), WhatTrainLacks(pays).step_seconds);
  EXPECT_THAT(PlanText(pays, {}), testing::Not(HasSubstr("parallel.dispatch=FLAT")));
  ClusterConfig slow_to_start = pays.cluster;
  slow_to_start.mutable_network()->set_exchange_us(100);
  slow_to_start.mutable_network()->set_rail_exchange_us(50000);
  slow_to_start.mutable_node()->set_exchange_us(50000);
  const Plan plan = MakePlan(pays.model, pays.layout, slow_to_start).value();
  EXPECT_LT(FlatStepSeconds(plan), WhatTrainLacks(plan).step_seconds);
  EXPECT_THAT(PlanText(plan, {}), HasSubstr("say parallel.dispatch=FLAT"));
  EXPECT_EQ(PlanJson(plan, {})["step_seconds_flat"], FlatStepSeconds(plan));
}

TEST(PlanReport, ClaimsJsonHoldsEveryLine) {
  const nlohmann::ordered_json json = ClaimJson(TheClaim());
  ASSERT_EQ(json["hours"].size(), TheClaim().hours.size());
  ASSERT_EQ(json["step"].size(), TheClaim().step.size());
  ASSERT_EQ(json["variants"].size(), TheClaim().variants.size());
  EXPECT_EQ(json["hours"][0]["predicted"], TheClaim().hours[0].predicted);
  EXPECT_EQ(json["step"][1]["name"], "1F");
  EXPECT_NEAR(json["step"][1]["error"].get<double>(), TheClaim().step[1].error(), 1e-12);
}

}  // namespace
}  // namespace jevons
