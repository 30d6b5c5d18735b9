// What the hand-written splitters share: a text read character by character, and the classes of their
// patterns.
#ifndef JEVONS_DATA_TOKENIZER_SCANNER_H_
#define JEVONS_DATA_TOKENIZER_SCANNER_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "data/tokenizer/unicode.h"

namespace jevons {

class Scanner {
 public:
  explicit Scanner(absl::string_view text) : text_(text), table_(CharClassTable::Get()) {}

  struct Char {
    uint32_t code_point;
    size_t end;
    CharClass kind;
  };
  Char At(size_t position) const {
    const auto byte = static_cast<unsigned char>(text_[position]);
    if (byte < 0x80) return {byte, position + 1, table_[byte]};
    const DecodedChar c = DecodeUtf8(text_.substr(position));
    return {c.code_point, position + c.size, table_[c.code_point]};
  }
  size_t size() const { return text_.size(); }

  // The end of the longest run from `position` of characters for which `belongs` holds.
  template <typename Predicate>
  size_t RunEnd(size_t position, size_t end, Predicate belongs) const {
    while (position < end) {
      const Char c = At(position);
      if (!belongs(c)) break;
      position = c.end;
    }
    return position;
  }

 private:
  absl::string_view text_;
  const CharClassTable& table_;
};
using Char = Scanner::Char;

inline bool IsNumber(const Char& c) { return c.kind == CharClass::kNumber; }
inline bool IsLetter(const Char& c) { return IsLetter(c.kind); }
inline bool IsMark(const Char& c) { return c.kind == CharClass::kMark; }
inline bool IsLetterOrMark(const Char& c) { return IsLetter(c) || IsMark(c); }
inline bool IsLineBreak(const Char& c) { return c.code_point == '\n' || c.code_point == '\r'; }
inline bool IsSpace(const Char& c) { return c.kind == CharClass::kSpace; }

// \s+(?!\S)|\s+ at `begin`, a white-space character: the whole run at the end of the text, else all but its
// last character, which is left to the word that follows; at least one.
inline size_t MatchSpaces(const Scanner& text, size_t begin, size_t end) {
  size_t last = begin;
  size_t position = begin;
  while (position < end) {
    const Char c = text.At(position);
    if (!IsSpace(c)) break;
    last = position;
    position = c.end;
  }
  return position == end || last == begin ? position : last;
}

// \s*[\r\n]+|\s+(?!\S)|\s+ at `begin`, a white-space character: up to the run's last line break, if it has
// one.
inline size_t MatchLinesOrSpaces(const Scanner& text, size_t begin, size_t end) {
  size_t line_end = begin;
  size_t last = begin;
  size_t position = begin;
  while (position < end) {
    const Char c = text.At(position);
    if (!IsSpace(c)) break;
    last = position;
    position = c.end;
    if (IsLineBreak(c)) line_end = position;
  }
  if (line_end > begin) return line_end;
  return position == end || last == begin ? position : last;
}

}  // namespace jevons

#endif  // JEVONS_DATA_TOKENIZER_SCANNER_H_
