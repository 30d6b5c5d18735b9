// Random strings that a tokenizer is likely to get wrong: runs of one class, class borders, rare scripts.
#ifndef JEVONS_TESTS_DATA_TOKENIZER_RANDOM_TEXT_H_
#define JEVONS_TESTS_DATA_TOKENIZER_RANDOM_TEXT_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "data/tokenizer/unicode.h"

namespace jevons {

inline bool IsSurrogate(uint32_t c) { return c >= 0xD800 && c <= 0xDFFF; }

// Up to 40 characters of one of several alphabets; the last is all of Unicode.
inline std::string RandomUnicode(std::mt19937_64& random) {
  static const std::vector<std::vector<uint32_t>> alphabets = {
      {' ', '\t', '\r', '\n', 0x0B, 0x85, 0xA0, 0x3000, 'a', '1', '.'},
      {'a', 'Z', 0xE9, 0xDF, '0', '9', 0xB2, 0x2167, '!', '$', '<', 0xFF5C, 0x2581, ' ', '\n'},
      {0x4E00, 0x9FA5, 0x9FA6, 0x3040, 0x3099, 0x309A, 0x309B, 0x30FB, 0x30FF, 0x3105, 0xAC00, 'a', '1', ' ', '.'},
      {'a', 0x300, 0x903, 0x20E3, ' ', '-', '_', '\'', 0x1F600, 0x200D, 0, 1, 0x7F, '\r', '\n', '/'},
      {'\'', 's', 'S', 0x17F, 't', 'r', 'E', 'e', 'V', 'v', 'l', 'L', 'm', 'D', 'x', ' ', '!'},
      {'a', 'B', 'C', 'd', 0x1C5, 0x2B0, 0xAA, 0x4E00, 0x301, '\'', 's', ' ', '1', '.', '/', '\n', 0xDF, 0x130},
  };
  const auto below = [&random](uint64_t n) { return random() % n; };
  const uint64_t kind = below(alphabets.size() + 2);
  std::string text;
  for (uint64_t n = below(40); n > 0; --n) {
    uint32_t c;
    if (kind < alphabets.size()) {
      c = alphabets[kind][below(alphabets[kind].size())];
    } else {
      c = static_cast<uint32_t>(below(kind == alphabets.size() ? 0x3100 : 0x110000));
    }
    if (!IsSurrogate(c)) AppendUtf8(c, text);
  }
  return text;
}

inline std::string RandomBytes(std::mt19937_64& random, size_t max_size) {
  std::string bytes(random() % (max_size + 1), '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

}  // namespace jevons

#endif  // JEVONS_TESTS_DATA_TOKENIZER_RANDOM_TEXT_H_
