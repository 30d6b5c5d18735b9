#include "data/validation.h"

#include "data/packing.h"
#include "gmock/gmock.h"
#include "tests/data/test_data.h"

namespace jevons {
namespace {

using ::testing::ElementsAre;

TEST(ValidationTest, PredictsEveryTokenButTheFirstOnce) {
  const TempFolder folder;
  std::mt19937_64 random(41);
  for (int trial = 0; trial < 30; ++trial) {
    Documents documents = NumberedDocuments(1 + static_cast<int64_t>(random() % 9), 12, random());
    documents.push_back({900'000, 900'001});
    WriteDataset(folder / "set", documents);
    const std::vector<int32_t> all = Join(documents);
    const auto seq_len = 1 + static_cast<size_t>(random() % 20);
    const auto set = ValidationSet::Open(folder / "set", static_cast<int64_t>(seq_len), kTestVocab);
    ASSERT_TRUE(set.ok()) << set.status();
    std::vector<int32_t> tokens(seq_len + 1), inputs(seq_len), labels(seq_len), predicted;
    for (int64_t index = 0; index < set->samples(); ++index) {
      ASSERT_TRUE(set->Read(index, tokens, {}).ok());
      SplitInputsAndLabels(tokens, inputs, labels);
      for (size_t i = 0; i < seq_len; ++i) {
        ASSERT_GE(inputs[i], 0);
        if (labels[i] < 0) continue;
        ASSERT_EQ(inputs[i], all[predicted.size()]);
        predicted.push_back(labels[i]);
      }
      ASSERT_GE(labels[0], 0) << "a sample without a label";
    }
    ASSERT_EQ(predicted, std::vector(all.begin() + 1, all.end()));
    ASSERT_EQ(static_cast<int64_t>(predicted.size()), set->labels());
  }
}

TEST(ValidationTest, PadsTheLastSampleAndMarksDocuments) {
  const TempFolder folder;
  WriteDataset(folder / "set", {{1, 2}, {}, {3}, {4, 5, 6}, {}});
  const auto set = ValidationSet::Open(folder / "set", 4, kTestVocab);
  ASSERT_TRUE(set.ok());
  EXPECT_EQ(set->samples(), 2);
  std::vector<int32_t> tokens(5), starts(4);
  ASSERT_TRUE(set->Read(0, tokens, starts).ok());
  EXPECT_THAT(tokens, ElementsAre(1, 2, 3, 4, 5));
  EXPECT_THAT(starts, ElementsAre(0, 0, 2, 3));
  ASSERT_TRUE(set->Read(1, tokens, starts).ok());
  EXPECT_THAT(tokens, ElementsAre(5, 6, -1, -1, -1));
  EXPECT_THAT(starts, ElementsAre(0, 0, 2, 2)) << "the empty last document begins where the tokens end";
}

TEST(ValidationTest, SpreadsSamplesEvenlyOverTheSet) {
  const TempFolder folder;
  WriteDataset(folder / "set", {std::vector<int32_t>(101, 3)});
  const auto set = ValidationSet::Open(folder / "set", 10, kTestVocab);
  ASSERT_TRUE(set.ok());
  const auto spread = [&](int64_t count) {
    std::vector<int64_t> samples;
    for (int64_t i = 0; i < count; ++i) samples.push_back(set->SpreadSample(i, count));
    return samples;
  };
  ASSERT_EQ(set->samples(), 10);
  EXPECT_THAT(spread(1), ElementsAre(0));
  EXPECT_THAT(spread(2), ElementsAre(0, 5));
  EXPECT_THAT(spread(4), ElementsAre(0, 2, 5, 7));
  EXPECT_THAT(spread(10), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
}

TEST(ValidationTest, RefusesWhatCannotBeEvaluated) {
  const TempFolder folder;
  WriteDataset(folder / "one", {{1}});
  EXPECT_TRUE(Fails(ValidationSet::Open(folder / "one", 4, kTestVocab).status(), ExitCode::kIntegrity, "1 tokens"));
  EXPECT_TRUE(Fails(ValidationSet::Open(folder / "one", 0, kTestVocab).status(), ExitCode::kUsage, "sequence_length is 0"));
  EXPECT_TRUE(Fails(ValidationSet::Open(folder / "no", 4, kTestVocab).status(), ExitCode::kIntegrity, "no.idx"));
}

}  // namespace
}  // namespace jevons
