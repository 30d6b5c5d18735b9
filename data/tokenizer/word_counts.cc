#include "data/tokenizer/word_counts.h"

#include <utility>

namespace jevons {

void WordCounter::Add(absl::string_view text) {
  ends_.clear();
  pretokenizer_.Split(text, ends_);
  size_t begin = 0;
  for (const size_t end : ends_) {
    ++counts_[text.substr(begin, end - begin)];
    begin = end;
  }
}

void WordCounter::Absorb(WordCounter& other) {
  if (counts_.empty()) {
    counts_ = std::move(other.counts_);
  } else {
    for (const auto& [word, count] : other.counts_) counts_[word] += count;
  }
  other.counts_.clear();
}

}  // namespace jevons
