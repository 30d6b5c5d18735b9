// The alphabet of byte-level BPE (GPT-2's): every byte is written as one printable character, so that tokens
// can stand in JSON. '!' to '~', U+00A1 to U+00AC and U+00AE to U+00FF stand for themselves; the other 68
// bytes, in order, are U+0100 to U+0143 (a space is U+0120).
#ifndef JEVONS_DATA_TOKENIZER_BYTE_ALPHABET_H_
#define JEVONS_DATA_TOKENIZER_BYTE_ALPHABET_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace jevons {

// The bytes written in the alphabet, as UTF-8.
std::string BytesToAlphabet(absl::string_view bytes);

// The inverse; nothing if a character is not in the alphabet.
std::optional<std::string> AlphabetToBytes(absl::string_view text);

// All 256 bytes, ordered by their character: the order of the byte tokens of a trained vocabulary.
std::array<uint8_t, 256> BytesInAlphabetOrder();

}  // namespace jevons

#endif  // JEVONS_DATA_TOKENIZER_BYTE_ALPHABET_H_
