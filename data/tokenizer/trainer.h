// Training of byte-level BPE (Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units",
// section 3.2, on bytes): the most frequent pair of neighbouring tokens becomes a token, again and again.
#ifndef JEVONS_DATA_TOKENIZER_TRAINER_H_
#define JEVONS_DATA_TOKENIZER_TRAINER_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/word_counts.h"

namespace jevons {

// The tokens that every trained vocabulary has: 6 special ones (ids 0 to 5), then the 256 bytes.
inline constexpr int64_t kMinVocabSize = 6 + 256;

// Usage error if no vocabulary of so many tokens can be trained.
absl::Status CheckVocabSize(int64_t vocab_size);

struct BpeTrainingOptions {
  int64_t vocab_size = 0;  // of all tokens, at least kMinVocabSize
  int threads = 1;
  std::function<void(int64_t tokens)> on_progress = [](int64_t) {};  // called with the tokens so far
};

// A tokenizer with DeepSeek-V3's patterns. Ties go to the smaller pair of ids, so the result is a pure
// function of the counts and vocab_size. It has fewer tokens than asked for if no pair is left that occurs
// twice. Usage error if vocab_size is below kMinVocabSize.
absl::StatusOr<Tokenizer> TrainTokenizer(const WordCounts& counts, const BpeTrainingOptions& options);

}  // namespace jevons

#endif  // JEVONS_DATA_TOKENIZER_TRAINER_H_
