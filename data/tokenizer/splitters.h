// The hand-written splitters, one per family of patterns (pretokenizer.cc has the patterns). Each appends the
// end offset of every piece of `text` to `ends`, in order and without gaps.
#ifndef JEVONS_DATA_TOKENIZER_SPLITTERS_H_
#define JEVONS_DATA_TOKENIZER_SPLITTERS_H_

#include <cstddef>
#include <vector>

#include "absl/strings/string_view.h"

namespace jevons {

void SplitDeepSeekV3(absl::string_view text, std::vector<size_t>& ends);
void SplitGpt2(absl::string_view text, std::vector<size_t>& ends);
void SplitLlama3(absl::string_view text, std::vector<size_t>& ends);
void SplitQwen2(absl::string_view text, std::vector<size_t>& ends);
void SplitQwen35(absl::string_view text, std::vector<size_t>& ends);
void SplitO200k(absl::string_view text, std::vector<size_t>& ends);
void SplitTekken(absl::string_view text, std::vector<size_t>& ends);

}  // namespace jevons

#endif  // JEVONS_DATA_TOKENIZER_SPLITTERS_H_
