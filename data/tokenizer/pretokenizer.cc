#include "data/tokenizer/pretokenizer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "data/tokenizer/scanner.h"
#include "data/tokenizer/splitters.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

// DeepSeek's files carry the line-break characters themselves inside the classes, not the escapes \r and \n.
constexpr char kNumbers[] = "\\p{N}{1,3}";
constexpr char kIdeographs[] = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+";
constexpr char kWords[] =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
    " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
constexpr char kGpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

#define JEVONS_CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define JEVONS_SPACES "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define JEVONS_UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define JEVONS_LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define JEVONS_UPPER_NOT_HAN "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]"
#define JEVONS_LOWER_NOT_HAN "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]"
#define JEVONS_PREFIX "[^\\r\\n\\p{L}\\p{N}]?"
constexpr char kLlama3[] =
    JEVONS_CONTRACTIONS "|" JEVONS_PREFIX "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" JEVONS_SPACES;
constexpr char kQwen2[] = JEVONS_CONTRACTIONS "|" JEVONS_PREFIX "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" JEVONS_SPACES;
constexpr char kQwen35[] =
    JEVONS_CONTRACTIONS "|" JEVONS_PREFIX "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" JEVONS_SPACES;
constexpr char kO200k[] =
    JEVONS_PREFIX JEVONS_UPPER "*" JEVONS_LOWER "+" JEVONS_CONTRACTIONS "?|" JEVONS_PREFIX JEVONS_UPPER "+" JEVONS_LOWER
                               "*" JEVONS_CONTRACTIONS "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" JEVONS_SPACES;
constexpr char kTekken[] = JEVONS_PREFIX JEVONS_UPPER "*" JEVONS_LOWER "+|" JEVONS_PREFIX JEVONS_UPPER "+" JEVONS_LOWER
                                                      "*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" JEVONS_SPACES;
constexpr char kKimi[] = "[\\p{Han}]+|" JEVONS_PREFIX JEVONS_UPPER_NOT_HAN "*" JEVONS_LOWER_NOT_HAN "+" JEVONS_CONTRACTIONS
                         "?|" JEVONS_PREFIX JEVONS_UPPER_NOT_HAN "+" JEVONS_LOWER_NOT_HAN "*" JEVONS_CONTRACTIONS
                         "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" JEVONS_SPACES;
// OpenAI's own spelling of cl100k, with possessive quantifiers. Nothing that they forbid to give back could begin or end a match:
// the pieces are those of Llama 3's spelling.
#define JEVONS_POSSESSIVE(DIGITS)                                      \
  "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}" DIGITS \
  "| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*"                                   \
  "|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"
constexpr char kCl100k[] = JEVONS_POSSESSIVE("{1,3}");
constexpr char kNanochat[] = JEVONS_POSSESSIVE("{1,2}");
constexpr char kLing[] = JEVONS_POSSESSIVE("");
#undef JEVONS_POSSESSIVE
#undef JEVONS_UPPER_NOT_HAN
#undef JEVONS_LOWER_NOT_HAN
#undef JEVONS_CONTRACTIONS
#undef JEVONS_SPACES
#undef JEVONS_UPPER
#undef JEVONS_LOWER
#undef JEVONS_PREFIX

// A pattern with its line-break characters written as escapes: the two spellings mean the same.
std::string Canonical(absl::string_view pattern) { return absl::StrReplaceAll(pattern, {{"\r", "\\r"}, {"\n", "\\n"}}); }

}  // namespace

struct Pretokenizer::Family {
  absl::string_view name;
  std::vector<std::string> patterns;
  bool covers;
  void (*split)(absl::string_view text, std::vector<size_t>& ends);
};

std::span<const Pretokenizer::Family> Pretokenizer::Families() {
  const auto run = [](const char* prefix, const char* set) { return absl::StrCat(prefix, "[", set, "]+"); };
  static const std::vector<Family> families = {
      {"DeepSeek-V3", {kNumbers, kIdeographs, kWords}, false, SplitDeepSeekV3},
      {"GPT-2", {kGpt2}, true, SplitGpt2},
      {"Llama 3 and cl100k", {kLlama3}, true, SplitLlama3},
      {"Qwen 2 and 3", {kQwen2}, true, SplitQwen2},
      {"Qwen 3.5", {kQwen35}, true, SplitQwen35},
      {"o200k", {kO200k}, true, SplitO200k},
      {"Tekken", {kTekken}, true, SplitTekken},
      {"DeepSeek-V2",
       {"[\r\n]", run("\\s?", kDeepSeekV2Letters), run("\\s?", kDeepSeekV2Symbols), "\\s+$", run("", kDeepSeekV2Cjk)},
       false,
       SplitDeepSeekV2},
      {"cl100k in OpenAI's spelling", {kCl100k}, true, SplitLlama3},
      {"nanochat", {kNanochat}, true, SplitNanochat},
      {"Ling", {kLing}, true, SplitQwen2},
      {"Kimi K2", {kKimi}, true, SplitKimi},
  };
  return families;
}

Pretokenizer Pretokenizer::DeepSeekV3() { return Pretokenizer(Families()[0]); }

Pretokenizer Pretokenizer::ByteLevel(bool add_prefix_space) {
  Pretokenizer pretokenizer(Families()[1]);
  pretokenizer.byte_level_ = true;
  pretokenizer.add_prefix_space_ = add_prefix_space;
  return pretokenizer;
}

absl::StatusOr<Pretokenizer> Pretokenizer::ForPatterns(std::span<const std::string> patterns) {
  size_t agreeing = 0;  // patterns at the front that some family shares
  for (const Family& family : Families()) {
    size_t i = 0;
    while (i < patterns.size() && i < family.patterns.size() && Canonical(patterns[i]) == Canonical(family.patterns[i])) {
      ++i;
    }
    if (i == patterns.size() && i == family.patterns.size()) return Pretokenizer(family);
    agreeing = std::max(agreeing, i);
  }
  const std::string got = agreeing < patterns.size()
                              ? absl::StrFormat("pattern %d, \"%s\"", agreeing + 1, Canonical(patterns[agreeing]))
                              : absl::StrFormat("no pattern after the first %d", agreeing);
  return IntegrityError(
      absl::StrFormat("pre_tokenizer: %s, is not known; known are the patterns of %s", got,
                      absl::StrJoin(Families(), ", ", [](std::string* out, const Family& f) { absl::StrAppend(out, f.name); })));
}

Pretokenizer Pretokenizer::WithDigits(Digits digits, Order order) const {
  Pretokenizer pretokenizer = *this;
  pretokenizer.digits_ = digits;
  pretokenizer.digits_order_ = order;
  return pretokenizer;
}

std::vector<std::string> Pretokenizer::patterns() const { return family_->patterns; }

bool Pretokenizer::covers() const { return family_->covers; }

namespace {

// Calls next(begin, end) for the numbers and the stretches between them in the piece [begin, end).
template <typename Next>
void CutDigits(const Scanner& text, Digits digits, size_t begin, size_t end, Next next) {
  while (begin < end) {
    const Char first = text.At(begin);
    size_t piece_end = first.end;
    if (!IsNumber(first)) {
      piece_end = text.RunEnd(piece_end, end, [](const Char& c) { return !IsNumber(c); });
    } else if (digits == Digits::kRuns) {
      piece_end = text.RunEnd(piece_end, end, IsNumber);
    }
    next(begin, piece_end);
    begin = piece_end;
  }
}

}  // namespace

void Pretokenizer::Split(absl::string_view text, std::vector<size_t>& ends) const {
  if (digits_ == Digits::kNone) return family_->split(text, ends);
  const Scanner scanner(text);
  if (digits_order_ == Order::kBefore) {
    CutDigits(scanner, digits_, 0, text.size(), [&](size_t begin, size_t end) {
      const size_t first = ends.size();
      family_->split(text.substr(begin, end - begin), ends);
      for (size_t i = first; i < ends.size(); ++i) ends[i] += begin;
    });
    return;
  }
  std::vector<size_t> pieces;
  family_->split(text, pieces);
  size_t begin = 0;
  for (const size_t end : pieces) {
    CutDigits(scanner, digits_, begin, end, [&](size_t, size_t piece_end) { ends.push_back(piece_end); });
    begin = end;
  }
}

}  // namespace jevons
