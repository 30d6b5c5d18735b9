// What the pre-tokenizers need of Unicode 16.0: the class of a code point, and decoding of UTF-8.
#ifndef JEVONS_DATA_TOKENIZER_UNICODE_H_
#define JEVONS_DATA_TOKENIZER_UNICODE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"

namespace jevons {

// The first letter of the General_Category; letters by their case; White_Space apart. They exclude each
// other: the 25 white-space code points are separators or controls.
enum class CharClass : uint8_t {
  kOther,
  kUpper,   // Lu, Lt
  kLower,   // Ll
  kLetter,  // Lm, Lo: letters without case
  kMark,
  kNumber,
  kPunctuation,
  kSymbol,
  kSpace,
};

inline bool IsLetter(CharClass kind) { return kind >= CharClass::kUpper && kind <= CharClass::kLetter; }

inline constexpr uint32_t kMaxCodePoint = 0x10FFFF;
// Stands for a byte that is not part of valid UTF-8; above every code point, of class kOther.
inline constexpr uint32_t kInvalidByte = kMaxCodePoint + 1;

// Two levels: a page number for each 256 code points, and the distinct pages.
class CharClassTable {
 public:
  static const CharClassTable& Get();
  CharClass operator[](uint32_t code_point) const {
    return code_point > kMaxCodePoint ? CharClass::kOther
                                      : classes_[(uint32_t{page_[code_point >> 8]} << 8) | (code_point & 0xFF)];
  }

 private:
  CharClassTable();
  std::array<uint16_t, (kMaxCodePoint + 1) / 256> page_;
  std::unique_ptr<CharClass[]> classes_;
};

struct DecodedChar {
  uint32_t code_point;  // or kInvalidByte
  uint32_t size;        // bytes; 1 for an invalid byte
};

// The character at the front of `text`, which is not empty. Overlong forms, surrogates and code points above
// U+10FFFF are invalid, as in RFC 3629.
DecodedChar DecodeUtf8(absl::string_view text);

// The offset of the first byte that is not valid UTF-8; text.size() if all of it is.
size_t FirstInvalidUtf8(absl::string_view text);

// The text with U+FFFD for each maximal ill-formed part (Unicode 16.0, section 3.9, "substitution of maximal
// subparts"), as Rust's from_utf8_lossy.
std::string ReplaceInvalidUtf8(absl::string_view text);

void AppendUtf8(uint32_t code_point, std::string& out);

}  // namespace jevons

#endif  // JEVONS_DATA_TOKENIZER_UNICODE_H_
