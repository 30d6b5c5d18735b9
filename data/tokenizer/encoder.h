// Encodes much text: one per thread, beside a shared Tokenizer. It remembers the tokens of short words, which
// are most of any text; what it remembers never changes what it returns.
#ifndef JEVONS_DATA_TOKENIZER_ENCODER_H_
#define JEVONS_DATA_TOKENIZER_ENCODER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/tokenizer.h"

namespace jevons {

class Encoder {
 public:
  // The tokenizer must outlive the encoder.
  explicit Encoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // The tokens of a whole text.
  std::vector<int32_t> Encode(absl::string_view text, EncodeOptions options);
  // Appends the tokens of `text` to `ids`, and nothing around them.
  void Append(absl::string_view text, SpecialText specials, std::vector<int32_t>& ids);

 private:
  struct Slice {
    uint32_t begin;
    uint32_t size;
  };
  // Of a text that is normalized and has no added tokens to find.
  void AppendWords(absl::string_view text, std::vector<int32_t>& ids);
  void AppendWord(absl::string_view word, std::vector<int32_t>& ids);

  const Tokenizer& tokenizer_;
  MergeLoop merge_loop_;
  std::vector<size_t> ends_;
  std::string normalized_, prefixed_;  // scratch
  std::vector<int32_t> symbols_;
  absl::flat_hash_map<std::string, Slice> seen_;  // word -> its tokens in seen_ids_
  std::vector<int32_t> seen_ids_;
};

}  // namespace jevons

#endif  // JEVONS_DATA_TOKENIZER_ENCODER_H_
