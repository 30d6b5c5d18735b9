// Validation in whole runs and of a step: which samples, what it costs, and what stops it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <limits>
#include <map>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "data/index/indexed_dataset.h"
#include "tests/support/train_run.h"
#include "tests/support/trials.h"
#include "trainer/metrics/jsonl.h"

namespace jevons {
namespace {

using testing::HasSubstr;

// Weights that train but validate as NaN: nothing of that step is kept, and the checkpoints before it stay.
TEST_F(TrainTest, NaNInValidationStopsBeforeTheCommit) {
  config_.mutable_checkpoint()->set_interval(1);
  config_.mutable_checkpoint()->set_keep(2);
  config_.mutable_train()->set_steps(2);
  ASSERT_TRUE(TrainOn(2, 2, Folder("run")).ok());
  config_.mutable_train()->set_steps(3);
  // A rate that ruins the weights in the step after which the run validates; its own loss is of the weights before. (A larger one
  // overflows in the norms, whose output is then zero.)
  config_.mutable_optimizer()->mutable_learning_rate()->set_peak(1e18);
  RunSummary summary;
  const absl::Status status = TrainOn(2, 2, Folder("run"), nullptr, &summary);
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kNumerical) << status;
  const std::string message(status.message());
  EXPECT_THAT(message, HasSubstr("validation after step 3"));
  EXPECT_THAT(message, HasSubstr("sequence 0: NaN or Inf, first seen in layer "));
  EXPECT_THAT(message, HasSubstr("The same command goes on from step 2"));
  EXPECT_EQ(CommittedSteps(PosixFileSystem(), Folder("run") + "/checkpoints").value(), (std::vector<int64_t>{1, 2}));
  std::ifstream file(Folder("run") + "/metrics.jsonl");
  const std::string record{std::istreambuf_iterator<char>(file), {}};
  EXPECT_THAT(record, HasSubstr("\"validation/loss\":null"));
}

// Three validation samples in micro-batches of two: the last one is half full.
TEST_F(TrainTest, ValidatesWithADocumentMaskAndAPartialMicroBatch) {
  config_.mutable_data()->set_document_mask(true);
  config_.mutable_train()->set_micro_batch_sequences(2);
  config_.mutable_train()->set_batch_ramp_start(0);
  config_.mutable_train()->set_batch_ramp_tokens(0);
  config_.mutable_train()->set_batch_sequences(6);
  config_.mutable_train()->set_eval_sequences(3);
  config_.mutable_train()->set_steps(2);
  RunSummary one, three;
  ASSERT_TRUE(TrainOn(1, 1, Folder("one"), nullptr, &one).ok());
  ASSERT_TRUE(TrainOn(3, 3, Folder("three"), nullptr, &three).ok());
  EXPECT_GT(one.last_validation, 0);
  EXPECT_EQ(one.last_validation, three.last_validation);
  EXPECT_EQ(Hash(Folder("one")), Hash(Folder("three")));
}

// Of four samples, two: the first and the third. A set of these alone has the same loss.
TEST_F(TrainTest, ValidatesOnSamplesFromTheWholeSet) {
  const int64_t S = config_.data().sequence_length();
  std::vector<int32_t> all = RandomTokens(4 * S + 1, 200, 3);
  const auto sample = [&](int64_t i) { return all.begin() + i * S; };
  *sample(1) = *sample(2);  // the last label of the first sample, in either set
  std::vector<int32_t> two(sample(0), sample(1));
  two.insert(two.end(), sample(2), sample(3) + 1);
  const auto write = [&](const std::string& name, const std::vector<int32_t>& tokens) {
    auto writer = IndexedDatasetWriter::Create(folder_ / name, 280);
    ASSERT_TRUE(writer.ok() && writer->AddDocument(tokens).ok() && writer->Finish().ok());
  };
  write("all", all);
  write("two", two);
  config_.mutable_model()->set_vocab_size(320);
  std::map<std::string, double> losses;
  for (const int ranks : {1, 2}) {
    RunLoopback(ranks, [&](Communicator& world) {
      Mesh mesh(world, {.world = ranks, .pp = 1, .ep = 1});
      TrainStep step(config_, mesh);
      step.Initialize();
      for (const auto& [name, count] : {std::pair("all", 2), std::pair("two", 2), std::pair("all", 4)}) {
        const auto set = ValidationSet::Open(folder_ / name, S, 320);
        ASSERT_TRUE(set.ok()) << set.status();
        const auto result = step.Evaluate(*set, count);
        ASSERT_TRUE(result.ok()) << result.status();
        EXPECT_EQ(result->tokens, count * S);
        if (world.rank() == 0) losses[absl::StrCat(ranks, name, count)] = result->loss;
      }
    });
  }
  EXPECT_EQ(losses["1all2"], losses["1two2"]);
  EXPECT_NE(losses["1all2"], losses["1all4"]);
  for (const char* of : {"all2", "two2", "all4"}) EXPECT_EQ(losses[absl::StrCat(1, of)], losses[absl::StrCat(2, of)]) << of;
}

// The sequence that NaN comes from is told by its place in the set, not among those that were taken.
TEST_F(TrainTest, NaNIsFoundInTheSequenceOfTheSet) {
  const int64_t S = config_.data().sequence_length();
  constexpr int32_t kToken = 250;  // in sample 2 alone
  std::vector<int32_t> tokens = RandomTokens(4 * S + 1, 200, 3);
  tokens[static_cast<size_t>(2 * S + 1)] = kToken;
  auto writer = IndexedDatasetWriter::Create(folder_ / "set", 280);
  ASSERT_TRUE(writer.ok() && writer->AddDocument(tokens).ok() && writer->Finish().ok());
  config_.mutable_model()->set_vocab_size(320);
  config_.mutable_train()->set_micro_batch_sequences(1);
  for (const int ranks : {1, 2}) {
    RunLoopback(ranks, [&](Communicator& world) {
      Mesh mesh(world, {.world = ranks, .pp = 1, .ep = 1});
      TrainStep step(config_, mesh);
      step.Initialize();
      for (size_t p = 0; p < step.weights().specs().size(); ++p)
        if (step.weights().specs()[p].part == ModelPart::kEmbedding)
          step.weights().value(p).row<float>(kToken)[0] = std::numeric_limits<float>::quiet_NaN();
      const auto set = ValidationSet::Open(folder_ / "set", S, 320);
      ASSERT_TRUE(set.ok()) << set.status();
      const auto result = step.Evaluate(*set, 2);
      EXPECT_EQ(ExitCodeOf(result.status()), ExitCode::kNumerical) << result.status();
      EXPECT_THAT(std::string(result.status().message()), HasSubstr("sequence 2: NaN or Inf, first seen in"));
    });
  }
}

// A validation far longer than a step is none of the step's seconds.
TEST_F(TrainTest, ValidationIsAPhaseOfItsOwn) {
  config_.mutable_train()->set_eval_interval(1);
  config_.mutable_train()->set_eval_sequences(1000);
  RunSummary summary;
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(TrainOn(1, 1, Folder("run"), nullptr, &summary).ok());
  const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::ifstream file(Folder("run") + "/metrics.jsonl");
  double validation = 0, all = 0;
  int validations = 0;
  for (std::string line; std::getline(file, line);) {
    const auto record = FromJsonLine(line + "\n");
    ASSERT_TRUE(record.has_value()) << line;
    std::map<std::string, double> values(record->values.begin(), record->values.end());
    for (const auto& [name, value] : values)
      if (name.rfind("seconds/", 0) == 0) all += value;
    if (values.count("validation/loss") > 0) {
      ++validations;
      EXPECT_GT(values["seconds/validation"], 0);
      validation += values["seconds/validation"];
      continue;
    }
    EXPECT_EQ(values.count("seconds/validation"), 0u);
    double step = 0;
    for (const char* phase : {"data", "forward", "backward", "wgrad", "head", "dispatch", "reduce", "optimizer"})
      step += values[absl::StrCat("seconds/", phase)];
    const double tokens = values["sequences"] * static_cast<double>(config_.data().sequence_length());
    EXPECT_GT(step, 0);
    EXPECT_LE(step, tokens / values["tokens_per_second"]) << "step " << record->step;
  }
  EXPECT_EQ(validations, 7);
  EXPECT_LE(all, wall);
  EXPECT_DOUBLE_EQ(summary.phases[static_cast<size_t>(Phase::kValidation)], validation);
  EXPECT_GT(summary.phases[static_cast<size_t>(Phase::kCheckpoint)], 0);
  EXPECT_LE(std::accumulate(summary.phases.begin(), summary.phases.end(), 0.0), wall);
}

TEST_F(TrainTest, TrainsWithoutAValidationSet) {
  fs::remove(folder_ / "data" / "validation.idx");
  fs::remove(folder_ / "data" / "validation.bin");
  fs::remove(folder_ / "data" / "dataset.json");
  config_.mutable_train()->set_eval_interval(2);
  RunSummary summary;
  ASSERT_TRUE(TrainOn(2, 2, Folder("run"), nullptr, &summary).ok());
  EXPECT_EQ(summary.first_validation, 0);
}

}  // namespace
}  // namespace jevons
