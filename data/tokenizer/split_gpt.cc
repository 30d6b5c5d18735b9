// GPT-2 and its descendants: one pattern of alternatives that leave no character out.
#include "data/tokenizer/scanner.h"
#include "data/tokenizer/splitters.h"

namespace jevons {
namespace {

enum class Case { kExact, kIgnored };

// 's|'t|'re|'ve|'m|'ll|'d at `begin`, where an apostrophe stands: its end, or `begin`. (?i:...) also takes
// U+017F for an s: its simple folding. No other letter of the seven has a partner outside of ASCII.
size_t MatchContraction(const Scanner& text, size_t begin, size_t end, Case letter_case) {
  const auto letter = [&](const Char& c) -> uint32_t {
    if (letter_case == Case::kExact) return c.code_point;
    if (c.code_point == 0x17F) return 's';
    return c.code_point - 'A' < 26 ? c.code_point | 0x20 : c.code_point;
  };
  if (begin + 1 >= end) return begin;
  const Char first = text.At(begin + 1);
  const uint32_t a = letter(first);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return first.end;
  if ((a != 'r' && a != 'v' && a != 'l') || first.end >= end) return begin;
  const Char second = text.At(first.end);
  return letter(second) == (a == 'l' ? 'l' : 'e') ? second.end : begin;
}

// ` ?[^\s\p{L}\p{N}]+[\r\n]*` and what comes after it in the patterns: white space. With marks as letters
// they are no symbols; with a slash in the last class it may follow the line breaks.
struct SymbolRule {
  bool marks_are_letters = false;
  bool slash_follows = false;
};
template <SymbolRule kRule>
size_t MatchSymbolsOrSpaces(const Scanner& text, const Char& first, size_t begin, size_t end) {
  const size_t symbols = first.code_point == ' ' ? first.end : begin;
  const size_t symbols_end = text.RunEnd(symbols, end, [](const Char& c) {
    return !IsSpace(c) && !IsNumber(c) && !IsLetter(c) && !(kRule.marks_are_letters && IsMark(c));
  });
  if (symbols_end == symbols) return MatchLinesOrSpaces(text, begin, end);
  return text.RunEnd(symbols_end, end,
                     [](const Char& c) { return IsLineBreak(c) || (kRule.slash_follows && c.code_point == '/'); });
}

// \p{N}{1,most} at `begin`, a number.
size_t MatchNumbers(const Scanner& text, const Char& first, size_t end, int most) {
  size_t position = first.end;
  for (int i = 1; i < most && position < end; ++i) {
    const Char c = text.At(position);
    if (!IsNumber(c)) break;
    position = c.end;
  }
  return position;
}

// ` ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+` after the contractions.
size_t MatchGpt2(const Scanner& text, size_t begin, size_t end) {
  const Char first = text.At(begin);
  if (first.code_point == '\'') {
    if (const size_t e = MatchContraction(text, begin, end, Case::kExact); e > begin) return e;
  }
  const bool spaced = first.code_point == ' ' && first.end < end;
  const Char c = spaced ? text.At(first.end) : first;
  if (IsLetter(c)) return text.RunEnd(c.end, end, [](const Char& d) { return IsLetter(d); });
  if (IsNumber(c)) return text.RunEnd(c.end, end, IsNumber);
  if (IsSpace(c)) return MatchSpaces(text, begin, end);
  return text.RunEnd(c.end, end, [](const Char& d) { return !IsSpace(d) && !IsNumber(d) && !IsLetter(d); });
}

// (?i:'s|...)|[^\r\n\p{L}\p{N}]?LETTERS+|\p{N}{1,kDigits}|symbols|white space, LETTERS being \p{L}, or \p{L}
// and \p{M}.
template <bool kMarksAreLetters, int kDigits>
size_t MatchLlama(const Scanner& text, size_t begin, size_t end) {
  const auto is_letter = [](const Char& c) { return IsLetter(c) || (kMarksAreLetters && IsMark(c)); };
  const Char first = text.At(begin);
  if (is_letter(first)) return text.RunEnd(first.end, end, is_letter);
  if (IsNumber(first)) return MatchNumbers(text, first, end, kDigits);
  if (first.code_point == '\'') {
    if (const size_t e = MatchContraction(text, begin, end, Case::kIgnored); e > begin) return e;
  }
  if (!IsLineBreak(first)) {
    const size_t letters_end = text.RunEnd(first.end, end, is_letter);
    if (letters_end > first.end) return letters_end;
  }
  return MatchSymbolsOrSpaces<SymbolRule{.marks_are_letters = kMarksAreLetters}>(text, first, begin, end);
}

// \p{Han}, a script, of Unicode 16.0.
bool IsHan(const Char& c) {
  static constexpr uint32_t kRanges[][2] = {
      {0x2E80, 0x2E99},   {0x2E9B, 0x2EF3},   {0x2F00, 0x2FD5},   {0x3005, 0x3005},   {0x3007, 0x3007},   {0x3021, 0x3029},
      {0x3038, 0x303B},   {0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFA6D},   {0xFA70, 0xFAD9},   {0x16FE2, 0x16FE3},
      {0x16FF0, 0x16FF1}, {0x20000, 0x2A6DF}, {0x2A700, 0x2B739}, {0x2B740, 0x2B81D}, {0x2B820, 0x2CEA1}, {0x2CEB0, 0x2EBE0},
      {0x2EBF0, 0x2EE5D}, {0x2F800, 0x2FA1D}, {0x30000, 0x3134A}, {0x31350, 0x323AF}};
  if (c.code_point < kRanges[0][0]) return false;
  for (const auto& [first, last] : kRanges) {
    if (c.code_point <= last) return c.code_point >= first;
  }
  return false;
}

// With kHanApart, letters of Han belong to no word.
template <bool kHanApart>
bool IsUpperOrCaseless(const Char& c) {
  return (c.kind == CharClass::kUpper || c.kind == CharClass::kLetter || IsMark(c)) && !(kHanApart && IsHan(c));
}
template <bool kHanApart>
bool IsLowerOrCaseless(const Char& c) {
  return (c.kind == CharClass::kLower || c.kind == CharClass::kLetter || IsMark(c)) && !(kHanApart && IsHan(c));
}

// U*L+ from `begin`, U and L being the two classes above, or `begin` if it does not match. U* takes all it
// can and then gives back up to the last character that L shares; L+ goes on from there.
template <bool kHanApart>
size_t MatchLowerWord(const Scanner& text, size_t begin, size_t end) {
  size_t shared_end = begin;  // after the last character of U* that is in L too
  size_t position = begin;
  while (position < end) {
    const Char c = text.At(position);
    if (!IsUpperOrCaseless<kHanApart>(c)) break;
    position = c.end;
    if (IsLowerOrCaseless<kHanApart>(c)) shared_end = position;
  }
  const size_t lower_end = text.RunEnd(position, end, IsLowerOrCaseless<kHanApart>);
  return lower_end > position ? lower_end : shared_end;
}

// U+L* from `begin`, or `begin`.
template <bool kHanApart>
size_t MatchUpperWord(const Scanner& text, size_t begin, size_t end) {
  const size_t upper_end = text.RunEnd(begin, end, IsUpperOrCaseless<kHanApart>);
  return upper_end > begin ? text.RunEnd(upper_end, end, IsLowerOrCaseless<kHanApart>) : begin;
}

// [^\r\n\p{L}\p{N}]?U*L+C?|[^\r\n\p{L}\p{N}]?U+L*C?|\p{N}{1,digits}|symbols|white space, with the
// contractions C or without.
struct CasedRule {
  bool contractions;
  int digits;
  bool slash_follows = false;
  bool han_apart = false;  // the first alternative is \\p{Han}+
};
template <CasedRule kRule>
size_t MatchCased(const Scanner& text, size_t begin, size_t end) {
  const Char first = text.At(begin);
  if (kRule.han_apart && IsHan(first)) return text.RunEnd(first.end, end, IsHan);
  if (IsNumber(first)) return MatchNumbers(text, first, end, kRule.digits);
  const bool prefix = !IsLetter(first) && !IsLineBreak(first);
  size_t word_end = begin;
  for (const auto match : {MatchLowerWord<kRule.han_apart>, MatchUpperWord<kRule.han_apart>}) {
    if (prefix) {
      const size_t e = match(text, first.end, end);
      if (e > first.end) word_end = e;
    }
    if (word_end == begin) word_end = match(text, begin, end);
    if (word_end > begin) break;
  }
  if (word_end == begin) return MatchSymbolsOrSpaces<SymbolRule{.slash_follows = kRule.slash_follows}>(text, first, begin, end);
  if (kRule.contractions && word_end < end && text.At(word_end).code_point == '\'')
    return MatchContraction(text, word_end, end, Case::kIgnored);
  return word_end;
}

template <size_t (*kMatch)(const Scanner&, size_t, size_t)>
void SplitBy(absl::string_view all, std::vector<size_t>& ends) {
  const Scanner text(all);
  for (size_t begin = 0; begin < all.size(); ends.push_back(begin)) begin = kMatch(text, begin, all.size());
}

}  // namespace

void SplitGpt2(absl::string_view text, std::vector<size_t>& ends) { SplitBy<MatchGpt2>(text, ends); }
void SplitLlama3(absl::string_view text, std::vector<size_t>& ends) { SplitBy<MatchLlama<false, 3>>(text, ends); }
void SplitNanochat(absl::string_view text, std::vector<size_t>& ends) { SplitBy<MatchLlama<false, 2>>(text, ends); }
void SplitQwen2(absl::string_view text, std::vector<size_t>& ends) { SplitBy<MatchLlama<false, 1>>(text, ends); }
void SplitQwen35(absl::string_view text, std::vector<size_t>& ends) { SplitBy<MatchLlama<true, 1>>(text, ends); }
void SplitO200k(absl::string_view text, std::vector<size_t>& ends) {
  SplitBy<MatchCased<CasedRule{.contractions = true, .digits = 3, .slash_follows = true}>>(text, ends);
}
void SplitKimi(absl::string_view text, std::vector<size_t>& ends) {
  SplitBy<MatchCased<CasedRule{.contractions = true, .digits = 3, .han_apart = true}>>(text, ends);
}
void SplitTekken(absl::string_view text, std::vector<size_t>& ends) {
  SplitBy<MatchCased<CasedRule{.contractions = false, .digits = 1, .slash_follows = true}>>(text, ends);
}

}  // namespace jevons
