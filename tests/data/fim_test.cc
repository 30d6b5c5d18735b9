#include "data/fim.h"

#include <algorithm>
#include <numeric>

#include "tests/data/test_data.h"

namespace jevons {
namespace {

constexpr FimTokens kSpecial{.begin = 900'001, .hole = 900'002, .end = 900'003, .eos = 900'000};

// What `rearranged` was made from; fails the test if it is not <begin> prefix <hole> suffix <end> middle
// [eos].
std::vector<int32_t> Undo(std::vector<int32_t> rearranged) {
  const auto hole = std::find(rearranged.begin(), rearranged.end(), kSpecial.hole);
  const auto end = std::find(rearranged.begin(), rearranged.end(), kSpecial.end);
  if (rearranged.front() != kSpecial.begin || end == rearranged.end() || hole > end) {
    ADD_FAILURE() << "not in PSM order";
    return {};
  }
  const bool has_eos = rearranged.back() == kSpecial.eos;
  std::vector<int32_t> document(rearranged.begin() + 1, hole);
  document.insert(document.end(), end + 1, rearranged.end() - has_eos);
  document.insert(document.end(), hole + 1, end);
  if (has_eos) document.push_back(kSpecial.eos);
  return document;
}

class FimTest : public ::testing::Test {
 protected:
  // Document d: d tokens, an eos behind them where `with_eos`.
  void Make(bool with_eos) {
    documents_.clear();
    for (int32_t length = 0; length < 40; ++length) {
      documents_.emplace_back(static_cast<size_t>(length));
      std::iota(documents_.back().begin(), documents_.back().end(), 100 * length);
      if (with_eos) documents_.back().push_back(kSpecial.eos);
    }
    WriteDataset(folder_ / "set", documents_);
    dataset_.emplace(*IndexedDataset::Open(folder_ / "set", kTestVocab));
  }

  std::vector<int32_t> Rearranged(int64_t document, uint64_t key) {
    const auto fim = FimDocument::Open(*dataset_, document, key, kSpecial);
    EXPECT_TRUE(fim.ok()) << fim.status();
    std::vector<int32_t> tokens(documents_[static_cast<size_t>(document)].size() + kFimExtraTokens);
    EXPECT_TRUE(fim->Read(0, tokens).ok());
    return tokens;
  }

  const TempFolder folder_;
  Documents documents_;
  std::optional<IndexedDataset> dataset_;
};

TEST_F(FimTest, CanBeUndone) {
  for (const bool with_eos : {true, false}) {
    Make(with_eos);
    for (int64_t document = 0; document < dataset_->documents(); ++document) {
      for (uint64_t key = 0; key < 50; ++key) {
        ASSERT_EQ(Undo(Rearranged(document, key)), documents_[static_cast<size_t>(document)]) << document;
      }
    }
  }
}

TEST_F(FimTest, AnyPartReadsLikeTheWhole) {
  Make(true);
  for (const int64_t document : {1, 2, 17}) {
    const std::vector<int32_t> whole = Rearranged(document, 3);
    const auto fim = FimDocument::Open(*dataset_, document, 3, kSpecial);
    for (size_t from = 0; from <= whole.size(); ++from) {
      for (size_t count = 0; from + count <= whole.size(); ++count) {
        std::vector<int32_t> part(count);
        ASSERT_TRUE(fim->Read(static_cast<int64_t>(from), part).ok());
        ASSERT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + static_cast<ptrdiff_t>(from)));
      }
    }
  }
}

TEST_F(FimTest, CutsAreUniform) {
  Make(true);
  constexpr int kKeys = 20000, kLength = 9;  // ten gaps, the ends included
  std::vector<int> first(kLength + 1), second(kLength + 1);
  for (uint64_t key = 0; key < kKeys; ++key) {
    const std::vector<int32_t> tokens = Rearranged(kLength, key);
    const auto hole = std::find(tokens.begin(), tokens.end(), kSpecial.hole) - tokens.begin() - 1;
    const auto end = std::find(tokens.begin(), tokens.end(), kSpecial.end) - tokens.begin() - 2;
    ++first[static_cast<size_t>(hole)];
    ++second[static_cast<size_t>(hole + kLength - end)];
  }
  for (int gap = 0; gap <= kLength; ++gap) {  // each cut is the smaller or the larger of two uniform draws
    const auto index = static_cast<size_t>(gap);
    EXPECT_NEAR(first[index] + second[index], 2 * kKeys / 10, 300) << gap;
    EXPECT_NEAR(first[index], kKeys * (2 * (kLength - gap) + 1) / 100, 300) << gap;
  }
}

}  // namespace
}  // namespace jevons
