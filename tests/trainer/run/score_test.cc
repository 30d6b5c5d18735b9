// `score` against the model, the scalar references and complex-step derivatives; and what it refuses.
#include "trainer/run/score.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/complex_step.h"
#include "tests/support/memory_disk.h"
#include "tests/support/model_harness.h"
#include "tests/support/reference_model.h"

namespace jevons {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Floats = std::vector<float>;

constexpr ScoreOptions kEverything{.logits = true, .gradients = true, .mtp = true};

RunConfig Config(int64_t depth) {
  RunConfig config;
  *config.mutable_model() = TinyModel();
  config.mutable_model()->mutable_mtp()->set_depth(depth);
  config.mutable_data()->set_sequence_length(4);  // shorter than most sequences here
  config.mutable_data()->set_document_mask(true);
  config.mutable_train()->set_batch_sequences(8);
  config.mutable_train()->set_micro_batch_sequences(4);
  return config;
}

void WriteFile(MemoryDisk& disk, const std::string& path, const SafetensorsSpec& spec, std::span<const std::byte> bytes) {
  auto writer = SafetensorsWriter::Create(disk, path, {spec});
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(writer->Append(bytes).ok());
  ASSERT_TRUE(writer->Finish().ok());
}

TokenTable Tokens(int64_t sequences, int64_t length, uint64_t seed = 5) {
  return {.sequences = sequences, .length = length, .ids = RandomTokens(sequences * length, TinyModel().vocab_size(), seed)};
}

// The same with a label position behind each sequence, without a label: [B, S+1].
std::vector<int32_t> Padded(const TokenTable& tokens) {
  std::vector<int32_t> padded;
  for (int64_t b = 0; b < tokens.sequences; ++b) {
    const auto row = tokens.ids.begin() + b * tokens.length;
    padded.insert(padded.end(), row, row + tokens.length);
    padded.push_back(-1);
  }
  return padded;
}

// The weights of a harness of the same model.
void CopyWeights(const ModelHarness& harness, const WeightStore& to) {
  for (size_t p = 0; p < to.specs().size(); ++p)  // a table without MTP modules is the beginning of one with them
    Copy(OpContext(), harness.weights().value(p), to.value(p));
  for (size_t i = 0; i < to.bias_names().size(); ++i) Copy(OpContext(), harness.weights().bias(i), to.bias(i));
}

class ScoreTest : public testing::Test {
 protected:
  // Scores with the weights of a harness; leaves the file's tensors in tensors_ and shapes_.
  void Score(const RunConfig& config, const TokenTable& tokens, const ScoreOptions& options) {
    RunLoopback(1, [&](Communicator& world) {
      const ModelHarness harness(config.model(), tokens.length, world);
      auto scorer = Scorer::Create(config, tokens, options, world);
      ASSERT_TRUE(scorer.ok()) << scorer.status();
      CopyWeights(harness, (*scorer)->weights());
      const absl::StatusOr<double> loss = (*scorer)->Write(disk_, "out");
      ASSERT_TRUE(loss.ok()) << loss.status();
      Load();
      EXPECT_EQ(tensors_.at("loss"), Floats{static_cast<float>(*loss)});
    });
  }

  void Load() {
    auto file = SafetensorsFile::Open(disk_, "out");
    ASSERT_TRUE(file.ok()) << file.status();
    tensors_.clear();
    for (const SafetensorsEntry& entry : file->entries()) {
      EXPECT_EQ(entry.dtype, kStF32);
      Floats& values = tensors_[entry.name];
      values.resize(static_cast<size_t>(entry.elements));
      shapes_[entry.name] = entry.shape;
      ASSERT_TRUE(file->Read(entry, 0, std::as_writable_bytes(std::span(values))).ok());
    }
  }

  // log softmax of row `row` of logits at `id`.
  double LogSoftmax(const Floats& logits, int64_t row, int32_t id) const {
    const auto V = static_cast<size_t>(TinyModel().vocab_size());
    const std::span<const float> x = std::span(logits).subspan(static_cast<size_t>(row) * V, V);
    double sum = 0;
    for (float v : x) sum += std::exp(static_cast<double>(v));
    return x[static_cast<size_t>(id)] - std::log(sum);
  }

  MemoryDisk disk_;
  std::map<std::string, Floats> tensors_;
  std::map<std::string, std::vector<int64_t>> shapes_;
};

TEST_F(ScoreTest, LogitsLogprobsAndLossAreTheModels) {
  const RunConfig config = Config(1);
  for (const auto& [B, S] : {std::pair<int64_t, int64_t>{3, 7}, {1, 2}, {2, 33}}) {
    const TokenTable tokens = Tokens(B, S);
    Score(config, tokens, {.logits = true});
    EXPECT_THAT(shapes_["logits"], ElementsAre(B, S, 23));
    EXPECT_THAT(shapes_["logprobs"], ElementsAre(B, S - 1));
    EXPECT_THAT(shapes_["loss"], ElementsAre(1));
    EXPECT_EQ(tensors_.size(), 3u);

    std::vector<int32_t> padded = Padded(tokens);
    RunLoopback(1, [&](Communicator& world) {
      ModelHarness harness(config.model(), S, world);
      const MicroBatch batch = ModelHarness::Batch(padded, B, S);
      const double sum = harness.Evaluate(batch, batch.tokens.Columns(1, S));
      EXPECT_NEAR(tensors_["loss"][0], sum / static_cast<double>(B * (S - 1)), 1e-6 * sum);
      const auto params = harness.Params<double>();
      const auto biases = harness.Biases();
      const std::vector<double> expected = ReferenceModel<double>(config.model(), params, biases).Logits(padded, B, S);
      for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(tensors_["logits"][i], expected[i], 3e-5) << i;
    });
    double loss = 0;
    for (int64_t b = 0; b < B; ++b)
      for (int64_t i = 0; i + 1 < S; ++i) {
        const double logprob = LogSoftmax(tensors_["logits"], b * S + i, tokens.ids[static_cast<size_t>(b * S + i + 1)]);
        ASSERT_NEAR(tensors_["logprobs"][static_cast<size_t>(b * (S - 1) + i)], logprob, 2e-6);
        loss -= logprob;
      }
    EXPECT_NEAR(tensors_["loss"][0], loss / static_cast<double>(B * (S - 1)), 2e-6);
  }
}

// The published tensors of one of ours, flat in its order, told apart by name alone.
std::vector<std::string> PublishedNames(const std::string& name, int64_t experts) {
  const auto replaced = [&](absl::string_view end, const std::string& by) {
    return name.substr(0, name.size() - end.size()) + by;
  };
  const absl::string_view stacked_in = "experts.gate_up_proj.weight", stacked_out = "experts.down_proj.weight";
  std::vector<std::string> names;
  const bool routed = absl::StrContains(name, "mlp.experts.");
  for (int64_t e = 0; routed && e < experts; ++e) {
    if (absl::EndsWith(name, stacked_in))
      for (const char* part : {"gate_proj", "up_proj"})
        names.push_back(replaced(stacked_in, absl::StrCat("experts.", e, ".", part, ".weight")));
    else
      names.push_back(replaced(stacked_out, absl::StrCat("experts.", e, ".down_proj.weight")));
  }
  if (routed) return names;
  if (absl::EndsWith(name, "gate_up_proj.weight"))
    return {replaced("gate_up_proj.weight", "gate_proj.weight"), replaced("gate_up_proj.weight", "up_proj.weight")};
  return {name};
}

TEST_F(ScoreTest, GradientsAreTheLosssOfEveryParameterUnderItsPublishedName) {
  const RunConfig config = Config(1);
  const int64_t B = 3, S = 5;
  const TokenTable tokens = Tokens(B, S);
  Score(config, tokens, {.gradients = true});
  const std::vector<int32_t> padded = Padded(tokens);
  RunLoopback(1, [&](Communicator& world) {
    const ModelHarness harness(config.model(), S, world);
    auto params = harness.Params<Complex>();
    const auto biases = harness.Biases();
    ModelConfig main = config.model();
    main.mutable_mtp()->set_depth(0);
    const ReferenceModel<Complex> reference(main, params, biases);
    constexpr double kStep = 1e-40;
    for (const ParamSpec& spec : harness.weights().specs()) {
      std::vector<double> gradient;
      for (const std::string& name : PublishedNames(spec.name, config.model().moe().routed_experts())) {
        const auto found = tensors_.find("grad." + name);
        ASSERT_NE(found, tensors_.end()) << name;
        gradient.insert(gradient.end(), found->second.begin(), found->second.end());
        tensors_.erase(found);
      }
      if (spec.layer > main.layers()) {
        EXPECT_EQ(gradient, std::vector<double>(static_cast<size_t>(spec.shape.size()), 0.0)) << spec.name;
        continue;
      }
      std::vector<double> exact;
      for (Complex& value : params[spec.name]) {
        value.imag(kStep);
        exact.push_back(reference.Loss(padded, B, S).main.imag() / kStep / static_cast<double>(B * (S - 1)));
        value.imag(0);
      }
      ExpectGradient(spec.name, gradient, exact, 3e-5);
    }
  });
  EXPECT_EQ(tensors_.size(), 2u) << "loss and logprobs, and nothing else";
  EXPECT_THAT(shapes_["grad.model.layers.1.mlp.experts.7.up_proj.weight"], ElementsAre(5, 10));
  EXPECT_THAT(shapes_["grad.model.norm.weight"], ElementsAre(10));
}

TEST_F(ScoreTest, MtpLogitsGiveTheMtpLoss) {
  const int64_t B = 2, S = 6;
  const TokenTable tokens = Tokens(B, S);
  std::vector<int32_t> padded = Padded(tokens);
  for (const int64_t depth : {1, 2}) {
    const RunConfig config = Config(depth);
    Score(config, tokens, {.mtp = true});
    EXPECT_EQ(tensors_.size(), 2u + static_cast<size_t>(depth));
    double loss = 0;
    for (int64_t k = 1; k <= depth; ++k) {
      const std::string name = absl::StrCat("mtp_logits.", k);
      ASSERT_THAT(shapes_[name], ElementsAre(B, S - k, 23));
      for (int64_t b = 0; b < B; ++b)
        for (int64_t i = 0; i + k + 1 < S; ++i)
          loss -= LogSoftmax(tensors_[name], b * (S - k) + i, tokens.ids[static_cast<size_t>(b * S + i + k + 1)]);
    }
    RunLoopback(1, [&](Communicator& world) {
      const ModelHarness harness(config.model(), S, world);
      const auto params = harness.Params<double>();
      const auto biases = harness.Biases();
      EXPECT_NEAR(loss, ReferenceModel<double>(config.model(), params, biases).Loss(padded, B, S).mtp, 1e-5 * loss);
    });
  }
}

TEST_F(ScoreTest, ShortestSequencesHaveAllOutputs) {
  Score(Config(1), Tokens(1, 2), kEverything);
  EXPECT_THAT(shapes_["logprobs"], ElementsAre(1, 1));
  EXPECT_THAT(shapes_["mtp_logits.1"], ElementsAre(1, 1, 23));
  EXPECT_EQ(shapes_.count("grad.lm_head.weight"), 1u);
}

TEST_F(ScoreTest, ModelWithoutExperts) {
  RunConfig config = Config(0);
  config.mutable_model()->set_dense_layers(2);
  config.mutable_model()->clear_moe();
  Score(config, Tokens(2, 5), {.logits = true, .gradients = true});
  EXPECT_EQ(shapes_.count("grad.model.layers.1.mlp.up_proj.weight"), 1u);
}

TEST_F(ScoreTest, SameBytesEveryTimeOnAnyNumberOfThreads) {
  const TokenTable tokens = Tokens(3, 19);
  std::vector<std::string> files;
  for (const int threads : {1, 1, 2}) {
    omp_set_num_threads(threads);
    Score(Config(2), tokens, kEverything);
    files.push_back(disk_.Contents("out"));
  }
  omp_set_num_threads(1);
  EXPECT_EQ(files[0], files[1]);
  EXPECT_EQ(files[0], files[2]);
}

TEST_F(ScoreTest, OneOutputDoesNotChangeAnother) {
  const TokenTable tokens = Tokens(2, 9);
  Score(Config(2), tokens, kEverything);
  const std::map<std::string, Floats> all = tensors_;
  for (const ScoreOptions& options :
       {ScoreOptions{}, ScoreOptions{.logits = true}, ScoreOptions{.gradients = true}, ScoreOptions{.mtp = true}}) {
    Score(Config(2), tokens, options);
    for (const auto& [name, values] : tensors_) EXPECT_EQ(values, all.at(name)) << name;
  }
}

TEST_F(ScoreTest, Bf16IsNearFp32) {
  const TokenTable tokens = Tokens(2, 9);
  RunConfig config = Config(1);
  Score(config, tokens, kEverything);
  const std::map<std::string, Floats> fp32 = tensors_;
  config.mutable_precision()->set_compute(BF16);
  Score(config, tokens, kEverything);
  ASSERT_EQ(tensors_.size(), fp32.size());
  EXPECT_NE(tensors_["logits"], fp32.at("logits"));
  EXPECT_NEAR(tensors_["loss"][0], fp32.at("loss")[0], 0.02 * fp32.at("loss")[0]);
  const Floats &a = tensors_["grad.lm_head.weight"], &b = fp32.at("grad.lm_head.weight");
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  EXPECT_LT(std::sqrt(difference / norm), 0.3);  // rounding may send a token to another expert
}

TEST_F(ScoreTest, NanNamesItsPlaceAndLeavesNoFile) {
  const RunConfig config = Config(1);
  const TokenTable tokens = Tokens(2, 5);
  for (const ScoreOptions& options : {ScoreOptions{}, kEverything}) {
    RunLoopback(1, [&](Communicator& world) {
      const ModelHarness harness(config.model(), tokens.length, world);
      auto scorer = Scorer::Create(config, tokens, options, world);
      ASSERT_TRUE(scorer.ok());
      CopyWeights(harness, (*scorer)->weights());
      for (size_t p = 0; p < (*scorer)->weights().specs().size(); ++p)
        if ((*scorer)->weights().specs()[p].name == "model.layers.0.mlp.down_proj.weight")
          (*scorer)->weights().value(p).as<float>()[3] = std::numeric_limits<float>::quiet_NaN();
      const absl::Status status = (*scorer)->Write(disk_, "out").status();
      EXPECT_EQ(ExitCodeOf(status), ExitCode::kNumerical);
      EXPECT_THAT(std::string(status.message()), HasSubstr("sequence 0: NaN or Inf, first seen in layer 1: input"));
      EXPECT_THAT(disk_.List("/").value(), ElementsAre());
    });
  }
}

TEST(ReadTokens, GivesWhatIsThere) {
  MemoryDisk disk;
  const std::vector<int64_t> ids = {0, 22, 3, 4, 5, 6};
  WriteFile(disk, "in", {"input_ids", kStI64, {2, 3}}, std::as_bytes(std::span(ids)));
  const auto tokens = ReadTokens(disk, "in", 23);
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(tokens->sequences, 2);
  EXPECT_EQ(tokens->length, 3);
  EXPECT_THAT(tokens->ids, ElementsAre(0, 22, 3, 4, 5, 6));
}

TEST(ReadTokens, RefusesWhatIsNoTableOfTokens) {
  MemoryDisk disk;
  const auto message = [&](const SafetensorsSpec& spec, std::vector<int64_t> ids) {
    WriteFile(disk, "in", spec, std::as_bytes(std::span(ids)).first(static_cast<size_t>(SafetensorsBytes(spec))));
    const absl::Status status = ReadTokens(disk, "in", 23).status();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
    return std::string(status.message());
  };
  EXPECT_THAT(message({"tokens", kStI64, {1, 3}}, {1, 2, 3}), HasSubstr("in: there is no tensor input_ids"));
  EXPECT_THAT(message({"input_ids", "I32", {1, 4}}, {1, 2}), HasSubstr("in: input_ids is I32 [1, 4]; it must be I64"));
  EXPECT_THAT(message({"input_ids", kStI64, {3}}, {1, 2, 3}), HasSubstr("input_ids is I64 [3]; it must be"));
  EXPECT_THAT(message({"input_ids", kStI64, {0, 3}}, {}), HasSubstr("input_ids is I64 [0, 3]; it must be"));
  EXPECT_THAT(message({"input_ids", kStI64, {3, 0}}, {}), HasSubstr("input_ids is I64 [3, 0]; it must be"));
  EXPECT_THAT(message({"input_ids", kStI64, {3, 1}}, {1, 2, 3}), HasSubstr("input_ids is I64 [3, 1]; it must be"));
  EXPECT_THAT(message({"input_ids", kStI64, {2, 2}}, {1, 2, 23, 0}), HasSubstr("in: input_ids[1, 0] = 23: it must be a token"));
  EXPECT_THAT(message({"input_ids", kStI64, {2, 2}}, {1, -1, 2, 0}), HasSubstr("in: input_ids[0, 1] = -1: it must be a token"));
  EXPECT_THAT(message({"input_ids", kStI64, {1, 2}}, {1, int64_t{1} << 32}), HasSubstr("input_ids[0, 1] = 4294967296"));
}

TEST(Scorer, RefusesWhatTheModelCannotDo) {
  RunLoopback(1, [&](Communicator& world) {
    const TokenTable tokens = Tokens(1, 2);
    const absl::Status none = Scorer::Create(Config(0), tokens, {.mtp = true}, world).status();
    EXPECT_EQ(ExitCodeOf(none), ExitCode::kUsage);
    EXPECT_THAT(std::string(none.message()), HasSubstr("--mtp: the model has no MTP module"));
    const absl::Status shorter = Scorer::Create(Config(2), tokens, {.mtp = true}, world).status();
    EXPECT_EQ(ExitCodeOf(shorter), ExitCode::kIntegrity);
    EXPECT_THAT(std::string(shorter.message()), HasSubstr("sequences of 2 tokens; MTP module 2 needs 3 or more"));
    RunConfig wide = Config(0);
    wide.mutable_model()->set_hidden_size(131072);
    const TokenTable huge{.sequences = 1, .length = 16'000'000, .ids = {}};
    EXPECT_THAT(std::string(Scorer::Create(wide, huge, {}, world).status().message()),
                HasSubstr("sequences of 16000000 tokens, whose activations need"));
  });
}

}  // namespace
}  // namespace jevons
