// DeepSeek-V3: numbers, ideographs and kana, then words. DeepSeek-V2 (and the first DeepSeek LLM): five patterns, one after the other.
#include <algorithm>
#include <bitset>

#include "data/tokenizer/scanner.h"
#include "data/tokenizer/splitters.h"

namespace jevons {
namespace {

bool IsPunctuationOrSymbol(const Char& c) { return c.kind == CharClass::kPunctuation || c.kind == CharClass::kSymbol; }
bool IsAsciiLetter(const Char& c) { return (c.code_point | 0x20) - 'a' < 26; }
bool IsAsciiPunctuation(const Char& c) { return c.code_point < 0x80 && IsPunctuationOrSymbol(c); }
bool IsIdeographOrKana(const Char& c) {
  return c.code_point >= 0x3040 && (c.code_point <= 0x30FF || (c.code_point >= 0x4E00 && c.code_point <= 0x9FA5));
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
      end = text.RunEnd(end, all.size(),
                        [ideographs](const Char& c) { return !IsNumber(c) && IsIdeographOrKana(c) == ideographs; });
      SplitWords(text, begin, end, ends);
    }
    begin = end;
  }
}

namespace {

// The characters of a class, written as between the brackets of a pattern that escapes nothing.
class CodePointSet {
 public:
  explicit CodePointSet(absl::string_view text) {
    const auto take = [&text] {
      const DecodedChar c = DecodeUtf8(text);
      text.remove_prefix(c.size);
      return c.code_point;
    };
    while (!text.empty()) {
      const uint32_t first = take();
      uint32_t last = first;
      if (text.size() > 1 && text[0] == '-') {
        text.remove_prefix(1);
        last = take();
      }
      ranges_.push_back({first, last});
      for (uint32_t c = first; c <= last && c < ascii_.size(); ++c) ascii_.set(c);
    }
    std::sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) { return a.last < b.last; });
  }
  bool operator()(const Char& c) const {
    if (c.code_point < ascii_.size()) return ascii_[c.code_point];
    const auto at = std::lower_bound(ranges_.begin(), ranges_.end(), c.code_point,
                                     [](const Range& range, uint32_t code_point) { return range.last < code_point; });
    return at != ranges_.end() && at->first <= c.code_point;
  }

 private:
  struct Range {
    uint32_t first;
    uint32_t last;
  };
  std::vector<Range> ranges_;  // they do not overlap, but for their ends
  std::bitset<128> ascii_;
};

// Calls next(begin, end) for each match in the piece [begin, end) and for what lies between. match(position, end) is the end of
// the match at a position, or the position.
template <typename Match, typename Next>
void Isolate(const Scanner& text, size_t begin, size_t end, Match match, Next next) {
  size_t unmatched = begin;
  for (size_t position = begin; position < end;) {
    const size_t match_end = match(position, end);
    if (match_end == position) {
      position = text.At(position).end;
      continue;
    }
    if (unmatched < position) next(unmatched, position);
    next(position, match_end);
    position = unmatched = match_end;
  }
  if (unmatched < end) next(unmatched, end);
}

}  // namespace

void SplitDeepSeekV2(absl::string_view all, std::vector<size_t>& ends) {
  static const CodePointSet letters(kDeepSeekV2Letters), symbols(kDeepSeekV2Symbols), cjk(kDeepSeekV2Cjk);
  const Scanner text(all);
  const auto line_break = [&](size_t begin, size_t) {
    const Char c = text.At(begin);
    return IsLineBreak(c) ? c.end : begin;
  };
  // \s?[...]+: the white space may itself be in the class, which makes no difference.
  const auto word_of = [&](const CodePointSet& belongs) {
    return [&text, &belongs](size_t begin, size_t end) {
      const Char first = text.At(begin);
      if (IsSpace(first)) {
        const size_t word_end = text.RunEnd(first.end, end, belongs);
        if (word_end > first.end) return word_end;
      }
      return text.RunEnd(begin, end, belongs);
    };
  };
  const auto spaces_at_end = [&](size_t begin, size_t end) {
    return text.RunEnd(begin, end, [](const Char& c) { return IsSpace(c); }) == end ? end : begin;
  };
  const auto run_of_cjk = [&](size_t begin, size_t end) { return text.RunEnd(begin, end, cjk); };

  const auto done = [&](size_t, size_t end) { ends.push_back(end); };
  const auto fifth = [&](size_t begin, size_t end) { Isolate(text, begin, end, run_of_cjk, done); };
  const auto fourth = [&](size_t begin, size_t end) { Isolate(text, begin, end, spaces_at_end, fifth); };
  const auto third = [&](size_t begin, size_t end) { Isolate(text, begin, end, word_of(symbols), fourth); };
  const auto second = [&](size_t begin, size_t end) { Isolate(text, begin, end, word_of(letters), third); };
  Isolate(text, 0, all.size(), line_break, second);
}

}  // namespace jevons
