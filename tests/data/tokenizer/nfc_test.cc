#include "data/tokenizer/nfc.h"

#include <random>

#include "data/tokenizer/unicode.h"
#include "gtest/gtest.h"
#include "tests/data/tokenizer/random_text.h"

namespace jevons {
namespace {

std::string Nfc(absl::string_view text) {
  std::string scratch;
  return std::string(NormalizeNfc(text, scratch));
}

TEST(NfcTest, ComposesAndOrders) {
  EXPECT_EQ(Nfc("cafe\u0301"), "caf\u00e9");
  EXPECT_EQ(Nfc("s\u0307\u0323"), "\u1e69");
  EXPECT_EQ(Nfc("\u212b"), "\u00c5");              // a single
  EXPECT_EQ(Nfc("\u0958"), "\u0915\u093c");        // excluded from composition
  EXPECT_EQ(Nfc("\u0301\u0323"), "\u0323\u0301");  // no starter: ordered only
  EXPECT_EQ(Nfc("\u0344"), "\u0308\u0301");
  EXPECT_EQ(Nfc("e\u0301\u0301"), "\u00e9\u0301");  // the second is blocked
  EXPECT_EQ(Nfc("\u1100\u1161\u11a8"), "\uac01");
  EXPECT_EQ(Nfc("\uac00\u11a8x"), "\uac01x");
  EXPECT_EQ(Nfc("\uac00\u11a7"), "\uac00\u11a7");  // not a trailing consonant
  EXPECT_EQ(Nfc("\U00011131\U00011127"), "\U0001112E");
  EXPECT_EQ(Nfc("a\u0897\u0323"), "a\u0897\u0323");  // younger than the tables: stays
}

TEST(NfcTest, LeavesWhatIsNormalAndWhatIsNotUtf8) {
  const std::string text = "plain, \u00e9\u4f60\uac01";
  std::string scratch;
  EXPECT_EQ(NormalizeNfc(text, scratch).data(), text.data());
  EXPECT_EQ(Nfc(""), "");
  EXPECT_EQ(Nfc("\xFF\u0301"), "\xFF\u0301");
  EXPECT_EQ(Nfc("e\xCC"), "e\xCC");
  EXPECT_EQ(Nfc("e\u0301\xCC\x81"), "\u00e9\u0301");
}

TEST(NfcTest, IsIdempotentAndLocal) {
  std::mt19937_64 random(4);
  for (int i = 0; i < 20000; ++i) {
    const std::string text = i % 4 == 0 ? RandomBytes(random, 40) : RandomUnicode(random);
    const std::string once = Nfc(text);
    ASSERT_EQ(Nfc(once), once) << testing::PrintToString(text);
    ASSERT_EQ(Nfc(text + "." + text), once + "." + once) << testing::PrintToString(text);
  }
}

TEST(ReplaceInvalidUtf8Test, ReplacesMaximalSubparts) {
  EXPECT_EQ(ReplaceInvalidUtf8("a\xC3"), "a\uFFFD");
  EXPECT_EQ(ReplaceInvalidUtf8("\xE4\xBD"), "\uFFFD");  // the beginning of one character
  EXPECT_EQ(ReplaceInvalidUtf8("\xE4\xBDx"), "\uFFFDx");
  EXPECT_EQ(ReplaceInvalidUtf8("\xF0\x9F\x98"), "\uFFFD");
  EXPECT_EQ(ReplaceInvalidUtf8("\xE0\x80\x80"), "\uFFFD\uFFFD\uFFFD");  // overlong: no beginning of anything
  EXPECT_EQ(ReplaceInvalidUtf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");  // a surrogate
  EXPECT_EQ(ReplaceInvalidUtf8("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(ReplaceInvalidUtf8("\x80\xBF\xFF"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(ReplaceInvalidUtf8("caf\u00e9"), "caf\u00e9");
}

}  // namespace
}  // namespace jevons
