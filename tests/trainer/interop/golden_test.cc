// Models and numbers that transformers and torch made (tests/golden/interop), against import, score and AdamW.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/match.h"
#include "configs/load.h"
#include "kernels/ops/adamw.h"
#include "parallel/comm/loopback.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/interop/import.h"
#include "trainer/run/score.h"
#include "trainer/run/state.h"

namespace jevons {
namespace {

const std::string kGolden = SourcePath("tests/golden/interop/");

std::vector<float> Floats(SafetensorsFile& file, const std::string& name) {
  const SafetensorsEntry* entry = file.Find(name);
  EXPECT_NE(entry, nullptr) << name;
  if (entry == nullptr) return {};
  EXPECT_EQ(entry->dtype, kStF32) << name;
  std::vector<float> values(static_cast<size_t>(entry->elements));
  EXPECT_TRUE(file.Read(*entry, 0, std::as_writable_bytes(std::span(values))).ok());
  return values;
}

SafetensorsFile Open(const std::string& path) {
  auto file = SafetensorsFile::Open(PosixFileSystem(), path);
  JEVONS_CHECK(file.ok(), "%s", std::string(file.status().message()).c_str());
  return *std::move(file);
}

// The largest difference relative to the range of the expected values.
double RangeError(const std::vector<float>& actual, const std::vector<float>& expected) {
  EXPECT_EQ(actual.size(), expected.size());
  const auto [low, high] = std::minmax_element(expected.begin(), expected.end());
  double error = 0;
  for (size_t i = 0; i < expected.size(); ++i) error = std::max(error, std::abs(double{actual[i]} - expected[i]));
  return error / (double{*high} - *low);
}

double NormError(const std::vector<float>& actual, const std::vector<float>& expected) {
  EXPECT_EQ(actual.size(), expected.size());
  double error = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    error += std::pow(double{actual[i]} - expected[i], 2);
    norm += std::pow(double{expected[i]}, 2);
  }
  return norm == 0 ? std::sqrt(error) : std::sqrt(error / norm);
}

absl::Status Score(const std::string& checkpoint, const std::string& tokens_path, const std::string& output, bool mtp,
                   Communicator& world) {
  FileSystem& files = PosixFileSystem();
  JEVONS_ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(files, checkpoint));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig config, ParseRunConfig(reader.config_text(), "config", {}));
  JEVONS_ASSIGN_OR_RETURN(const TokenTable tokens, ReadTokens(files, tokens_path, config.model().vocab_size()));
  JEVONS_ASSIGN_OR_RETURN(const auto scorer,
                          Scorer::Create(config, tokens, {.logits = true, .gradients = true, .mtp = mtp}, world));
  JEVONS_RETURN_IF_ERROR(LoadWeights(reader, scorer->weights()));
  return scorer->Write(files, output).status();
}

class Transformers : public testing::TestWithParam<const char*> {};

TEST_P(Transformers, LogitsLossGradientsAndMtp) {
  const TempFolder folder;
  const std::string from = kGolden + GetParam(), run = folder.path() + "/run", scores = folder.path() + "/scores.safetensors";
  const auto report = ImportCheckpoint(PosixFileSystem(), from + "/model", run);
  ASSERT_TRUE(report.ok()) << report.status();
  SafetensorsFile expected = Open(from + "/expected.safetensors");
  absl::Status scored;
  RunLoopback(1, [&](Communicator& world) {
    scored = Score(run + "/checkpoints/step-00000000", from + "/tokens.safetensors", scores,
                   expected.Find("mtp_logits.1") != nullptr, world);
  });
  ASSERT_TRUE(scored.ok()) << scored;
  SafetensorsFile actual = Open(scores);

  int gradients = 0;
  for (const SafetensorsEntry& entry : expected.entries()) {
    ASSERT_NE(actual.Find(entry.name), nullptr) << entry.name;
    EXPECT_EQ(actual.Find(entry.name)->shape, entry.shape) << entry.name;
    const std::vector<float> ours = Floats(actual, entry.name), theirs = Floats(expected, entry.name);
    if (absl::StartsWith(entry.name, "grad.")) {
      EXPECT_LT(NormError(ours, theirs), 1e-5) << entry.name;
      ++gradients;
    } else if (entry.name == "loss") {
      EXPECT_NEAR(ours[0], theirs[0], 1e-6 * theirs[0]);
    } else {
      EXPECT_LT(RangeError(ours, theirs), 1e-5) << entry.name;
    }
  }
  EXPECT_GT(gradients, 20);
  // Nothing more either, but for the gradients of MTP modules, on which the loss does not depend.
  for (const SafetensorsEntry& entry : actual.entries()) {
    if (expected.Find(entry.name) != nullptr || entry.name == "logprobs") continue;
    EXPECT_TRUE(absl::StartsWith(entry.name, "grad.model.layers.")) << entry.name;
    for (const float value : Floats(actual, entry.name)) ASSERT_EQ(value, 0) << entry.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, Transformers, testing::Values("grouped_mtp", "yarn_bf16_shards", "bare_experts", "fp8_blocks"),
                         [](const auto& info) { return std::string(info.param); });

std::vector<double> Doubles(SafetensorsFile& file, const std::string& name) {
  const SafetensorsEntry* entry = file.Find(name);
  EXPECT_NE(entry, nullptr) << name;
  std::vector<double> values(static_cast<size_t>(entry->elements));
  EXPECT_EQ(entry->dtype, "F64");
  EXPECT_TRUE(file.Read(*entry, 0, std::as_writable_bytes(std::span(values))).ok());
  return values;
}

// 20 steps against torch.optim.AdamW in FP64; torch's own FP32 says how near FP32 can come.
TEST(Torch, AdamW) {
  SafetensorsFile golden = Open(kGolden + "adamw.safetensors");
  const std::vector<float> start = Floats(golden, "start"), gradients = Floats(golden, "gradients");
  const std::vector<double> settings = Doubles(golden, "lr_beta1_beta2_eps");
  const auto n = static_cast<int64_t>(start.size()), steps = static_cast<int64_t>(gradients.size()) / n;
  ASSERT_EQ(steps, 20);
  for (const auto& [decay, name] : {std::pair{0.1f, "after.decay_0.1."}, std::pair{0.0f, "after.decay_0.0."}}) {
    const std::vector<double> exact = Doubles(golden, std::string(name) + "f64");
    const std::vector<float> torch = Floats(golden, std::string(name) + "f32");
    std::vector<float> master = start, m(start.size()), v(start.size()), gradient(start.size());
    double ours = 0, theirs = 0;
    for (int64_t t = 1; t <= steps; ++t) {
      std::copy_n(gradients.begin() + (t - 1) * n, n, gradient.begin());
      const AdamWSlice slice = {.master = Tensor::Of(master.data(), {n}),
                                .grad = Tensor::Of(gradient.data(), {n}),
                                .m = Tensor::Of(m.data(), {n}),
                                .v = Tensor::Of(v.data(), {n}),
                                .compute = {},
                                .decay = decay};
      AdamW({},
            {.learning_rate = static_cast<float>(settings[0]),
             .beta1 = static_cast<float>(settings[1]),
             .beta2 = static_cast<float>(settings[2]),
             .eps = static_cast<float>(settings[3]),
             .step = t},
            {&slice, 1});
      for (int64_t i = 0; i < n; ++i) {
        const auto at = static_cast<size_t>((t - 1) * n + i);
        ours = std::max(ours, std::abs(master[static_cast<size_t>(i)] - exact[at]));
        theirs = std::max(theirs, std::abs(torch[at] - exact[at]));
      }
    }
    EXPECT_GT(theirs, 0);
    EXPECT_LT(ours, 2 * theirs) << name;
  }
}

}  // namespace
}  // namespace jevons
