#include "data/tokenizer/encoder.h"

#include <random>

#include "gtest/gtest.h"
#include "tests/data/tokenizer/random_text.h"
#include "tests/data/tokenizer/tiny_tokenizer.h"

namespace jevons {
namespace {

TEST(EncoderTest, MemoryDoesNotChangeTheResult) {
  const Tokenizer tokenizer = TinyTokenizer();
  Encoder encoder(tokenizer);
  std::mt19937_64 random(6);
  for (int i = 0; i < 20000; ++i) {
    const std::string text =
        i % 2 == 0 ? RandomUnicode(random) : std::string(kGenesis.substr(random() % kGenesis.size(), random() % 60));
    std::vector<int32_t> ids;
    encoder.Append(text, SpecialText::kPlain, ids);
    ASSERT_EQ(ids, tokenizer.Encode(text)) << text;
  }
}

TEST(EncoderTest, ForgetsWhenFull) {
  const Tokenizer tokenizer = TinyTokenizer();
  Encoder encoder(tokenizer);
  std::vector<int32_t> ids;
  std::string expected;
  for (int i = 0; i < 300000; ++i) {  // more distinct words than the memory holds
    const std::string word =
        " the" + std::string(1 + i % 26, 'a') + std::string(1 + i / 26 % 120, 'b') + std::string(1 + i / 3120, 'c');
    encoder.Append(word, SpecialText::kPlain, ids);
    if (i % 1000 == 0) {
      ASSERT_EQ(tokenizer.Decode(ids).value().substr(expected.size()), word);
      ids.clear();
      expected.clear();
    } else {
      ids.clear();
    }
  }
  encoder.Append(kGenesis, SpecialText::kPlain, ids);
  EXPECT_EQ(ids, tokenizer.Encode(kGenesis));
}

TEST(EncoderTest, Appends) {
  const Tokenizer tokenizer = TinyTokenizer();
  Encoder encoder(tokenizer);
  std::vector<int32_t> ids = {7};
  encoder.Append("", SpecialText::kPlain, ids);
  EXPECT_EQ(ids, std::vector<int32_t>{7});
  encoder.Append("the", SpecialText::kPlain, ids);
  encoder.Append("the", SpecialText::kPlain, ids);
  ASSERT_GE(ids.size(), 3);
  EXPECT_EQ(*tokenizer.Decode(std::span(ids).subspan(1)), "thethe");
}

}  // namespace
}  // namespace jevons
