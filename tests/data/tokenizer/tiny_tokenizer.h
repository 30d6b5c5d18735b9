// A tokenizer of 320 tokens, trained in the test.
#ifndef JEVONS_TESTS_DATA_TOKENIZER_TINY_TOKENIZER_H_
#define JEVONS_TESTS_DATA_TOKENIZER_TINY_TOKENIZER_H_

#include "absl/strings/string_view.h"
#include "data/tokenizer/trainer.h"
#include "kernels/base/check.h"

namespace jevons {

inline constexpr absl::string_view kGenesis =
    "In the beginning God created the heaven and the earth.\n"
    "And the earth was without form, and void; and darkness was upon the face of the deep. And the Spirit of "
    "God "
    "moved upon the face of the waters.\n"
    "And God said, Let there be light: and there was light.\n"
    "And God saw the light, that it was good: and God divided the light from the darkness.\n"
    "And God called the light Day, and the darkness he called Night. And the evening and the morning were "
    "the first "
    "day.\n";

inline Tokenizer TinyTokenizer(int64_t vocab_size = 320) {
  WordCounter counter(Pretokenizer::DeepSeekV3());
  counter.Add(kGenesis);
  auto tokenizer = TrainTokenizer(counter.counts(), {.vocab_size = vocab_size});
  JEVONS_CHECK(tokenizer.ok(), "%s", std::string(tokenizer.status().message()).c_str());
  return *std::move(tokenizer);
}

}  // namespace jevons

#endif  // JEVONS_TESTS_DATA_TOKENIZER_TINY_TOKENIZER_H_
