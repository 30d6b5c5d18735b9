#include "data/tokenizer/tokenizer.h"

#include <random>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "kernels/base/status.h"
#include "tests/data/tokenizer/random_text.h"
#include "tests/data/tokenizer/tiny_tokenizer.h"

namespace jevons {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Ids that Hugging Face's tokenizers 0.23.3 gives for the file that TinyTokenizer().Save writes.
struct Golden {
  absl::string_view text;
  std::vector<int32_t> ids;
};
const Golden kGolden[] = {
    {"In the beginning God", {46, 83, 264, 316, 76, 284, 298, 275}},
    {"And the light was good: and 1234567 nights.\n\n  And",
     {270, 264, 282, 286, 226, 76, 84, 267, 31, 269, 226, 22, 23, 24, 25, 26, 27, 28, 226, 83, 276, 88, 277, 204, 226, 315}},
    {"def foo(x): return x", {73, 74, 75, 281, 84, 84, 13, 93, 14, 31, 226, 285, 89, 90, 87, 83, 226, 93}},
    {"  你好，世界ー。",
     {226, 226, 166, 127, 260, 167, 104, 127, 177, 126, 240, 166, 122, 250, 169, 249, 240, 165, 231, 126, 165, 228, 230}},
    {"<｜begin▁of▁sentence｜>the earth<｜end▁of▁sentence｜>\n", {0, 262, 74, 293, 278, 262, 1, 204}},
    {"Straße\u0301 \U0001F600\r\n\tthe",
     {56, 89, 87, 70, 133, 259, 74, 142, 229, 226, 178, 259, 252, 228, 207, 204, 203, 262, 74}},
    {"<｜fim▁begin｜>ab<｜fim▁hole｜>cd<｜fim▁end｜>", {3, 70, 71, 4, 72, 73, 5}},
};

TEST(TokenizerTest, EncodesAsHuggingFace) {
  const Tokenizer tokenizer = TinyTokenizer();
  for (const Golden& golden : kGolden) {
    EXPECT_EQ(tokenizer.Encode(golden.text, {.specials = SpecialText::kRecognized}), golden.ids) << golden.text;
  }
}

TEST(TokenizerTest, RoundTripsUnicodeAndBytes) {
  const Tokenizer tokenizer = TinyTokenizer();
  std::mt19937_64 random(7);
  for (int i = 0; i < 20000; ++i) {
    const std::string text = i % 2 == 0 ? RandomUnicode(random) : RandomBytes(random, 60);
    const std::vector<int32_t> ids = tokenizer.Encode(text);
    for (const int32_t id : ids) ASSERT_FALSE(tokenizer.IsAddedToken(id));
    ASSERT_EQ(tokenizer.Decode(ids).value(), text);
  }
}

TEST(TokenizerTest, TreatsSpecialsAsTold) {
  const Tokenizer tokenizer = TinyTokenizer();
  const std::string text = absl::StrCat("a", kEosToken, kEosToken, "b<", kBosToken);
  EXPECT_THAT(tokenizer.Encode(text, {.specials = SpecialText::kRecognized}),
              ElementsAre(*tokenizer.TokenId("a"), 1, 1, *tokenizer.TokenId("b"), *tokenizer.TokenId("<"), 0));
  const std::vector<int32_t> plain = tokenizer.Encode(text);
  for (const int32_t id : plain) EXPECT_GE(id, 6);
  EXPECT_EQ(*tokenizer.Decode(plain), text);
  EXPECT_THAT(tokenizer.Encode("", {.add_bos = true}), ElementsAre(0));
  EXPECT_THAT(tokenizer.Encode("a", {.add_bos = true}), ElementsAre(0, *tokenizer.TokenId("a")));
}

TEST(TokenizerTest, TakesTheLeftmostThenLongestAddedToken) {
  TokenizerParts parts = TinyTokenizer().parts();
  const int32_t next = static_cast<int32_t>(parts.vocabulary.size());
  parts.added.push_back({next, "<ab"});
  parts.added.push_back({next + 1, "<abc>"});
  parts.added.push_back({next + 2, "b<"});
  const auto tokenizer = Tokenizer::Create(parts);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto encode = [&](absl::string_view text) { return tokenizer->Encode(text, {.specials = SpecialText::kRecognized}); };
  EXPECT_THAT(encode("<abc>"), ElementsAre(next + 1));
  EXPECT_THAT(encode("<abc"), ElementsAre(next, *tokenizer->TokenId("c")));
  EXPECT_THAT(encode("<ab<abc>"), ElementsAre(next, next + 1));
  EXPECT_THAT(encode("b<abc>"), ElementsAre(next + 2, *tokenizer->TokenId("a"), *tokenizer->TokenId("b"),
                                            *tokenizer->TokenId("c"), *tokenizer->TokenId(">")));
}

TEST(TokenizerTest, LooksUpTokens) {
  const Tokenizer tokenizer = TinyTokenizer();
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const absl::string_view bytes = tokenizer.TokenBytes(id);
    EXPECT_EQ(tokenizer.IsAddedToken(id) ? tokenizer.AddedTokenId(bytes) : tokenizer.TokenId(bytes), id);
  }
  EXPECT_EQ(tokenizer.TokenId("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer.TokenId(kEosToken), std::nullopt);  // text must not find it
  EXPECT_EQ(tokenizer.AddedTokenId("a"), std::nullopt);
}

TEST(TokenizerTest, RefusesToDecodeUnknownIds) {
  const Tokenizer tokenizer = TinyTokenizer();
  for (const int32_t id : {-1, 320, 1 << 30}) {
    const absl::Status status = tokenizer.Decode(std::vector<int32_t>{5, id}).status();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage);
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("token id ", id)));
  }
}

void ExpectRefused(const TokenizerParts& parts, absl::string_view message) {
  const absl::Status status = Tokenizer::Create(parts).status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(message)));
}

TEST(TokenizerTest, RefusesPartsThatDoNotFit) {
  const TokenizerParts good = TinyTokenizer().parts();
  TokenizerParts parts = good;
  parts.added.push_back({321, "<hole>"});
  ExpectRefused(parts, "leaves a hole in the ids; the next free one is 320");
  parts = good;
  parts.added.push_back({-1, "<x>"});
  ExpectRefused(parts, "id -1");
  parts = good;
  parts.added.push_back({320, std::string(kEosToken)});
  ExpectRefused(parts, "the content is given twice");
  parts = good;
  parts.added.push_back({5, "<x>"});
  ExpectRefused(parts, "the id is given twice");
  parts = good;
  parts.added.push_back({300, "<x>"});
  ExpectRefused(parts, "model.vocab has another token there");
  parts = good;
  parts.added.push_back({320, ""});
  ExpectRefused(parts, "the content is empty");
  parts = good;
  parts.added.erase(parts.added.begin() + 1);
  parts.vocabulary[1] = "x y";
  ExpectRefused(parts, "no token ends a document; one of \"<｜end▁of▁sentence｜>\"");
  parts = good;
  parts.vocabulary[319] = parts.vocabulary[300];
  ExpectRefused(parts, "ids 300 and 319 are the same token");
  parts = good;
  parts.vocabulary[6] = "no longer one byte";
  ExpectRefused(parts, "no token for byte 0x21");
  parts = good;
  parts.merges[3].left = 320;
  ExpectRefused(parts, "model.merges[3]: id 320");
  parts = good;
  parts.merges[3].left = -1;
  ExpectRefused(parts, "model.merges[3]: id -1 is not a token of model.vocab");
  parts = good;
  parts.merges[3].result = 7;
  ExpectRefused(parts, "model.merges[3]: the result is not the two tokens joined");
  parts = good;
  parts.merges.push_back(parts.merges[0]);
  ExpectRefused(parts, "model.merges[58]: given twice");
}

}  // namespace
}  // namespace jevons
