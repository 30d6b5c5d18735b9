#include "data/tokenizer/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <memory>
#include <random>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/unicode.h"
#include "gmock/gmock.h"
#include "kernels/base/status.h"
#include "tests/data/tokenizer/random_text.h"
#include "tests/support/paths.h"

namespace jevons {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Pieces(absl::string_view text, const Pretokenizer& pretokenizer = Pretokenizer::DeepSeekV3()) {
  std::vector<size_t> ends;
  pretokenizer.Split(text, ends);
  std::vector<std::string> pieces;
  size_t begin = 0;
  for (const size_t end : ends) {
    pieces.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  EXPECT_EQ(begin, text.size());
  return pieces;
}

// The meaning of the patterns, by an engine that runs them: each stage splits the pieces of the one before
// into its matches and what lies between.
class Pcre2Splitter {
 public:
  explicit Pcre2Splitter(const Pretokenizer& pretokenizer) {
    std::vector<std::string> patterns = pretokenizer.patterns();
    if (pretokenizer.digits() != Digits::kNone) {
      const bool before = pretokenizer.digits_order() == Pretokenizer::Order::kBefore;
      patterns.insert(before ? patterns.begin() : patterns.end(), pretokenizer.digits() == Digits::kEach ? "\\p{N}" : "\\p{N}+");
    }
    for (const std::string& pattern : patterns) stages_.push_back(Compile(pattern));
  }
  ~Pcre2Splitter() {
    for (pcre2_code* stage : stages_) pcre2_code_free(stage);
  }

  // A class of two others, [...&&[^...]], is written as PCRE2 knows it: what is not of the second, of the first. Its \p{Han} is of
  // the scripts that use a character, \p{sc:Han} of the script that it belongs to.
  static pcre2_code* Compile(const std::string& from) {
    const std::string pattern = absl::StrReplaceAll(
        from, {{"[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]", "(?:(?!\\p{sc:Han})[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}])"},
               {"[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]", "(?:(?!\\p{sc:Han})[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}])"},
               {"[\\p{Han}]+", "\\p{sc:Han}+"}});
    int error;
    PCRE2_SIZE where;
    pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP, &error,
                                     &where, nullptr);
    if (code == nullptr) ADD_FAILURE() << pattern << ": PCRE2 error " << error << " at " << where;
    return code;
  }

  std::vector<std::string> Split(const std::string& text) const {
    std::vector<std::string> pieces = {text};
    for (const pcre2_code* stage : stages_) {
      std::vector<std::string> finer;
      for (const std::string& piece : pieces) Isolate(stage, piece, finer);
      pieces = std::move(finer);
    }
    return pieces;
  }

  static void Isolate(const pcre2_code* stage, const std::string& piece, std::vector<std::string>& out) {
    pcre2_match_data* match = pcre2_match_data_create_from_pattern(stage, nullptr);
    size_t done = 0;
    while (done < piece.size() &&
           pcre2_match(stage, reinterpret_cast<PCRE2_SPTR>(piece.data()), piece.size(), done, 0, match, nullptr) > 0) {
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match);
      if (range[0] > done) out.push_back(piece.substr(done, range[0] - done));
      out.push_back(piece.substr(range[0], range[1] - range[0]));
      done = range[1];
    }
    if (done < piece.size()) out.push_back(piece.substr(done));
    pcre2_match_data_free(match);
  }

 private:
  std::vector<pcre2_code*> stages_;
};

bool Matches(const pcre2_code* code, const std::string& text) {
  std::vector<std::string> pieces;
  Pcre2Splitter::Isolate(code, text, pieces);
  pcre2_match_data* match = pcre2_match_data_create_from_pattern(code, nullptr);
  const bool found = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0, match, nullptr) > 0;
  pcre2_match_data_free(match);
  return found;
}

// Debian's PCRE2 knows Unicode 14.0; what that left unassigned may differ, and U+180E, which was a space
// until 6.3.
TEST(PretokenizerTest, ClassesAgreeWithPcre2) {
  pcre2_code* unassigned = Pcre2Splitter::Compile("\\p{Cn}");
  std::vector<std::pair<pcre2_code*, CharClass>> classes;
  for (const auto& [pattern, kind] : {std::pair("[\\p{Lu}\\p{Lt}]", CharClass::kUpper), std::pair("\\p{Ll}", CharClass::kLower),
                                      std::pair("[\\p{Lm}\\p{Lo}]", CharClass::kLetter), std::pair("\\p{M}", CharClass::kMark),
                                      std::pair("\\p{N}", CharClass::kNumber), std::pair("\\p{P}", CharClass::kPunctuation),
                                      std::pair("\\p{S}", CharClass::kSymbol), std::pair("\\s", CharClass::kSpace)}) {
    classes.emplace_back(Pcre2Splitter::Compile(pattern), kind);
  }
  int compared = 0;
  for (uint32_t c = 0; c <= kMaxCodePoint; c += c < 0x30000 ? 1 : 97) {
    if (IsSurrogate(c) || c == 0x180E) continue;
    std::string text;
    AppendUtf8(c, text);
    if (Matches(unassigned, text)) continue;
    ++compared;
    for (const auto& [code, kind] : classes) {
      ASSERT_EQ(Matches(code, text), CharClassTable::Get()[c] == kind) << absl::StrFormat("U+%04X", c);
    }
  }
  EXPECT_GT(compared, 130000);
  pcre2_code_free(unassigned);
  for (const auto& [code, kind] : classes) pcre2_code_free(code);
}

// Golden cases from runs of Hugging Face's tokenizers.
TEST(PretokenizerTest, SplitsAsDeepSeekV3) {
  EXPECT_THAT(Pieces("1234567890"), ElementsAre("123", "456", "789", "0"));
  EXPECT_THAT(Pieces("abc123def"), ElementsAre("abc", "123", "def"));
  EXPECT_THAT(Pieces("  你"), ElementsAre("  ", "你"));
  EXPECT_THAT(Pieces("def foo(x): return x"), ElementsAre("def", " foo", "(x", "):", " return", " x"));
  EXPECT_THAT(Pieces("a   b"), ElementsAre("a", "  ", " b"));
  EXPECT_THAT(Pieces("龥龦한"), ElementsAre("龥", "龦한"));
  EXPECT_THAT(Pieces(""), ElementsAre());
  EXPECT_THAT(Pieces("a \r\n \n  b"), ElementsAre("a", " \r\n \n", " ", " b"));
  EXPECT_THAT(Pieces("a   "), ElementsAre("a", "   "));
  EXPECT_THAT(Pieces("!!\n\nx"), ElementsAre("!!\n\n", "x"));
  EXPECT_THAT(Pieces("\x01\x02x"), ElementsAre("\x01", "\x02x"));
  EXPECT_THAT(Pieces("<｜end▁of▁sentence｜>"), ElementsAre("<｜", "end", "▁", "of", "▁", "sentence", "｜>"));
}

// A tokenizer of each family, as the PyPI package tokenizers wrote it.
std::vector<Pretokenizer> AllFamilies() {
  std::vector<Pretokenizer> families;
  for (const char* name : {"deepseek_v3", "gpt2", "llama3", "qwen2", "qwen35", "o200k", "tekken", "deepseek_v2", "cl100k",
                           "nanochat", "ling", "kimi", "smollm", "digit_runs"}) {
    const auto tokenizer = Tokenizer::Load(SourcePath(absl::StrFormat("tests/golden/tokenizer/%s.json", name)));
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    if (tokenizer.ok()) families.push_back(tokenizer->parts().pretokenizer);
  }
  return families;
}

TEST(PretokenizerTest, AgreesWithPcre2OnRandomText) {
  const std::vector<Pretokenizer> families = AllFamilies();
  std::vector<std::unique_ptr<Pcre2Splitter>> oracles;
  for (const Pretokenizer& family : families) oracles.push_back(std::make_unique<Pcre2Splitter>(family));
  ASSERT_EQ(oracles.size(), 14);
  pcre2_code* unassigned = Pcre2Splitter::Compile("[\\p{Cn}\u180E]");
  std::mt19937_64 random(1);
  int compared = 0;
  for (int i = 0; i < 25000; ++i) {
    const std::string text = RandomUnicode(random);
    if (Matches(unassigned, text)) continue;
    ++compared;
    for (size_t f = 0; f < families.size(); ++f) {
      ASSERT_EQ(Pieces(text, families[f]), oracles[f]->Split(text))
          << testing::PrintToString(text) << " by " << families[f].patterns().back();
    }
  }
  EXPECT_GT(compared, 12000);
  pcre2_code_free(unassigned);
}

TEST(PretokenizerTest, CoversBytesThatAreNotUtf8) {
  std::mt19937_64 random(2);
  const std::vector<Pretokenizer> families = AllFamilies();
  for (int i = 0; i < 14000; ++i) {
    const std::string bytes = RandomBytes(random, 50);
    std::vector<size_t> ends;
    families[i % families.size()].Split(bytes, ends);
    size_t begin = 0;
    for (const size_t end : ends) {
      ASSERT_GT(end, begin);
      begin = end;
    }
    ASSERT_EQ(begin, bytes.size());
  }
}

TEST(PretokenizerTest, RecognisesThePatterns) {
  std::vector<std::string> patterns = Pretokenizer::DeepSeekV3().patterns();
  ASSERT_EQ(patterns.size(), 3);
  EXPECT_TRUE(Pretokenizer::ForPatterns(patterns).ok());
  // The same with line breaks written as escapes.
  std::string& last = patterns.back();
  for (size_t at; (at = last.find('\n')) != std::string::npos;) last.replace(at, 1, "\\n");
  for (size_t at; (at = last.find('\r')) != std::string::npos;) last.replace(at, 1, "\\r");
  EXPECT_TRUE(Pretokenizer::ForPatterns(patterns).ok());
}

TEST(PretokenizerTest, NamesAnUnknownPattern) {
  std::vector<std::string> patterns = Pretokenizer::DeepSeekV3().patterns();
  patterns[1] = "\\w+";
  const absl::Status status = Pretokenizer::ForPatterns(patterns).status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
  EXPECT_THAT(std::string(status.message()), HasSubstr("pattern 2, \"\\w+\""));
  EXPECT_FALSE(Pretokenizer::ForPatterns(std::vector<std::string>(patterns.begin(), patterns.begin() + 1)).ok());
  EXPECT_FALSE(Pretokenizer::ForPatterns({}).ok());
  patterns = Pretokenizer::DeepSeekV3().patterns();
  patterns.push_back("\\s+");
  EXPECT_THAT(std::string(Pretokenizer::ForPatterns(patterns).status().message()), HasSubstr("pattern 4, \"\\s+\""));
}

}  // namespace
}  // namespace jevons
