#include "data/tokenizer/trainer.h"

#include <map>
#include <random>

#include "data/tokenizer/byte_alphabet.h"
#include "gmock/gmock.h"
#include "kernels/base/status.h"
#include "tests/data/tokenizer/tiny_tokenizer.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

// The definition: recount all pairs, merge the most frequent one everywhere, the smaller pair of ids on ties.
std::vector<Merge> MergesByDefinition(const WordCounts& counts, int64_t vocab_size) {
  const Tokenizer base = *TrainTokenizer({}, {.vocab_size = kMinVocabSize});
  std::vector<std::pair<std::vector<int32_t>, int64_t>> words;
  for (const auto& [word, count] : counts) words.emplace_back(base.Encode(word), count);
  std::vector<std::string> tokens = base.parts().vocabulary;
  std::map<std::string, int32_t> ids;
  for (size_t id = 6; id < tokens.size(); ++id) ids[tokens[id]] = static_cast<int32_t>(id);
  std::vector<Merge> merges;
  while (static_cast<int64_t>(tokens.size()) < vocab_size) {
    std::map<std::pair<int32_t, int32_t>, int64_t> pairs;
    for (const auto& [symbols, count] : words) {
      for (size_t i = 0; i + 1 < symbols.size(); ++i) pairs[{symbols[i], symbols[i + 1]}] += count;
    }
    auto best = pairs.begin();
    for (auto pair = pairs.begin(); pair != pairs.end(); ++pair) {
      if (pair->second > best->second) best = pair;
    }
    if (best == pairs.end() || best->second < 2) break;
    const auto [left, right] = best->first;
    const auto [entry, is_new] = ids.try_emplace(tokens[left] + tokens[right], tokens.size());
    const Merge merge{left, right, entry->second};
    if (is_new) tokens.push_back(entry->first);
    if (std::find(merges.begin(), merges.end(), merge) == merges.end()) merges.push_back(merge);
    for (auto& [symbols, count] : words) {
      for (size_t i = 0; i + 1 < symbols.size(); ++i) {
        if (symbols[i] != left || symbols[i + 1] != right) continue;
        symbols[i] = merge.result;
        symbols.erase(symbols.begin() + i + 1);
      }
    }
  }
  return merges;
}

TEST(TrainerTest, FollowsTheDefinition) {
  std::mt19937_64 random(4);
  for (int trial = 0; trial < 60; ++trial) {
    WordCounts counts;
    const int letters = 2 + static_cast<int>(random() % 4);
    for (int i = 0; i < 30; ++i) {
      std::string word(1 + random() % 14, 'a');
      for (char& c : word) c = static_cast<char>('a' + random() % letters);
      counts[word] += 1 + static_cast<int64_t>(random() % 5);
    }
    const auto trained = TrainTokenizer(counts, {.vocab_size = 320});
    ASSERT_TRUE(trained.ok()) << trained.status();
    ASSERT_EQ(trained->parts().merges, MergesByDefinition(counts, 320)) << "trial " << trial;
  }
}

// In long words only the places of a pair are visited: runs of one letter, and tokens of several lengths, meet there.
TEST(TrainerTest, LongWordsFollowTheDefinition) {
  std::mt19937_64 random(6);
  for (int trial = 0; trial < 8; ++trial) {
    WordCounts counts;
    for (int i = 0; i < 6; ++i) {
      std::string word(i < 3 ? 500 + random() % 900 : 2 + random() % 9, 'a');
      const uint64_t letters = 1 + trial % 4;
      for (char& c : word) c = static_cast<char>('a' + random() % letters);
      if (trial >= 4) word.replace(word.size() / 2, 1, std::string(random() % 40, 'a'));
      counts[word] += 1 + static_cast<int64_t>(random() % 3);
    }
    const auto trained = TrainTokenizer(counts, {.vocab_size = 340});
    ASSERT_TRUE(trained.ok()) << trained.status();
    ASSERT_EQ(trained->parts().merges, MergesByDefinition(counts, 340)) << "trial " << trial;
  }
}

TEST(TrainerTest, LaysOutTheVocabulary) {
  const Tokenizer tokenizer = TinyTokenizer();
  EXPECT_EQ(tokenizer.vocab_size(), 320);
  EXPECT_EQ(tokenizer.TokenBytes(0), kBosToken);
  EXPECT_EQ(tokenizer.bos_id(), 0);
  EXPECT_EQ(tokenizer.eos_id(), 1);
  EXPECT_EQ(tokenizer.pad_id(), 2);
  ASSERT_TRUE(tokenizer.fim_ids().has_value());
  EXPECT_EQ(tokenizer.fim_ids()->begin, 3);
  EXPECT_EQ(tokenizer.fim_ids()->hole, 4);
  EXPECT_EQ(tokenizer.fim_ids()->end, 5);
  EXPECT_EQ(tokenizer.TokenBytes(6), "!");
  EXPECT_EQ(tokenizer.TokenBytes(261), "\xAD");  // the last character of the alphabet
  EXPECT_EQ(tokenizer.TokenBytes(262), "th");    // 30 times in the text, more than any other pair
  EXPECT_EQ(tokenizer.parts().merges.size(), 320 - kMinVocabSize);
}

TEST(TrainerTest, DoesNotDependOnThreads) {
  std::mt19937_64 random(5);
  WordCounts counts;
  for (int i = 0; i < 100000; ++i) {  // enough words that the blocks are several, for many of the merges
    std::string word(2 + random() % 6, ' ');
    for (char& c : word) c = static_cast<char>('a' + std::min(random() % 20, random() % 20));
    counts[word] += 1 + static_cast<int64_t>(random() % 3);
  }
  const auto one = TrainTokenizer(counts, {.vocab_size = 700, .threads = 1});
  ASSERT_TRUE(one.ok());
  for (const int threads : {2, 4}) {
    const auto many = TrainTokenizer(counts, {.vocab_size = 700, .threads = threads});
    ASSERT_TRUE(many.ok());
    ASSERT_EQ(many->ToJson(), one->ToJson()) << threads << " threads";
  }
}

TEST(TrainerTest, DoesNotDependOnTheOrderOfCounting) {
  const absl::string_view halves[] = {kGenesis.substr(0, kGenesis.find('\n') + 1), kGenesis.substr(kGenesis.find('\n') + 1)};
  WordCounter forward(Pretokenizer::DeepSeekV3()), a(Pretokenizer::DeepSeekV3()), b(Pretokenizer::DeepSeekV3());
  for (const auto half : halves) forward.Add(half);
  a.Add(halves[1]);
  b.Add(halves[0]);
  a.Absorb(b);
  EXPECT_EQ(a.counts(), forward.counts());
  EXPECT_TRUE(b.counts().empty());
}

TEST(TrainerTest, StopsWhereNoPairOccursTwice) {
  WordCounts counts;
  counts["abab"] = 1;
  const auto tokenizer = TrainTokenizer(counts, {.vocab_size = 1000});
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_EQ(tokenizer->vocab_size(), kMinVocabSize + 1);  // "ab"; ("ab", "ab") occurs once
}

TEST(TrainerTest, RefusesTooSmallAVocabulary) {
  for (const int64_t size : {int64_t{-1}, int64_t{0}, kMinVocabSize - 1, int64_t{1} << 31}) {
    const absl::Status status = TrainTokenizer({}, {.vocab_size = size}).status();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage);
    EXPECT_THAT(std::string(status.message()), HasSubstr("at least 262"));
  }
}

TEST(TrainerTest, TellsItsProgress) {
  WordCounts counts;
  counts["abcabc"] = 5;
  std::vector<int64_t> progress;
  ASSERT_TRUE(TrainTokenizer(counts, {.vocab_size = 264, .on_progress = [&](int64_t n) { progress.push_back(n); }}).ok());
  EXPECT_EQ(progress, (std::vector<int64_t>{263, 264}));
}

}  // namespace
}  // namespace jevons
