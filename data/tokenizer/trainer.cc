#include "data/tokenizer/trainer.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_format.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/byte_alphabet.h"
#include "data/tokenizer/parallel.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

constexpr absl::string_view kSpecialTokens[] = {kBosToken, kEosToken, kPadToken, kFimBeginToken, kFimHoleToken, kFimEndToken};
constexpr int64_t kMinCount = 2;                                  // a pair seen once teaches nothing
constexpr uint32_t kLongWord = 512;                               // bytes
constexpr int32_t kInside = std::numeric_limits<int32_t>::min();  // of a token, in a long word
constexpr int64_t kMinBlock = 16 << 10;  // words a thread: starting one costs as much as some thousand words

// Invariants between merges:
// 1. pairs_[p].count is the number of times that p occurs in the words, each weighted by its count.
// 2. pairs_[p].words names every word in which p occurs, pairs_[p].places every place in long words (and perhaps some where it no longer does).
//    A word is gone through at each merge; a text without blanks is one of millions of bytes, so in long ones only the places are visited.
// 3. In a long word each token lies where its first byte was, and the last of several bytes is minus their number; those between are negative.
// 4. The queue has an entry for every pair at a count not below its present one; a stale one sinks when it
//    comes up.
class BpeTrainer {
 public:
  BpeTrainer(const WordCounts& counts, const BpeTrainingOptions& options) : options_(options) {
    AddBaseTokens();
    AddWords(counts);
    CountPairs();
  }

  TokenizerParts Run() {
    while (static_cast<int64_t>(parts_.vocabulary.size()) < options_.vocab_size && !queue_.empty()) {
      const Entry best = queue_.top();
      queue_.pop();
      const auto found = pairs_.find(best.key);
      if (found == pairs_.end()) continue;
      if (found->second.count < best.count) {
        Enqueue(best.key, found->second.count);
        continue;
      }
      std::vector<uint32_t> words = std::move(found->second.words), places = std::move(found->second.places);
      pairs_.erase(found);
      std::sort(words.begin(), words.end());  // each word once: no two threads may write to it
      words.erase(std::unique(words.begin(), words.end()), words.end());
      std::sort(places.begin(), places.end());  // from the left, as in a word that is gone through
      MergePair(static_cast<int32_t>(best.key >> 32), static_cast<int32_t>(best.key), words, places);
      options_.on_progress(static_cast<int64_t>(parts_.vocabulary.size()));
    }
    return std::move(parts_);
  }

 private:
  struct Word {
    size_t begin;   // its tokens are symbols_[begin, begin + size)
    uint32_t size;  // shrinks as its tokens merge
    int64_t count;
  };
  struct LongWord {
    size_t begin, end;  // in symbols_
    int64_t count;
  };
  struct Pair {
    int64_t count = 0;
    std::vector<uint32_t> words, places;  // places: in symbols_, of the first token
  };
  using Pairs = absl::flat_hash_map<uint64_t, Pair>;
  struct Change {
    uint64_t key;
    int64_t delta;
    uint32_t at;  // a word, or a place in a long one
    bool is_place = false;
  };
  struct Entry {
    int64_t count;
    uint64_t key;
    // The queue's top is the greatest: the highest count, then the smallest pair.
    bool operator<(const Entry& other) const { return count != other.count ? count < other.count : key > other.key; }
  };

  void AddBaseTokens() {
    for (const absl::string_view name : kSpecialTokens) {
      parts_.added.push_back({static_cast<int32_t>(parts_.vocabulary.size()), std::string(name)});
      parts_.vocabulary.emplace_back(name);
    }
    for (const uint8_t byte : BytesInAlphabetOrder()) {
      const int32_t id = static_cast<int32_t>(parts_.vocabulary.size());
      byte_ids_[byte] = id;
      parts_.vocabulary.emplace_back(1, static_cast<char>(byte));
      ids_[parts_.vocabulary.back()] = id;
    }
  }

  void AddWords(const WordCounts& counts) {
    words_.reserve(counts.size());
    for (const auto& [word, count] : counts) {
      if (word.size() < 2) continue;
      const size_t begin = symbols_.size(), end = begin + word.size();
      if (word.size() >= kLongWord && end <= std::numeric_limits<uint32_t>::max())
        long_words_.push_back({begin, end, count});
      else
        words_.push_back({begin, static_cast<uint32_t>(word.size()), count});
      for (const char byte : word) symbols_.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
    }
  }

  void CountPairs() {
    const int64_t n = static_cast<int64_t>(words_.size());
    const int blocks = BlockCount(n, kMinBlock, options_.threads);
    std::vector<Pairs> parts(blocks);
    ForEachBlock(n, blocks, [&](int block, Range range) {
      for (int64_t w = range.begin; w < range.end; ++w) {
        const Word& word = words_[w];
        for (size_t i = word.begin; i + 1 < word.begin + word.size; ++i) {
          Add({PairKey(symbols_[i], symbols_[i + 1]), word.count, static_cast<uint32_t>(w)}, parts[block]);
        }
      }
    });
    pairs_ = std::move(parts[0]);
    for (int block = 1; block < blocks; ++block) {
      for (const auto& [key, part] : parts[block]) {
        Pair& pair = pairs_[key];
        pair.count += part.count;
        pair.words.insert(pair.words.end(), part.words.begin(), part.words.end());
      }
    }
    for (const LongWord& word : long_words_)
      for (size_t i = word.begin; i + 1 < word.end; ++i)
        Add({PairKey(symbols_[i], symbols_[i + 1]), word.count, static_cast<uint32_t>(i), true}, pairs_);
    for (const auto& [key, pair] : pairs_) Enqueue(key, pair.count);
  }

  static void Add(const Change& change, Pairs& pairs) {
    Pair& pair = pairs[change.key];
    pair.count += change.delta;
    std::vector<uint32_t>& known = change.is_place ? pair.places : pair.words;
    if (change.delta > 0 && (known.empty() || known.back() != change.at)) known.push_back(change.at);
  }

  void Enqueue(uint64_t key, int64_t count) {
    if (count >= kMinCount) queue_.push({count, key});
  }

  // Two merges may spell the same token, "a" + "bc" and "ab" + "c"; it is one token. For that reason a pair
  // may also come up again after its merge, and then needs no second one.
  void MergePair(int32_t left, int32_t right, const std::vector<uint32_t>& words, const std::vector<uint32_t>& places) {
    const std::string bytes = parts_.vocabulary[left] + parts_.vocabulary[right];
    const auto [entry, is_new] = ids_.try_emplace(bytes, static_cast<int32_t>(parts_.vocabulary.size()));
    const Merge merge{left, right, entry->second};
    if (is_new) parts_.vocabulary.push_back(bytes);
    if (ranks_.Insert(merge)) parts_.merges.push_back(merge);

    const int64_t n = static_cast<int64_t>(words.size());
    const int blocks = BlockCount(n, kMinBlock, options_.threads);
    std::vector<std::vector<Change>> changes(blocks);
    ForEachBlock(n, blocks, [&](int block, Range range) {
      for (int64_t i = range.begin; i < range.end; ++i) MergeInWord(merge, words[i], changes[block]);
    });
    MergeAt(merge, places, changes.emplace_back());
    const uint64_t merged = PairKey(left, right);
    for (const std::vector<Change>& part : changes) {
      for (const Change& change : part) {
        if (change.key != merged) Add(change, pairs_);
      }
    }
    EnqueueGrown(changes, merged);
  }

  // Joins the pair wherever it occurs in the word, from the left, and notes how its neighbours' pairs change.
  void MergeInWord(const Merge& merge, uint32_t index, std::vector<Change>& changes) {
    Word& word = words_[index];
    int32_t* const symbols = &symbols_[word.begin];
    const auto change = [&](int32_t left, int32_t right, int64_t sign) {
      changes.push_back({PairKey(left, right), sign * word.count, index});
    };
    uint32_t size = 0;
    for (uint32_t i = 0; i < word.size;) {
      if (symbols[i] != merge.left || i + 1 == word.size || symbols[i + 1] != merge.right) {
        symbols[size++] = symbols[i++];
        continue;
      }
      if (size > 0) {
        change(symbols[size - 1], merge.left, -1);
        change(symbols[size - 1], merge.result, +1);
      }
      if (i + 2 < word.size) {
        change(merge.right, symbols[i + 2], -1);
        change(merge.result, symbols[i + 2], +1);
      }
      symbols[size++] = merge.result;
      i += 2;
    }
    word.size = size;
  }

  int32_t Length(int32_t token) const { return static_cast<int32_t>(parts_.vocabulary[static_cast<size_t>(token)].size()); }

  // The same in long words, at those of the places where the pair still is.
  void MergeAt(const Merge& merge, const std::vector<uint32_t>& places, std::vector<Change>& changes) {
    const int32_t a = Length(merge.left), b = Length(merge.right);
    auto word = long_words_.cbegin();
    for (const uint32_t place : places) {
      while (word->end <= place) ++word;
      const size_t right = place + static_cast<size_t>(a), after = right + static_cast<size_t>(b);
      if (symbols_[place] != merge.left || right >= word->end || symbols_[right] != merge.right) continue;
      const auto change = [&](int32_t first, int32_t second, int64_t sign, size_t at) {
        changes.push_back({PairKey(first, second), sign * word->count, static_cast<uint32_t>(at), true});
      };
      if (place > word->begin) {
        const int32_t last = symbols_[place - 1];
        const size_t before = last >= 0 ? place - 1 : place - static_cast<size_t>(-last);
        change(symbols_[before], merge.left, -1, before);
        change(symbols_[before], merge.result, +1, before);
      }
      if (after < word->end) {
        change(merge.right, symbols_[after], -1, right);
        change(merge.result, symbols_[after], +1, place);
      }
      symbols_[right] = kInside;
      symbols_[place] = merge.result;
      symbols_[after - 1] = -(a + b);
    }
  }

  void EnqueueGrown(const std::vector<std::vector<Change>>& changes, uint64_t merged) {
    absl::flat_hash_set<uint64_t> grown;
    for (const std::vector<Change>& part : changes) {
      for (const Change& change : part) {
        if (change.delta > 0 && change.key != merged && grown.insert(change.key).second) {
          Enqueue(change.key, pairs_[change.key].count);
        }
      }
    }
  }

  const BpeTrainingOptions& options_;
  TokenizerParts parts_;
  std::array<int32_t, 256> byte_ids_;
  absl::flat_hash_map<std::string, int32_t> ids_;  // of the ordinary tokens, by their bytes
  MergeRanks ranks_;
  std::vector<int32_t> symbols_;
  std::vector<Word> words_;
  std::vector<LongWord> long_words_;  // in the order of symbols_
  Pairs pairs_;
  std::priority_queue<Entry> queue_;
};

}  // namespace

absl::Status CheckVocabSize(int64_t vocab_size) {
  if (vocab_size >= kMinVocabSize && vocab_size <= std::numeric_limits<int32_t>::max()) return absl::OkStatus();
  return UsageError(
      absl::StrFormat("vocab_size: %d is not legal; the %d special tokens and 256 bytes need at least %d, "
                      "and ids have 31 bits",
                      vocab_size, std::size(kSpecialTokens), kMinVocabSize));
}

absl::StatusOr<Tokenizer> TrainTokenizer(const WordCounts& counts, const BpeTrainingOptions& options) {
  JEVONS_RETURN_IF_ERROR(CheckVocabSize(options.vocab_size));
  return Tokenizer::Create(BpeTrainer(counts, options).Run());
}

}  // namespace jevons
