#include "configs/overrides.h"

#include <gmock/gmock.h>

#include "configs/load.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

RunConfig Applied(const std::vector<std::string>& assignments) {
  RunConfig config;
  for (const std::string& assignment : assignments) {
    const absl::Status status = ApplyOverride(assignment, config);
    EXPECT_TRUE(status.ok()) << assignment << ": " << status;
  }
  return config;
}

// The message of the refusal; the config must be as it was before.
std::string Refused(const std::string& assignment) {
  RunConfig config;
  config.mutable_model()->set_layers(3);
  config.mutable_data()->add_mixture()->set_prefix("a");
  const std::string before = config.SerializeAsString();
  const absl::Status status = ApplyOverride(assignment, config);
  EXPECT_FALSE(status.ok()) << assignment;
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage);
  EXPECT_EQ(config.SerializeAsString(), before) << assignment;
  return std::string(status.message());
}

TEST(Override, SetsValuesOfEveryType) {
  const RunConfig config = Applied({"model.layers=8", "model.moe.normalize_weights=false", "data.seed=18446744073709551615",
                                    "optimizer.learning_rate.peak=2.2e-4", "data.path=/tmp/a=b c", "precision.compute=BF16"});
  EXPECT_EQ(config.model().layers(), 8);
  EXPECT_FALSE(config.model().moe().normalize_weights());
  EXPECT_EQ(config.data().seed(), 18446744073709551615u);
  EXPECT_EQ(config.optimizer().learning_rate().peak(), 2.2e-4);
  EXPECT_EQ(config.data().path(), "/tmp/a=b c");
  EXPECT_EQ(config.precision().compute(), BF16);
}

TEST(Override, TheLastOneWins) { EXPECT_EQ(Applied({"model.layers=8", "model.layers=9"}).model().layers(), 9); }

TEST(Override, ListsByIndexAndPastTheEnd) {
  const RunConfig config = Applied(
      {"data.mixture[0].prefix=a", "data.mixture[1].prefix=b", "data.mixture[1].weight=0.5", "data.mixture[0]={prefix: 'c'}"});
  ASSERT_EQ(config.data().mixture_size(), 2);
  EXPECT_EQ(config.data().mixture(0).prefix(), "c");
  EXPECT_EQ(config.data().mixture(1).weight(), 0.5);
}

TEST(Override, WholeListsAndMessagesInTextFormat) {
  RunConfig config = Applied({"balance.bias_speed=[{tokens: 0 value: 0.001}, {tokens: 1e9 value: 0}]", "model.mtp={depth: 2}"});
  ASSERT_EQ(config.balance().bias_speed_size(), 2);
  EXPECT_EQ(config.balance().bias_speed(1).tokens(), 1e9);
  EXPECT_EQ(config.model().mtp().depth(), 2);
  ASSERT_TRUE(ApplyOverride("balance.bias_speed={tokens: 0 value: 0.01}", config).ok());  // replaces, does not append
  EXPECT_EQ(config.balance().bias_speed_size(), 1);
  ASSERT_TRUE(ApplyOverride("balance.bias_speed=", config).ok());
  EXPECT_EQ(config.balance().bias_speed_size(), 0);
}

TEST(Override, RefusalsNameThePathAndTheNearestLegalOne) {
  EXPECT_EQ(Refused("model.moe.routed_expert=7"),
            "--set model.moe.routed_expert=7: MoeConfig has no field \"routed_expert\"; did you mean "
            "\"model.moe.routed_experts\"?");
  EXPECT_THAT(Refused("layers=7"), HasSubstr("did you mean \"model.layers\"?"));
  EXPECT_THAT(Refused("modl.layers=7"), HasSubstr("did you mean \"model.layers\"?"));
  EXPECT_THAT(Refused("qqqq=7"), HasSubstr("legal: model, data, train"));
  EXPECT_THAT(Refused("precision.compute=bf16"), HasSubstr("compute has no value \"bf16\""));
  EXPECT_THAT(Refused("precision.compute=FP23"), HasSubstr("did you mean \"FP32\"?"));
  EXPECT_THAT(Refused("data.mixture[3].prefix=x"), HasSubstr("the nearest index is 1"));
  EXPECT_THAT(Refused("data.mixture.prefix=x"), HasSubstr("mixture[0]"));
  EXPECT_THAT(Refused("model[0].layers=1"), HasSubstr("model is no list"));
  EXPECT_THAT(Refused("model.layers.x=1"), HasSubstr("layers is a value"));
}

TEST(Override, RefusesWhatIsNotAnAssignmentOrAValue) {
  for (const char* bad : {"",
                          "=",
                          "=3",
                          "model.layers",
                          "model.layers=",
                          "model.layers=1.5",
                          "model.layers=x",
                          "model.layers=99999999999999999999",
                          "data.seed=-1",
                          "model.norm_eps=abc",
                          "data.document_mask=2",
                          "model.layers=3 hidden_size: 4",
                          "model={layers: 3} data {seed: 2}",
                          "data.mixture[0]=",
                          "data.mixture[0]={prefix: 'a'} mixture {prefix: 'b'}",
                          "model.mtp={dept: 1}",
                          "model.mtp=3",
                          "data.mixture[-1].prefix=a",
                          "data.mixture[x].prefix=a",
                          "data.mixture[0.prefix=a",
                          ".=1",
                          "model.=1",
                          "model..layers=1",
                          "data.mixture[99999999999].prefix=a",
                          "[=1",
                          "]=1",
                          "a[]=1",
                          "[0]=1"}) {
    EXPECT_THAT(Refused(bad), HasSubstr("--set ")) << bad;
  }
}

}  // namespace
}  // namespace jevons
