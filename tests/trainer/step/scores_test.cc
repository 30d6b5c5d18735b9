// Scores of single tokens: those of the model's own logits, and the same bits in every layout and in any company.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <mutex>

#include "tests/support/layout_run.h"
#include "tests/support/memory_disk.h"
#include "trainer/run/score.h"

namespace jevons {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Scores = std::vector<std::vector<TokenScore>>;
using Sequences = std::vector<TrainStep::ScoredSequence>;

RunConfig Config(ComputeType compute) {
  RunConfig config = TinyRun(8, 2);
  config.mutable_data()->set_sequence_length(70);  // more than a block of the attention's queries
  config.mutable_model()->set_vocab_size(67);
  config.mutable_precision()->set_compute(compute);
  return config;
}

// Of many lengths, some of them often; scored from their second token on, from the middle, or the last alone.
Sequences Texts(int64_t vocab) {
  Sequences sequences;
  for (uint64_t i = 0; i < 40; ++i) {
    const auto length = static_cast<int64_t>(i % 4 == 0 ? 9 : 2 + RandomBits(11, 0, i) % 70);
    std::vector<int32_t> tokens = RandomTokens(length, vocab, i);
    sequences.push_back({.tokens = std::move(tokens), .scored = i % 3 == 0 ? 1 : i % 3 == 1 ? (length + 1) / 2 : length - 1});
  }
  return sequences;
}

// On every rank the same, or the test fails.
Scores Score(RunConfig config, const RunLayout& layout, const Sequences& sequences) {
  layout.Set(*config.mutable_parallel());
  Scores scores;
  std::mutex mutex;
  RunLoopback(layout.ranks, [&](Communicator& world) {
    omp_set_num_threads(layout.threads);
    Mesh mesh(world, MeshShapeOn(config, world).value());
    TrainStep step(config, mesh);
    step.Initialize();
    int64_t told = 0;
    const auto scored = step.Score(sequences, [&](int64_t done, int64_t all) {
      EXPECT_GT(done, told);
      told = done;
      EXPECT_LE(done, all);
    });
    ASSERT_TRUE(scored.ok()) << scored.status();
    EXPECT_EQ(told, static_cast<int64_t>(sequences.size()));
    const std::lock_guard lock(mutex);
    if (scores.empty()) scores = *scored;
    EXPECT_EQ(scores, *scored);
  });
  return scores;
}

const RunLayout kOneRank{.ranks = 1, .ep = 1, .threads = 1};

class ScoresOf : public testing::TestWithParam<ComputeType> {};

TEST_P(ScoresOf, AreTheSameBitsInEveryLayout) {
  const RunConfig config = Config(GetParam());
  const Sequences sequences = Texts(config.model().vocab_size());
  const Scores expected = Score(config, kOneRank, sequences);
  for (size_t s = 0; s < sequences.size(); ++s)
    ASSERT_EQ(static_cast<int64_t>(expected[s].size()), static_cast<int64_t>(sequences[s].tokens.size()) - sequences[s].scored);
  for (const RunLayout& layout : {RunLayout{.ranks = 1, .ep = 1, .threads = 3}, RunLayout{.ranks = 4, .ep = 4, .threads = 1},
                                  RunLayout{.ranks = 8, .ep = 8, .threads = 1}, RunLayout{.ranks = 4, .ep = 2, .threads = 1},
                                  RunLayout{.ranks = 2, .ep = 1, .threads = 1, .pp = 2},
                                  RunLayout{.ranks = 4, .ep = 2, .threads = 1, .pp = 2, .schedule = ZB_H1},
                                  RunLayout{.ranks = 1, .ep = 1, .threads = 1, .schedule = DUALPIPEV},
                                  RunLayout{.ranks = 2, .ep = 1, .threads = 1, .pp = 2, .schedule = DUALPIPE},
                                  RunLayout{.ranks = 4, .ep = 4, .threads = 1, .nodes = 2}}) {
    SCOPED_TRACE(testing::Message() << layout.ranks << " ranks, ep " << layout.ep << ", pp " << layout.pp);
    EXPECT_EQ(Score(config, layout, sequences), expected);
  }
}

TEST_P(ScoresOf, DoNotDependOnWhatElseIsScored) {
  const RunConfig config = Config(GetParam());
  const Sequences sequences = Texts(config.model().vocab_size());
  const Scores expected = Score(config, kOneRank, sequences);
  const RunLayout two{.ranks = 2, .ep = 2, .threads = 1};
  Sequences turned(sequences.rbegin(), sequences.rend());
  turned.insert(turned.begin(), sequences.begin(), sequences.begin() + 7);
  const Scores among_others = Score(config, two, turned);
  for (size_t s = 0; s < sequences.size(); ++s) EXPECT_EQ(among_others[turned.size() - 1 - s], expected[s]) << s;
  for (const size_t s : {0, 1, 5, 39}) EXPECT_EQ(Score(config, two, {sequences[s]}), Scores{expected[s]}) << s;
  Sequences whole = sequences;
  for (auto& sequence : whole) sequence.scored = 1;
  const Scores of_all = Score(config, kOneRank, whole);
  for (size_t s = 0; s < sequences.size(); ++s)
    EXPECT_TRUE(std::equal(expected[s].rbegin(), expected[s].rend(), of_all[s].rbegin())) << s;
}

INSTANTIATE_TEST_SUITE_P(Types, ScoresOf, testing::Values(FP32, BF16),
                         [](const auto& info) { return ComputeType_Name(info.param); });

// What a Scorer, which runs the model itself, finds for the same weights.
TEST(Scores, AreThoseOfTheLogits) {
  RunConfig config = Config(FP32);
  config.mutable_model()->mutable_mtp()->set_depth(0);
  const int64_t S = 41, V = config.model().vocab_size();
  const TokenTable table{.sequences = 5, .length = S, .ids = RandomTokens(5 * S, V, 3)};
  MemoryDisk disk;
  RunLoopback(1, [&](Communicator& world) {
    Mesh mesh(world, {.world = 1, .pp = 1, .ep = 1});
    TrainStep step(config, mesh);
    step.Initialize();
    auto scorer = Scorer::Create(config, table, {.logits = true}, world);
    ASSERT_TRUE(scorer.ok()) << scorer.status();
    for (size_t p = 0; p < step.weights().specs().size(); ++p)
      Copy(OpContext(), step.weights().value(p), (*scorer)->weights().value(p));
    for (size_t i = 0; i < step.weights().bias_names().size(); ++i)
      Copy(OpContext(), step.weights().bias(i), (*scorer)->weights().bias(i));
    ASSERT_TRUE((*scorer)->Write(disk, "looked").ok());
    const auto scores = step.Score(SequencesOf(table));
    ASSERT_TRUE(scores.ok());
    const auto loss = WriteLogprobs(disk, "scored", table, *scores);
    ASSERT_TRUE(loss.ok()) << loss.status();
    const auto read = [&](const char* file, const char* name) {
      auto opened = SafetensorsFile::Open(disk, file);
      const SafetensorsEntry& entry = *opened->Find(name);
      std::vector<float> values(static_cast<size_t>(entry.elements));
      EXPECT_TRUE(opened->Read(entry, 0, std::as_writable_bytes(std::span(values))).ok());
      return values;
    };
    EXPECT_EQ(read("scored", "logprobs"), read("looked", "logprobs"));
    EXPECT_EQ(read("scored", "loss"), read("looked", "loss"));
    const std::vector<float> logits = read("looked", "logits");
    int64_t likeliest = 0;
    for (int64_t b = 0; b < 5; ++b)
      for (int64_t t = 0; t + 1 < S; ++t) {
        const auto row = logits.begin() + (b * S + t) * V;
        const bool expected = std::max_element(row, row + V) - row == table.ids[static_cast<size_t>(b * S + t + 1)];
        EXPECT_EQ((*scores)[static_cast<size_t>(b)][static_cast<size_t>(t)].likeliest, expected);
        likeliest += expected;
      }
    EXPECT_GT(likeliest, 0);
  });
}

TEST(Scores, NanIsNamed) {
  RunConfig config = Config(FP32);
  const RunLayout layout{.ranks = 4, .ep = 2, .threads = 1, .pp = 2};
  layout.Set(*config.mutable_parallel());
  const Sequences sequences = {{.tokens = {1, 2, 3}}, {.tokens = {4, 5, 6, 7}}, {.tokens = {1, 2}}, {.tokens = {5, 1, 3}}};
  RunLoopback(layout.ranks, [&](Communicator& world) {
    omp_set_num_threads(1);
    Mesh mesh(world, MeshShapeOn(config, world).value());
    TrainStep step(config, mesh);
    step.Initialize();
    const WeightStore& weights = step.weights();
    for (size_t p = 0; p < weights.specs().size(); ++p)  // of token 5
      if (weights.specs()[p].part == ModelPart::kEmbedding && weights.holds(p))
        weights.value(p).row<float>(5)[0] = std::numeric_limits<float>::quiet_NaN();
    const absl::Status status = step.Score(sequences).status();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kNumerical);
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("sequence 1: NaN or Inf"), HasSubstr("layer 0: ")));
  });
}

}  // namespace
}  // namespace jevons
