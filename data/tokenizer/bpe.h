// The merge loop of byte-pair encoding: of all adjacent pairs that have a merge, the one of lowest rank is
// joined, the leftmost on ties, until none is left.
#ifndef JEVONS_DATA_TOKENIZER_BPE_H_
#define JEVONS_DATA_TOKENIZER_BPE_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace jevons {

// A merge joins two tokens into a third, `result`, whose bytes are those of the two in order.
struct Merge {
  int32_t left;
  int32_t right;
  int32_t result;
  bool operator==(const Merge&) const = default;
};

// A pair of tokens as one number whose order is that of (left, right).
inline uint64_t PairKey(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

// The rank (position in the list) of the merge of a pair.
class MergeRanks {
 public:
  // False, and nothing inserted, if the pair has a merge already.
  bool Insert(const Merge& merge) {
    return ranks_.try_emplace(PairKey(merge.left, merge.right), Rank{static_cast<int32_t>(ranks_.size()), merge.result}).second;
  }
  struct Rank {
    int32_t rank;
    int32_t result;
  };
  const Rank* Find(int32_t left, int32_t right) const {
    const auto found = ranks_.find(PairKey(left, right));
    return found == ranks_.end() ? nullptr : &found->second;
  }

 private:
  absl::flat_hash_map<uint64_t, Rank> ranks_;
};

// Scratch for the loop, used again from word to word. O(n log n) for a word of n bytes, n < 2^31; a long word's candidates lie by rank, for a heap
// of millions misses the caches at each step.
class MergeLoop {
 public:
  // Appends the tokens of the word whose byte tokens are `symbols`.
  void Run(const MergeRanks& ranks, std::span<const int32_t> symbols, std::vector<int32_t>& out);

 private:
  // A doubly linked list over the word; a symbol that was joined to its left neighbour has id kGone.
  struct Symbol {
    int32_t id;
    int32_t previous;
    int32_t next;  // symbols.size() at the end
  };
  struct Candidate {
    int32_t rank;
    int32_t position;
    Merge merge;
  };
  static bool Later(const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  }
  // The candidate at this position; none at the word's ends and where the pair has no merge.
  std::optional<Candidate> CandidateAt(const MergeRanks& ranks, int32_t position) const;
  // Joins the candidate's symbols; false if it is stale: one of them has grown since.
  bool Join(const Candidate& candidate);
  void RunShort(const MergeRanks& ranks);
  void RunLong(const MergeRanks& ranks);

  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
};

}  // namespace jevons

#endif  // JEVONS_DATA_TOKENIZER_BPE_H_
