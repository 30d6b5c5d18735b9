#include "configs/load.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "configs/nearest.h"
#include "kernels/base/status.h"
#include "tests/configs/presets.h"
#include "tests/support/temp_folder.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

std::string ErrorOf(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const absl::StatusOr<RunConfig> config = ParseRunConfig(text, "run.textproto", overrides);
  if (config.ok()) return "";
  EXPECT_EQ(ExitCodeOf(config.status()), ExitCode::kUsage);
  return std::string(config.status().message());
}

TEST(Load, ReadsFieldsOfEveryType) {
  const auto config = ParseRunConfig(
      "model { layers: 8 norm_eps: 1e-5 moe { normalize_weights: false } }  # a comment\n"
      "data { path: \"/tmp/x\" seed: 18446744073709551615 mixture { prefix: \"a\" } mixture { prefix: \"b\" "
      "weight: 2 } }\n"
      "precision { compute: BF16 }",
      "text", {});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model().layers(), 8);
  EXPECT_EQ(config->model().norm_eps(), 1e-5);
  EXPECT_FALSE(config->model().moe().normalize_weights());
  EXPECT_EQ(config->data().path(), "/tmp/x");
  EXPECT_EQ(config->data().seed(), 18446744073709551615u);
  EXPECT_EQ(config->data().mixture(1).weight(), 2);
  EXPECT_EQ(config->precision().compute(), BF16);
}

TEST(Load, UnknownFieldsAreErrorsAllAtOnceWithTheNearestName) {
  EXPECT_EQ(ErrorOf("model {\n  layer: 8\n  moe { routed_expert: 4 }\n}\ntrain { qqqqqq: 1 }\n"),
            "run.textproto:2:8: ModelConfig has no field \"layer\"; did you mean \"layers\"?\n"
            "run.textproto:3:22: MoeConfig has no field \"routed_expert\"; did you mean \"routed_experts\"?\n"
            "run.textproto:5:15: TrainConfig has no field \"qqqqqq\"; legal: steps, tokens, dollars, batch_sequences, "
            "micro_batch_sequences, batch_ramp_start, batch_ramp_tokens, seed, eval_interval, eval_sequences, "
            "recompute_up_projections, recompute_stages, bad_step, verify_replicas, verify_products, verify_state, stage");
}

TEST(Load, AFieldInTheWrongMessageIsSentHome) {
  EXPECT_THAT(ErrorOf("model { top_k: 4 }"), HasSubstr("ModelConfig has no field \"top_k\"; it belongs to model.moe"));
}

TEST(Load, WrongTypesAndSyntaxNamePlaceAndField) {
  EXPECT_THAT(ErrorOf("model {\n  layers: eight\n}"), HasSubstr("run.textproto:2:11: field layers: "));
  EXPECT_THAT(ErrorOf("model { layers: 1.5 }"), HasSubstr("field layers: "));
  EXPECT_THAT(ErrorOf("model { layers: 99999999999999999999 }"), HasSubstr("field layers: "));
  EXPECT_THAT(ErrorOf("precision { compute: FP16 }"), HasSubstr("compute has no value \"FP16\"; did you mean \"FP32\"?"));
  EXPECT_THAT(ErrorOf("model { layers: 1 layers: 2 }"), HasSubstr("run.textproto:1:"));
  EXPECT_THAT(ErrorOf("model { layers: 1"), HasSubstr("run.textproto:1:"));
  EXPECT_THAT(ErrorOf("\x01\x02\xff"), HasSubstr("run.textproto:1:"));
}

TEST(Load, DeepNestingIsRefusedAndNotFollowed) {
  std::string text;
  for (int i = 0; i < 100000; ++i) text += "x{";
  EXPECT_NE(ErrorOf(text), "");
}

TEST(Load, FileAndOverrideErrorsComeTogether) {
  const std::string error = ErrorOf("model { layer: 8 }", {"train.step=1", "model.hidden_size=x"});
  EXPECT_THAT(error, HasSubstr("did you mean \"layers\"?"));
  EXPECT_THAT(error, HasSubstr("did you mean \"train.steps\"?"));
  EXPECT_THAT(error, HasSubstr("hidden_size = \"x\" is not a whole number"));
}

TEST(Load, BadFilesAreUsageErrorsThatNameThem) {
  const TempFolder temporary;
  const std::string& folder = temporary.path();
  std::ofstream(folder + "/large.textproto") << std::string((1 << 20) + 1, '#');
  for (const std::string& path : {folder, folder + "/none.textproto", folder + "/large.textproto"}) {
    const absl::StatusOr<RunConfig> config = LoadRunConfig(path, {});
    ASSERT_FALSE(config.ok()) << path;
    EXPECT_EQ(ExitCodeOf(config.status()), ExitCode::kUsage);
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(path));
  }
}

TEST(ResolvedText, ShowsDefaultsAndRoundTrips) {
  for (const char* preset : {"quickstart_cpu", "small_cpu", "deepseek_v2_lite_16b", "deepseek_v3_671b"}) {
    const std::string text = ResolvedText(Preset(preset));
    EXPECT_THAT(text, HasSubstr("watchdog_seconds: 300"));
    EXPECT_THAT(text, HasSubstr("compute: "));
    const auto again = ParseRunConfig(text, "resolved", {});
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(ResolvedText(*again), text) << preset;
  }
}

TEST(ResolvedText, KeepsEveryBitOfANumber) {
  RunConfig config;
  config.mutable_optimizer()->mutable_learning_rate()->set_peak(0.1 + 0.2);
  const auto again = ParseRunConfig(ResolvedText(config), "resolved", {});
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->optimizer().learning_rate().peak(), 0.1 + 0.2);
  EXPECT_FALSE(again->model().has_layers());  // nobody set it, and it has no default
}

TEST(Nearest, EditDistance) {
  EXPECT_EQ(EditDistance("", ""), 0);
  EXPECT_EQ(EditDistance("abc", ""), 3);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
  EXPECT_EQ(EditDistance("layer", "layers"), 1);
}

TEST(Nearest, FarNamesAreNotOffered) {
  const std::vector<std::string> names = {"layers", "hidden_size"};
  EXPECT_EQ(NearestName("layres", names), "layers");
  EXPECT_EQ(NearestName("qqqqqqq", names), "");
  EXPECT_EQ(NearestName(std::string(1 << 20, 'l'), names), "");
}

}  // namespace
}  // namespace jevons
