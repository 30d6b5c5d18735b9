// DeepSeek-V3: numbers, ideographs and kana, then words.
#include "data/tokenizer/scanner.h"
#include "data/tokenizer/splitters.h"

namespace jevons {
namespace {

bool IsPunctuationOrSymbol(const Char& c) {
  return c.kind == CharClass::kPunctuation || c.kind == CharClass::kSymbol;
}
bool IsAsciiLetter(const Char& c) { return (c.code_point | 0x20) - 'a' < 26; }
bool IsAsciiPunctuation(const Char& c) { return c.code_point < 0x80 && IsPunctuationOrSymbol(c); }
bool IsIdeographOrKana(const Char& c) {
  return c.code_point >= 0x3040 &&
         (c.code_point <= 0x30FF || (c.code_point >= 0x4E00 && c.code_point <= 0x9FA5));
}

// The end of the match of the third pattern at `begin`, or `begin` if there is none. A mark may be taken as
// the optional character before letters or as the first of them: the match is the same.
size_t MatchWord(const Scanner& text, size_t begin, size_t end) {
  const Char first = text.At(begin);
  if (IsAsciiPunctuation(first)) {
    const size_t letters_end = text.RunEnd(first.end, end, IsAsciiLetter);
    if (letters_end > first.end) return letters_end;
  }
  if (IsLetterOrMark(first)) return text.RunEnd(first.end, end, IsLetterOrMark);
  if (!IsPunctuationOrSymbol(first) && !IsLineBreak(first)) {
    const size_t letters_end = text.RunEnd(first.end, end, IsLetterOrMark);
    if (letters_end > first.end) return letters_end;
  }
  const size_t symbols = first.code_point == ' ' ? first.end : begin;
  const size_t symbols_end = text.RunEnd(symbols, end, IsPunctuationOrSymbol);
  if (symbols_end > symbols) return text.RunEnd(symbols_end, end, IsLineBreak);
  return IsSpace(first) ? MatchLinesOrSpaces(text, begin, end) : begin;
}

// Stage 3 on the piece [begin, end): the matches, and the stretches between them.
void SplitWords(const Scanner& text, size_t begin, size_t end, std::vector<size_t>& ends) {
  size_t unmatched = begin;
  for (size_t position = begin; position < end;) {
    const size_t match_end = MatchWord(text, position, end);
    if (match_end == position) {
      position = text.At(position).end;
      continue;
    }
    if (unmatched < position) ends.push_back(position);
    ends.push_back(match_end);
    position = unmatched = match_end;
  }
  if (unmatched < end) ends.push_back(end);
}

}  // namespace

// Stages 1 and 2 cut the text into numbers (up to three at a time), ideographs and the rest, none of which
// overlap; stage 3 sees each alone. Numbers it cannot match, so they stay as they are.
void SplitDeepSeekV3(absl::string_view all, std::vector<size_t>& ends) {
  const Scanner text(all);
  for (size_t begin = 0; begin < all.size();) {
    const Char first = text.At(begin);
    size_t end = first.end;
    if (IsNumber(first)) {
      for (int i = 1; i < 3 && end < all.size() && IsNumber(text.At(end)); ++i) end = text.At(end).end;
      ends.push_back(end);
    } else {
      const bool ideographs = IsIdeographOrKana(first);
      end = text.RunEnd(end, all.size(), [ideographs](const Char& c) {
        return !IsNumber(c) && IsIdeographOrKana(c) == ideographs;
      });
      SplitWords(text, begin, end, ends);
    }
    begin = end;
  }
}

}  // namespace jevons
