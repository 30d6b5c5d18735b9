// What a run says of itself: the line fits a terminal, money is spoken of where a price is known.
#include "trainer/run/progress.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "trainer/run/train_loop.h"

namespace jevons {
namespace {

using testing::HasSubstr;
using testing::Not;

struct Line {
  StepPlan plan{
      .step = 119, .first_sample = 0, .sequences = 8, .tokens_before = 0, .learning_rate = 2.1e-3, .gamma = 0, .mtp_weight = 0};
  int64_t steps = 300, tokens_left = 0;
  StepStats stats;
  Meter meter{.flops_per_token = 1e6, .peak_flops = 1e11};
  Interval interval;
  CostLedger ledger;

  Line() {
    stats.loss = 4.31;
    stats.gradient_norm = 0.82;
    interval = {.steps = 10, .tokens = 123000, .flops = 123000 * 1e6, .exchanged = {}, .seconds = 10};
    interval.phases[0] = 4;
    ledger.set_tokens(2'000'000);
    ledger.set_dollars(3);
  }
  std::string Text() const { return ProgressLine(plan, steps, tokens_left, stats, meter, interval, ledger); }
};

TEST(Progress, SaysHowLongAndHowMuchIsLeft) {
  Line line;
  line.tokens_left = 12300 * 8040;  // 2 h 14 min at 12,300 tokens a second
  EXPECT_THAT(line.Text(), HasSubstr(" | 12.3K tok/s MFU 12.3% price not set | ETA 2h14m | "));
  EXPECT_THAT(line.Text(), Not(HasSubstr("$")));
  line.meter.price_per_device_hour = 2;
  line.meter.devices = 3;
  // Spent: $3 for 2 million tokens; to come: 2.2333 h of 3 devices at $2.
  EXPECT_THAT(line.Text(), HasSubstr("MFU 12.3% $1.5/M | ETA 2h14m $16.4 | "));
  line.tokens_left = 0;
  EXPECT_THAT(line.Text(), Not(HasSubstr("ETA")));
}

TEST(Progress, WarnsOfAPeakThatIsTooLow) {
  Line line;
  EXPECT_EQ(PeakWarning(line.meter, line.interval), "");
  line.meter.peak_flops /= 10;  // MFU 12.3% is 123% now
  EXPECT_THAT(PeakWarning(line.meter, line.interval), HasSubstr("MFU 123%: the peak"));
  EXPECT_THAT(PeakWarning(line.meter, line.interval), HasSubstr("set cost.peak_tflops to what one device can do, or to 0"));
  line.meter.peak_source = "2 x some CPU";
  EXPECT_THAT(PeakWarning(line.meter, line.interval), HasSubstr("measured while the machine was busy"));
}

TEST(Progress, LargeNumbersFitTheTerminal) {
  Line line;
  line.plan.step = 123'456'788;
  line.steps = 999'999'999;
  line.tokens_left = int64_t{140'000'000'000'000};
  line.stats.loss = line.stats.mtp_loss = line.stats.balance_loss = line.stats.gradient_norm = -1.2345e38;
  line.stats.loads = {1};
  line.stats.max_over_mean = 12345.678;
  line.stats.dead_experts = 14848;
  line.meter = {.flops_per_token = 250e9, .peak_flops = 1, .devices = 16384, .price_per_device_hour = 1e6};
  line.interval.tokens = 987'654'321'000;
  line.interval.phases.fill(0.9);
  line.ledger.set_dollars(1.23456e12);
  EXPECT_LE(line.Text().size(), kProgressColumns) << line.Text();
  // A long run of a large model: every figure is there.
  line.plan.step = 1'234'566;
  line.steps = 9'999'999;
  line.tokens_left = int64_t{14'800'000'000'000};
  line.stats.loss = line.stats.mtp_loss = line.stats.gradient_norm = 12.3456;
  line.stats.balance_loss = 1.02;
  line.stats.max_over_mean = 1.42;
  line.stats.dead_experts = 0;
  line.meter = {.flops_per_token = 250e9, .peak_flops = 2048 * 989e12, .devices = 2048, .price_per_device_hour = 2};
  line.interval.tokens = 31'000'000;
  line.interval.flops = 31'000'000 * 250e9;
  line.ledger.set_tokens(1'000'000'000);
  line.ledger.set_dollars(360);
  EXPECT_LE(line.Text().size(), kProgressColumns);
  EXPECT_THAT(line.Text(),
              testing::StartsWith("step 1234567/9999999 | loss 12.3456 mtp 12.3456 bal 1.020 | grad 12.35 lr 2.1e-03 | "
                                  "3.1M tok/s MFU 38.3% $0.36/M | ETA 55d06h $5.43M | load 1.42x"));
}

// Where not all phases fit, the largest do, in their order.
TEST(Progress, LeavesOutTheSmallestPhases) {
  Line line;
  line.tokens_left = 1'000'000'000;
  line.stats.loads = {1};
  for (size_t i = 0; i < line.interval.phases.size(); ++i) line.interval.phases[i] = 0.1 + 0.05 * static_cast<double>(i);
  const std::string text = line.Text();
  EXPECT_LE(text.size(), kProgressColumns) << text;
  EXPECT_THAT(text, HasSubstr(absl::StrCat(kPhaseNames.back(), " ")));
  EXPECT_THAT(text, Not(HasSubstr(absl::StrCat(" ", kPhaseNames.front(), " "))));
}

TEST(Summary, SaysWhatItDoesNotKnow) {
  RunSummary summary;
  summary.meter = {.flops_per_token = 3e9, .mtp_flops_per_token = 1e9, .peak_flops = 1e12, .device = "CPU core"};
  summary.ledger.set_tokens(1000);
  summary.first_validation = 5.5;
  summary.last_validation = std::numeric_limits<double>::quiet_NaN();
  const TrainOptions options{.inputs = {}, .output = "run", .meter = {}, .stop = nullptr, .labels = {}};
  EXPECT_THAT(SummaryText(summary, options), HasSubstr("price not set"));
  EXPECT_THAT(SummaryText(summary, options), Not(HasSubstr("$")));
  EXPECT_THAT(SummaryText(summary, options), HasSubstr("MTP's 25.0% of the FLOPs are not in it"));
  EXPECT_THAT(SummaryText(summary, options), HasSubstr("last nan"));
  EXPECT_THAT(SummaryJson(summary), HasSubstr("\"dollars\": null"));
  EXPECT_THAT(SummaryJson(summary), HasSubstr("\"last_validation_loss\": null"));
  summary.meter.price_per_device_hour = 2;
  summary.ledger.set_dollars(0.5);
  EXPECT_THAT(SummaryText(summary, options), HasSubstr("$0.5, $500 per million tokens"));
  EXPECT_THAT(SummaryJson(summary), HasSubstr("\"dollars\": 0.5"));
}

// 0.18 hours for a million tokens are 180,000 for 1e12: DeepSeek-V3's cost. The reference: 4 GFLOP a token at half of 1 TFLOP/s.
TEST(Summary, TellsWhatATokenCost) {
  RunSummary summary;
  summary.meter = {.flops_per_token = 3e9,
                   .mtp_flops_per_token = 1e9,
                   .peak_flops = 2e12,
                   .devices = 2,
                   .price_per_device_hour = 2,
                   .device = "H800"};
  summary.mfu = 0.4;
  summary.ledger.set_tokens(1'000'000);
  summary.training_flops = 4e15;
  Charge(summary.ledger, {.seconds = 324, .devices = 2, .price_per_device_hour = 2});
  const TrainOptions options{.inputs = {}, .output = "run", .meter = {}, .stop = nullptr, .labels = {}};
  EXPECT_THAT(SummaryText(summary, options), HasSubstr("per 1e12 tokens      180K H800 hours, $0.36 a million, at this process's "
                                                       "MFU of 40.0% (causal, without MTP); DeepSeek-V3: 180K H800 hours, "
                                                       "$0.36 a million\n"));
  EXPECT_THAT(SummaryText(summary, options), Not(HasSubstr("at an MFU of")));
  summary.meter.reference_mfu = 0.5;
  EXPECT_THAT(SummaryText(summary, options), HasSubstr("at an MFU of 50%     2.222 H800 hours, $4.444, MTP's work included\n"));
  EXPECT_THAT(SummaryJson(summary), testing::ContainsRegex("\"device_hours_per_trillion_tokens\": 180000.0"));
}

// 100 tokens a step; the price is a dollar a second of one device, and a second makes 12,300 tokens.
TEST(Progress, TokensAreLeftUntilTheFirstOfItsEnds) {
  RunConfig config;
  config.mutable_data()->set_sequence_length(10);
  config.mutable_train()->set_batch_sequences(10);
  Line line;
  line.meter.price_per_device_hour = 3600;
  const auto left = [&] { return TokensLeft(config.train(), RunSchedule(config), 7, line.meter, line.interval, line.ledger); };
  EXPECT_EQ(left(), 0) << "not known";
  config.mutable_train()->set_dollars(5);
  EXPECT_EQ(left(), 2 * 12300) << "$3 are spent";
  config.mutable_train()->set_steps(10);
  EXPECT_EQ(left(), 300);
  config.mutable_train()->set_tokens(801);
  EXPECT_EQ(left(), 200);
  config.mutable_train()->set_dollars(2);
  EXPECT_EQ(left(), 0) << "more is spent than there was";
}

TEST(Progress, SaysWhyARunIsDone) {
  RunConfig config;
  config.mutable_data()->set_sequence_length(10);
  config.mutable_train()->set_batch_sequences(10);
  config.mutable_train()->set_steps(10);
  config.mutable_train()->set_dollars(2);
  const Line line;
  const auto text = [&](int64_t done) { return DoneText(config.train(), RunSchedule(config), done, line.ledger); };
  EXPECT_EQ(text(10), "train.steps = 10 are done: the checkpoint has 10 steps; set more to go on");
  EXPECT_EQ(text(7), "train.dollars = 2 are spent, $3 in all: the checkpoint has 7 steps; set more to go on");
  config.mutable_train()->set_tokens(700);
  EXPECT_EQ(text(7), "train.tokens = 700 are done: the checkpoint has 7 steps; set more to go on");
}

TEST(Progress, ARunThatDollarsEndHasNoLastStep) {
  Line line;
  line.steps = 0;
  EXPECT_THAT(line.Text(), testing::StartsWith("step 120 | loss"));
  EXPECT_EQ(StepOf(120, 300), "120/300");
}

TEST(PhaseShares, AreOfTheirSum) {
  PhaseTimer::Seconds phases{};
  EXPECT_EQ(PhaseShares(phases), "");
  phases[static_cast<size_t>(Phase::kForward)] = 1;
  phases[static_cast<size_t>(Phase::kHead)] = 0.01;  // a crumb
  phases[static_cast<size_t>(Phase::kValidation)] = 3;
  EXPECT_EQ(PhaseShares(phases), "forward 25% validation 75%");
  const Interval interval{.steps = 1, .tokens = 1, .exchanged = {}, .seconds = 1, .phases = phases};
  EXPECT_THAT(ProgressLine({}, 1, 0, {}, {}, interval, {}), testing::EndsWith(" | forward 25% validation 75%"));
}

}  // namespace
}  // namespace jevons
