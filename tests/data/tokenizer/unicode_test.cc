#include "data/tokenizer/unicode.h"

#include <array>
#include <random>

#include "data/tokenizer/byte_alphabet.h"
#include "gtest/gtest.h"
#include "tests/data/tokenizer/random_text.h"

namespace jevons {
namespace {

TEST(CharClassTest, HasTheCountsOfUnicode16) {
  std::array<int, 9> counts = {};
  for (uint32_t c = 0; c <= kMaxCodePoint; ++c) ++counts[static_cast<int>(CharClassTable::Get()[c])];
  EXPECT_EQ(counts[static_cast<int>(CharClass::kUpper)], 1889);
  EXPECT_EQ(counts[static_cast<int>(CharClass::kLower)], 2258);
  EXPECT_EQ(counts[static_cast<int>(CharClass::kLetter)], 136881);
  EXPECT_EQ(counts[static_cast<int>(CharClass::kMark)], 2501);
  EXPECT_EQ(counts[static_cast<int>(CharClass::kNumber)], 1911);
  EXPECT_EQ(counts[static_cast<int>(CharClass::kPunctuation)], 855);
  EXPECT_EQ(counts[static_cast<int>(CharClass::kSymbol)], 8514);
  EXPECT_EQ(counts[static_cast<int>(CharClass::kSpace)], 25);
}

TEST(CharClassTest, KnowsCharactersOfEachClass) {
  const CharClassTable& table = CharClassTable::Get();
  for (const uint32_t c : {0x41u, 0xE9u, 0x4E00u, 0x9FFFu, 0x10D4Au /* new in 16.0 */, 0x2EBF0u /* 15.1 */}) {
    EXPECT_TRUE(IsLetter(table[c])) << c;
  }
  for (const uint32_t c : {0x300u, 0x903u, 0x20E3u, 0xE0100u}) EXPECT_EQ(table[c], CharClass::kMark) << c;
  for (const uint32_t c : {0x30u, 0xB2u, 0x2167u, 0x3007u}) EXPECT_EQ(table[c], CharClass::kNumber) << c;
  for (const uint32_t c : {0x21u, 0x5Fu, 0x3001u}) EXPECT_EQ(table[c], CharClass::kPunctuation) << c;
  for (const uint32_t c : {0x24u, 0xFF5Cu, 0x1F600u}) EXPECT_EQ(table[c], CharClass::kSymbol) << c;
  for (const uint32_t c : {0x09u, 0x20u, 0x85u, 0x3000u}) EXPECT_EQ(table[c], CharClass::kSpace) << c;
  for (const uint32_t c : {0x00u, 0x180Eu, 0x200Bu, 0xD800u, 0xE000u, 0x10FFFFu, kInvalidByte, 0xFFFFFFFFu}) {
    EXPECT_EQ(table[c], CharClass::kOther) << c;
  }
}

TEST(Utf8Test, DecodesEveryCodePoint) {
  for (uint32_t c = 0; c <= kMaxCodePoint; ++c) {
    std::string text;
    AppendUtf8(c, text);
    const DecodedChar decoded = DecodeUtf8(text);
    ASSERT_EQ(decoded.code_point, IsSurrogate(c) ? kInvalidByte : c);
    ASSERT_EQ(decoded.size, IsSurrogate(c) ? 1 : text.size()) << c;
    ASSERT_EQ(FirstInvalidUtf8(text), IsSurrogate(c) ? 0 : text.size()) << c;
    if (text.size() > 1) {
      ASSERT_EQ(DecodeUtf8(absl::string_view(text).substr(0, text.size() - 1)).code_point, kInvalidByte) << c;
    }
  }
}

TEST(Utf8Test, RefusesIllFormedBytes) {
  for (const absl::string_view bad : {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF",
                                      "\xF4\x90\x80\x80", "\xF8\x88\x80\x80\x80", "\xFF", "\xC3", "\xC3x"}) {
    EXPECT_EQ(DecodeUtf8(bad).code_point, kInvalidByte);
    EXPECT_EQ(DecodeUtf8(bad).size, 1);
    for (const size_t before : {0, 1, 7, 8, 9, 20}) {
      EXPECT_EQ(FirstInvalidUtf8(std::string(before, 'a') + std::string(bad) + "after"), before);
    }
  }
}

TEST(ByteAlphabetTest, IsABijectionWithKnownCharacters) {
  std::string all;
  for (const uint8_t byte : BytesInAlphabetOrder()) all += static_cast<char>(byte);
  ASSERT_EQ(all.size(), 256);
  EXPECT_EQ(AlphabetToBytes(BytesToAlphabet(all)), all);
  EXPECT_EQ(all[0], '!');
  EXPECT_EQ(BytesToAlphabet(" a\n\xAD"), "\u0120a\u010A\u0143");
  EXPECT_EQ(AlphabetToBytes("a b"), std::nullopt);     // a space never stands for itself
  EXPECT_EQ(AlphabetToBytes("\u0144"), std::nullopt);  // the first character beyond the alphabet
  EXPECT_EQ(AlphabetToBytes("\xFF"), std::nullopt);
}

}  // namespace
}  // namespace jevons
