#include "data/tokenizer/pretokenizer.h"

#include <array>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "data/tokenizer/unicode.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

// The files carry the line-break characters themselves inside the classes, not the escapes \r and \n.
constexpr absl::string_view kNumbers = "\\p{N}{1,3}";
constexpr absl::string_view kIdeographs = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+";
constexpr absl::string_view kWords =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
    " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";

// A stretch of text and the positions in it. Scans never look beyond `end`: a stage sees one piece at a time.
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
  char Byte(size_t position) const { return text_[position]; }

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

bool IsNumber(const Char& c) { return c.kind == CharClass::kNumber; }
bool IsLetterOrMark(const Char& c) { return c.kind == CharClass::kLetter || c.kind == CharClass::kMark; }
bool IsPunctuationOrSymbol(const Char& c) {
  return c.kind == CharClass::kPunctuation || c.kind == CharClass::kSymbol;
}
bool IsLineBreak(const Char& c) { return c.code_point == '\n' || c.code_point == '\r'; }
bool IsAsciiLetter(const Char& c) { return (c.code_point | 0x20) - 'a' < 26; }
bool IsAsciiPunctuation(const Char& c) { return c.code_point < 0x80 && IsPunctuationOrSymbol(c); }
bool IsIdeographOrKana(const Char& c) {
  return c.code_point >= 0x3040 &&
         (c.code_point <= 0x30FF || (c.code_point >= 0x4E00 && c.code_point <= 0x9FA5));
}

// \s*[\r\n]+|\s+(?!\S)|\s+ at `begin`, a white-space character. The first stops after the run's last line
// break; the second takes the whole run at the end of the piece, else leaves one space to the word that
// follows.
size_t MatchSpace(const Scanner& text, size_t begin, size_t end) {
  size_t line_end = begin;
  size_t last = begin;
  size_t position = begin;
  while (position < end) {
    const Char c = text.At(position);
    if (c.kind != CharClass::kSpace) break;
    last = position;
    position = c.end;
    if (IsLineBreak(c)) line_end = position;
  }
  if (line_end > begin) return line_end;
  return position == end || last == begin ? position : last;
}

// The end of the match of kWords at `begin`, or `begin` if there is none. A mark may be taken as the optional
// character before letters or as the first of them: the match is the same.
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
  return first.kind == CharClass::kSpace ? MatchSpace(text, begin, end) : begin;
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

// A pattern with its line-break characters written as escapes: the two spellings mean the same.
std::string Canonical(absl::string_view pattern) {
  return absl::StrReplaceAll(pattern, {{"\r", "\\r"}, {"\n", "\\n"}});
}

}  // namespace

struct Pretokenizer::Family {
  std::vector<absl::string_view> patterns;
  void (*split)(absl::string_view text, std::vector<size_t>& ends);
};

std::span<const Pretokenizer::Family> Pretokenizer::Families() {
  static const std::array<Family, 1> families = {{{{kNumbers, kIdeographs, kWords}, SplitDeepSeekV3}}};
  return families;
}

Pretokenizer Pretokenizer::DeepSeekV3() { return Pretokenizer(Families()[0]); }

absl::StatusOr<Pretokenizer> Pretokenizer::ForPatterns(std::span<const std::string> patterns) {
  size_t agreeing = 0;  // patterns at the front that some family shares
  for (const Family& family : Families()) {
    size_t i = 0;
    while (i < patterns.size() && i < family.patterns.size() &&
           Canonical(patterns[i]) == Canonical(family.patterns[i])) {
      ++i;
    }
    if (i == patterns.size() && i == family.patterns.size()) return Pretokenizer(family);
    agreeing = std::max(agreeing, i);
  }
  const std::string got = agreeing < patterns.size()
                              ? absl::StrFormat("pattern %d, \"%s\"", agreeing + 1, patterns[agreeing])
                              : absl::StrFormat("no pattern after the first %d", agreeing);
  return IntegrityError(absl::StrFormat(
      "pre_tokenizer: %s, is not known; the known sequence is that of DeepSeek-V3: \"%s\"", got,
      absl::StrJoin(DeepSeekV3().patterns(), "\", \"",
                    [](std::string* out, const std::string& p) { out->append(Canonical(p)); })));
}

std::vector<std::string> Pretokenizer::patterns() const {
  std::vector<std::string> patterns;
  for (const absl::string_view p : family_->patterns) patterns.emplace_back(p);
  return patterns;
}

void Pretokenizer::Split(absl::string_view text, std::vector<size_t>& ends) const {
  family_->split(text, ends);
}

}  // namespace jevons
