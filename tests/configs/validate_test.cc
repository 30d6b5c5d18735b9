#include "configs/validate.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <cmath>
#include <limits>

#include "configs/nearest.h"
#include "configs/overrides.h"
#include "configs/stages.h"
#include "kernels/base/status.h"
#include "tests/configs/presets.h"

namespace jevons {
namespace {

using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::Message;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// The violations of small_cpu with overrides, as lines.
std::vector<std::string> Lines(const std::vector<std::string>& overrides, int world_size = 4) {
  std::vector<std::string> lines;
  for (const Violation& violation : Validate(Preset("small_cpu", overrides), world_size)) {
    lines.push_back(violation.ToString());
  }
  return lines;
}

void ExpectOnly(const std::vector<std::string>& overrides, const std::string& line, int world_size = 4) {
  EXPECT_THAT(Lines(overrides, world_size), ::testing::ElementsAre(line));
}

TEST(Validate, BadStepRules) {
  ExpectOnly({"train.bad_step.spike_window=1"}, "train.bad_step.spike_window = 1: must be from 2 to 1000000; nearest legal: 2");
  ExpectOnly({"train.bad_step.spike_sigmas=-1"}, "train.bad_step.spike_sigmas = -1: must be from 0 to 1e+06; nearest legal: 0");
  ExpectOnly({"train.bad_step.most_in_a_row=-1"},
             "train.bad_step.most_in_a_row = -1: must be from 0 to 1000000; nearest legal: 0");
  ExpectOnly({"train.verify_replicas=-1"}, "train.verify_replicas = -1: must be from 0 to 10000000000; nearest legal: 0");
  EXPECT_THAT(Lines({"train.bad_step.policy=REPLAY", "train.bad_step.spike_sigmas=6", "train.bad_step.most_in_a_row=0",
                     "train.verify_replicas=1"}),
              IsEmpty());
}

TEST(Validate, ExpertRules) {
  ExpectOnly({"model.moe.routed_experts=7"},
             "model.moe.routed_experts = 7: must be divisible by model.moe.groups = 4; nearest legal: 8");
  ExpectOnly({"model.moe.routed_experts=4096", "parallel.backend=CUDA"},
             "model.moe.routed_experts = 4096: must be at most 3072 with parallel.backend = CUDA, whose kernels sort rows by "
             "expert in shared "
             "memory; nearest legal: 3072");
  ExpectOnly({"model.moe.routed_experts=33"},
             "model.moe.routed_experts = 33: must be divisible by model.moe.groups = 4; nearest legal: 32");
  ExpectOnly({"model.moe.kept_groups=5"}, "model.moe.kept_groups = 5: must be at most model.moe.groups = 4; nearest legal: 4");
  ExpectOnly({"model.moe.top_k=17"},
             "model.moe.top_k = 17: must be at most 16, the experts in model.moe.kept_groups = 2 groups of "
             "8; nearest legal: 16");
  EXPECT_THAT(Lines({"model.moe.top_k=3"}), IsEmpty());
  EXPECT_THAT(Lines({"model.moe.groups=1", "model.moe.kept_groups=1", "model.moe.top_k=3"}), IsEmpty());
  EXPECT_THAT(Lines({"model.moe.shared_experts=0"}), IsEmpty());
}

TEST(Validate, WhatIsPricedHasAName) {
  ExpectOnly({"cost.device="},
             "cost.device = \"\": must name what is priced; nearest legal: leave it out, or a name such as \"H800\"");
  EXPECT_THAT(Lines({"cost.device=H800"}), IsEmpty());
}

TEST(Validate, StepsTokensOrDollarsEndARun) {
  const RunConfig preset = Preset("small_cpu", {});
  const auto lines = [&](const std::vector<std::string>& overrides) {
    RunConfig config = preset;
    config.mutable_train()->clear_steps();
    for (const std::string& assignment : overrides) EXPECT_TRUE(ApplyOverride(assignment, config).ok()) << assignment;
    std::vector<std::string> lines;
    for (const Violation& violation : Validate(config, 4)) lines.push_back(violation.ToString());
    return lines;
  };
  EXPECT_THAT(lines({}), ::testing::ElementsAre("train.steps = not set: must be from 1 to 10000000000"));
  EXPECT_THAT(lines({"train.tokens=1e9"}), IsEmpty());
  EXPECT_THAT(lines({"train.tokens=1e9", "train.steps=0"}), Contains(HasSubstr("train.steps = 0: must be from 1")));
  EXPECT_THAT(lines({"train.dollars=3", "cost.price_per_device_hour=0.05"}), IsEmpty());
  const std::string rule = ": must be positive where train.dollars ends the run";
  EXPECT_THAT(lines({"train.dollars=3"}), ::testing::ElementsAre("cost.price_per_device_hour = not set" + rule));
  EXPECT_THAT(lines({"train.dollars=3", "parallel.backend=CUDA"}), IsEmpty()) << "a GPU has a price";
  EXPECT_THAT(lines({"train.dollars=3", "parallel.backend=CUDA", "cost.price_per_device_hour=0"}),
              ::testing::ElementsAre("cost.price_per_device_hour = 0" + rule));
}

TEST(Validate, AReferenceSpeedNeedsAPeakThatIsGiven) {
  EXPECT_THAT(Lines({"cost.reference_mfu=0.4", "cost.peak_tflops=1"}), IsEmpty());
  EXPECT_THAT(Lines({"cost.reference_mfu=0.4"}),
              Contains(HasSubstr("cost.peak_tflops = 0: must be positive where cost.reference_mfu is set")));
  EXPECT_THAT(Lines({"cost.reference_mfu=1.5", "cost.peak_tflops=1"}),
              Contains(HasSubstr("cost.reference_mfu = 1.5: must be from 0 to 1")));
}

TEST(Validate, DenseModelsNeedNoExpertsAndMoeModelsNoDenseWidth) {
  EXPECT_THAT(Lines({"model.dense_layers=8", "model.mtp.depth=0", "model.moe="}), IsEmpty());
  EXPECT_THAT(Lines({"model.dense_layers=8", "model.moe="}), Contains(HasSubstr("model.moe.routed_experts = not set")));
  EXPECT_THAT(Lines({"model.dense_layers=0", "model.dense_intermediate_size=0"}), IsEmpty());
  ExpectOnly({"model.dense_intermediate_size=0"},
             "model.dense_intermediate_size = 0: must be from 1 to 1048576; nearest legal: 1");
  ExpectOnly({"model.dense_layers=8", "model.mtp.depth=0", "model.moe=", "parallel.ep=2"},
             "parallel.ep = 2: must be 1 in a model without experts; nearest legal: 1");
}

TEST(Validate, ModelRules) {
  ExpectOnly({"model.dense_layers=9"}, "model.dense_layers = 9: must be at most model.layers = 8; nearest legal: 8");
  ExpectOnly({"model.attention.rope_dim=31"},
             "model.attention.rope_dim = 31: must be even: it is made of pairs; nearest legal: 32");
  ExpectOnly({"model.vocab_size=1"}, "model.vocab_size = 1: must be 0 (the data's) or at least 2; nearest legal: 2");
  ExpectOnly({"data.sequence_length=1"}, "model.mtp.depth = 1: must be less than data.sequence_length = 1; nearest legal: 0");
  EXPECT_THAT(Lines({"data.sequence_length=1", "model.mtp.depth=0"}), IsEmpty());
  EXPECT_THAT(Lines({"model.attention.yarn.beta_fast=1"}), IsEmpty());  // as Kimi-K2 has them: no blend
  ExpectOnly({"model.attention.yarn.beta_fast=0.5"},
             "model.attention.yarn.beta_fast = 0.5: must be at least model.attention.yarn.beta_slow = 1; "
             "nearest legal: 1");
}

TEST(Validate, RankRules) {
  ExpectOnly({"parallel.ep=4"}, "parallel.ep = 4: must divide the 6 ranks of this run; nearest legal: 3", 6);
  ExpectOnly({"parallel.ep=64"}, "parallel.ep = 64: must be at most model.moe.routed_experts = 32; nearest legal: 32", 64);
  EXPECT_THAT(Lines({"parallel.ep=16"}, 0), IsEmpty());  // ranks not known
  EXPECT_THAT(Lines({"parallel.ep=3"}, 6), IsEmpty());
  EXPECT_THAT(Lines({"parallel.pp=3"}), Contains(HasSubstr("parallel.pp = 3: must divide the")));
}

TEST(Validate, BatchRules) {
  ExpectOnly({"train.batch_sequences=6"},
             "train.micro_batch_sequences = 4: must divide train.batch_sequences = 6; nearest legal: 3");
  EXPECT_THAT(Lines({"train.batch_sequences=12"}, 7), IsEmpty());  // ranks need not divide the batch
  ExpectOnly({"train.batch_ramp_start=5", "train.batch_ramp_tokens=1"},
             "train.batch_ramp_start = 5: must be at most train.batch_sequences = 4; nearest legal: 4");
  ExpectOnly({"train.batch_ramp_start=2"}, "train.batch_ramp_tokens = 0: must be positive where train.batch_ramp_start is set");
  ExpectOnly({"train.batch_ramp_tokens=2"},
             "train.batch_ramp_tokens = 2: must be 0 where train.batch_ramp_start is 0, no ramp; nearest legal: 0");
}

TEST(Validate, ScheduleRules) {
  const std::string rate = "optimizer.learning_rate.";
  ExpectOnly({rate + "final=2e-3"}, rate + "final = 0.002: must be at most " + rate + "peak = 0.001; nearest legal: 0.001");
  ExpectOnly({rate + "decay_tokens=0"}, rate + "final = 0.0001: must be 0 where " + rate +
                                            "decay_tokens and decay_fraction are 0, no decay; nearest legal: 0");
  ExpectOnly({rate + "tail={tokens: 5 value: 0}"},
             rate +
                 "tail[0].tokens = 5: must not come before the end of the decay, constant_tokens + decay_tokens; "
                 "nearest legal: 2.048e+06");
  ExpectOnly({"balance.bias_speed=[{tokens: 5 value: 0}, {tokens: 5 value: 0}]"},
             "balance.bias_speed[1].tokens = 5: must be greater than the stage's before it, 5");
  ExpectOnly({"balance.mtp_weight={tokens: 5}"}, "balance.mtp_weight[0].value = not set: must be from 0 to 10");
  EXPECT_THAT(Lines({"balance.bias_speed={tokens: nan value: inf}"}), ::testing::SizeIs(2));
}

TEST(Validate, DataRules) {
  ExpectOnly({"data.mixture[0].weight=0.5"}, "data.mixture[0].prefix = not set: must name PREFIX.bin and PREFIX.idx");
  ExpectOnly({"data.mixture={prefix: 'a' weight: -1}"}, "data.mixture[0].weight = -1: must be from 0 to 1e+09; nearest legal: 0");
}

TEST(Validate, StagesObeyTheRulesOfARun) {
  const std::string stage = "train.stage=[{from_step: 100 ";
  EXPECT_THAT(Lines({stage + "sequence_length: 1024 batch_sequences: 4 yarn { factor: 4 original_length: 256 }}]"}),
              ::testing::IsEmpty());
  ExpectOnly({stage + "sequence_length: 0}]"},
             "train.stage[0].sequence_length = 0: must be from 1 to 16000000; nearest legal: 1");
  ExpectOnly({stage + "batch_sequences: 3}]"},
             "train.stage[0].micro_batch_sequences = 4: must divide train.batch_sequences = 3; nearest legal: 3");
  ExpectOnly({stage + "yarn { beta_fast: 0.5 }}]"},
             "train.stage[0].yarn.beta_fast = 0.5: must be at least model.attention.yarn.beta_slow = 1; nearest legal: 1");
  ExpectOnly({stage + "learning_rate { peak: 11 }}]"},
             "train.stage[0].learning_rate.peak = 11: must be from 0 to 10; nearest legal: 10");
  ExpectOnly({stage + "from_tokens: 5}]"}, "train.stage[0] = from_step and from_tokens: must begin at one of the two");
  ExpectOnly({"train.stage=[{sequence_length: 512}]"},
             "train.stage[0] = neither from_step nor from_tokens: must begin at one of the two");
  ExpectOnly({"train.stage=[{from_step: 100}, {from_step: 100}]"},
             "train.stage[1].from_step = 100: must be greater than that of the stage before it, 100");
  ExpectOnly({"train.stage=[{from_tokens: 1e6}, {from_tokens: 1e5}]"},
             "train.stage[1].from_tokens = 100000: must be greater than that of the stage before it, 1e+06");
  ExpectOnly({stage + "mixture { prefix: 'long' }}]", "data.mixture=[{prefix: 'short'}]"},
             "train.stage[0].mixture[0].prefix = \"long\": must be one of data.mixture, whose weight may be 0 before");
  ExpectOnly({"model.norm_eps=2", stage + "sequence_length: 512}]"},
             "model.norm_eps = 2: must be from 1e-20 to 1; nearest legal: 1");
}

TEST(Stages, HoldInThoseAfterThemAndInAResolvedText) {
  const RunConfig config = Preset("quickstart_cpu", {"data.mixture=[{prefix: 'a'}, {prefix: 'b' weight: 0}]",
                                                     "train.batch_ramp_start=2", "train.batch_ramp_tokens=1e5",
                                                     "train.stage=[{from_step: 9 sequence_length: 1024 yarn { factor: 4 "
                                                     "original_length: 256 } mixture { prefix: 'b' weight: 3 }}, "
                                                     "{from_tokens: 1e6 batch_sequences: 4 learning_rate { peak: 1e-4 }}]"});
  const RunConfig again = *ParseRunConfig(ResolvedText(config), "resolved", {});
  EXPECT_EQ(ResolvedText(again), ResolvedText(config));
  for (const RunConfig& each : {config, again}) {
    const std::vector<RunConfig> stages = StageConfigs(each);
    ASSERT_EQ(stages.size(), 3u);
    EXPECT_EQ(stages[0].data().sequence_length(), 256);
    EXPECT_EQ(stages[0].model().attention().yarn().factor(), 1);
    EXPECT_EQ(stages[1].data().sequence_length(), 1024);
    EXPECT_EQ(stages[1].train().batch_ramp_start(), 2) << "no batch is set: the ramp goes on";
    EXPECT_EQ(stages[1].data().mixture(0).weight(), 0);
    EXPECT_EQ(stages[1].data().mixture(1).weight(), 3);
    EXPECT_EQ(stages[1].optimizer().learning_rate().peak(), 3e-3);
    EXPECT_EQ(stages[2].data().sequence_length(), 1024);
    EXPECT_EQ(stages[2].model().attention().yarn().factor(), 4) << "not what a resolved text fills in";
    EXPECT_EQ(stages[2].train().batch_sequences(), 4);
    EXPECT_EQ(stages[2].train().batch_ramp_start(), 0);
    EXPECT_EQ(stages[2].optimizer().learning_rate().peak(), 1e-4);
  }
}

TEST(Validate, SizesThatWouldOverflowAreRefused) {
  ExpectOnly({"data.sequence_length=16000000", "train.micro_batch_sequences=1000", "train.batch_sequences=1000"},
             "train.micro_batch_sequences = 1000: times data.sequence_length = 16000000 must be at most 268435456 "
             "tokens; "
             "nearest legal: 16");
  EXPECT_THAT(Lines({"model.layers=1024", "model.hidden_size=131072", "model.moe.routed_experts=8192",
                     "model.moe.intermediate_size=131072"}),
              Contains(HasSubstr("the parameters must be at most")));
  EXPECT_THAT(Lines({"train.steps=10000000000", "train.batch_sequences=1000000", "data.sequence_length=1000000",
                     "train.micro_batch_sequences=1"}),
              Contains(HasSubstr("train.steps = 10000000000: times the tokens of a step")));
}

TEST(Validate, AnEmptyConfigListsWhatMustBeSet) {
  const absl::Status status = ValidationStatus(RunConfig(), 1);
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage);
  for (const char* field :
       {"model.hidden_size", "model.layers", "model.dense_intermediate_size", "model.attention.heads", "model.attention.kv_rank",
        "model.attention.nope_dim", "model.attention.rope_dim", "model.attention.value_dim", "data.sequence_length",
        "train.steps", "train.batch_sequences", "optimizer.learning_rate.peak"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(field) + " = not set: must be from "));
  }
}

TEST(Validate, AllViolationsComeAtOnce) {
  EXPECT_THAT(Lines({"model.layers=0", "model.norm_eps=nan", "model.moe.routed_experts=7", "train.steps=-1", "parallel.pp=0",
                     "checkpoint.keep=0", "data.fim_rate=1.5"}),
              ::testing::SizeIs(7));
}

// Every number of a run has a range: an absurd value is refused by name, wherever it stands.
void ExpectAllGuarded(const google::protobuf::Descriptor& type, const std::string& prefix) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const std::string path = prefix + field.name();
    if (field.message_type() != nullptr) {
      ExpectAllGuarded(*field.message_type(), path + (field.is_repeated() ? "[0]." : "."));
      continue;
    }
    std::vector<std::string> absurd;
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_INT64) absurd = {"9223372036854775807", "-9223372036854775808"};
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) absurd = {"nan", "inf", "-inf", "1e300", "-1"};
    for (const std::string& value : absurd) {
      EXPECT_THAT(Lines({path + "=" + value}), Contains(HasSubstr(path + " = "))) << path << " = " << value;
    }
  }
}
TEST(Validate, EveryNumberHasARange) { ExpectAllGuarded(*RunConfig::descriptor(), ""); }

}  // namespace
}  // namespace jevons
