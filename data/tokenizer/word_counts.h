// How often each word occurs: all that BPE training needs of a corpus.
#ifndef JEVONS_DATA_TOKENIZER_WORD_COUNTS_H_
#define JEVONS_DATA_TOKENIZER_WORD_COUNTS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "data/tokenizer/pretokenizer.h"

namespace jevons {

using WordCounts = absl::flat_hash_map<std::string, int64_t>;

// One per thread; the sums do not depend on which counter saw which document.
class WordCounter {
 public:
  explicit WordCounter(Pretokenizer pretokenizer) : pretokenizer_(pretokenizer) {}

  // Counts the words of a whole document (words do not reach over its ends).
  void Add(absl::string_view text);
  // Adds another counter's counts, and empties it.
  void Absorb(WordCounter& other);

  const WordCounts& counts() const { return counts_; }
  WordCounts TakeCounts() { return std::move(counts_); }

 private:
  Pretokenizer pretokenizer_;
  WordCounts counts_;
  std::vector<size_t> ends_;
};

}  // namespace jevons

#endif  // JEVONS_DATA_TOKENIZER_WORD_COUNTS_H_
