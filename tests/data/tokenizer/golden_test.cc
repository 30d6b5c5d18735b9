// The known families against the PyPI package tokenizers, from what tests/oracle/make_tokenizer_golden.py
// wrote.
#include <array>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "data/tokenizer/encoder.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/unicode.h"
#include "gmock/gmock.h"
#include "tests/data/tokenizer/random_text.h"
#include "tests/support/paths.h"

namespace jevons {
namespace {

using Json = nlohmann::json;

std::string Folder() { return SourcePath("tests/golden/tokenizer/"); }

const Json& Cases() {
  static const Json cases = Json::parse(std::ifstream(Folder() + "cases.json"));
  return cases;
}

// As zlib's: polynomial 0xEDB88320, reflected.
class Crc32 {
 public:
  Crc32() {
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0);
      table_[i] = value;
    }
  }
  void Add(absl::string_view bytes) {
    for (const char byte : bytes) state_ = state_ >> 8 ^ table_[(state_ ^ static_cast<unsigned char>(byte)) & 0xFF];
  }
  uint32_t value() const { return ~state_; }

 private:
  std::array<uint32_t, 256> table_;
  uint32_t state_ = ~uint32_t{0};
};

class GoldenTest : public testing::TestWithParam<const char*> {
 protected:
  GoldenTest() : tokenizer_(Tokenizer::Load(Folder() + GetParam() + ".json").value()) {}
  const Json& golden() const { return Cases()["families"][GetParam()]; }
  static void ExpectTexts(const Tokenizer& tokenizer, const Json& golden) {
    for (size_t i = 0; i < Cases()["texts"].size(); ++i) {
      const auto text = Cases()["texts"][i].get<std::string>();
      ASSERT_EQ(tokenizer.Encode(text, {.specials = SpecialText::kRecognized}), golden["ids"][i].get<std::vector<int32_t>>())
          << testing::PrintToString(text);
    }
  }
  const Tokenizer tokenizer_;
};

TEST_P(GoldenTest, EncodesAsThePackage) { ExpectTexts(tokenizer_, golden()); }

TEST_P(GoldenTest, DecodesAsThePackage) {
  for (const Json& pair : golden()["decoded"]) {
    const auto bytes = tokenizer_.Decode(pair[0].get<std::vector<int32_t>>());
    ASSERT_TRUE(bytes.ok());
    EXPECT_EQ(ReplaceInvalidUtf8(*bytes), pair[1].get<std::string>()) << pair[0].dump();
  }
}

TEST_P(GoldenTest, EveryCodePointIsAsInThePackage) {
  Encoder encoder(tokenizer_);
  for (size_t i = 0; i < Cases()["contexts"].size(); ++i) {
    const auto context = Cases()["contexts"][i].get<std::string>();
    Crc32 checksum;
    for (uint32_t c = 0; c <= kMaxCodePoint; c += c < 0x20000 ? 1 : 97) {
      if (IsSurrogate(c)) continue;
      std::string character;
      AppendUtf8(c, character);
      std::vector<int32_t> ids;
      encoder.Append(absl::StrReplaceAll(context, {{"{0}", character}}), SpecialText::kRecognized, ids);
      checksum.Add(absl::StrJoin(ids, ",") + "\n");
    }
    EXPECT_EQ(checksum.value(), golden()["checksums"][i].get<uint32_t>()) << context;
  }
}

TEST_P(GoldenTest, AddsTheTemplateOnRequest) {
  const auto with = golden()["with_template"].get<std::vector<int32_t>>();
  const TextTemplate& around = tokenizer_.parts().text_template;
  std::vector<int32_t> ids = tokenizer_.Encode("the end", {.specials = SpecialText::kRecognized, .add_bos = true});
  if (around.json.empty()) {  // the package adds nothing then, and we the beginning token
    EXPECT_EQ(ids.front(), tokenizer_.bos_id());
    ids.erase(ids.begin());
  }
  EXPECT_EQ(ids, with);
}

TEST_P(GoldenTest, WritesWhatItRead) {
  const std::string json = tokenizer_.ToJson();
  const auto again = Tokenizer::FromJson(json, "f");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->ToJson(), json);
  EXPECT_EQ(again->parts().added, tokenizer_.parts().added);
  EXPECT_EQ(again->parts().text_template, tokenizer_.parts().text_template);
  EXPECT_EQ(again->parts().pretokenizer.patterns(), tokenizer_.parts().pretokenizer.patterns());
  EXPECT_EQ(again->parts().pretokenizer.digits(), tokenizer_.parts().pretokenizer.digits());
  ExpectTexts(*again, golden());
  // Field by field what the package wrote, but for two spellings of the same.
  Json read = Json::parse(std::ifstream(Folder() + GetParam() + ".json")), written = Json::parse(json);
  EXPECT_EQ(written["model"]["vocab"], read["model"]["vocab"]);
  EXPECT_EQ(written["added_tokens"], read["added_tokens"]);
  EXPECT_EQ(written["model"].value("ignore_merges", false), read["model"].value("ignore_merges", false));
  EXPECT_EQ(written["normalizer"]["type"] == "NFC", read["normalizer"].is_object());
}

TEST_P(GoldenTest, RoundTripsPlainText) {
  std::mt19937_64 random(3);
  const bool changes =
      tokenizer_.parts().nfc || tokenizer_.parts().pretokenizer.add_prefix_space() || !tokenizer_.TokenId("\xFF");
  for (int i = 0; i < 2000; ++i) {
    const std::string text = i % 2 == 0 ? RandomUnicode(random) : RandomBytes(random, 60);
    const std::string back = tokenizer_.Decode(tokenizer_.Encode(text)).value();
    if (!changes) {
      ASSERT_EQ(back, text);
    }
    ASSERT_EQ(tokenizer_.Decode(tokenizer_.Encode(back)).value(), back);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenTest,
                         testing::Values("deepseek_v3", "gpt2", "gpt2_prefix", "llama3", "qwen2", "qwen35", "o200k", "tekken",
                                         "deepseek_v2", "cl100k", "nanochat", "ling", "kimi", "smollm", "digit_runs"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Utf8AlphabetTest, WhatNoCharacterHasIsTheReplacementCharacter) {
  const Tokenizer tokenizer = Tokenizer::Load(Folder() + "deepseek_v2.json").value();
  EXPECT_EQ(tokenizer.Encode("a\xFF"), tokenizer.Encode("a\uFFFD"));
  EXPECT_EQ(*tokenizer.Decode(tokenizer.Encode("a\x80\xC0\xF5")), "a\x80\uFFFD\uFFFD");
  TokenizerParts parts = tokenizer.parts();
  for (std::string& bytes : parts.vocabulary) {
    if (bytes == "\xF4") bytes = "some other token";
  }
  EXPECT_THAT(std::string(Tokenizer::Create(parts).status().message()), testing::HasSubstr("no token for byte 0xf4"));
}

TEST(SpecialTokensTest, AreFoundByTheirNames) {
  const auto load = [](absl::string_view name) { return Tokenizer::Load(absl::StrCat(Folder(), name, ".json")).value(); };
  const Tokenizer gpt2 = load("gpt2"), llama3 = load("llama3"), tekken = load("tekken");
  EXPECT_EQ(gpt2.eos_id(), *gpt2.AddedTokenId("<|endoftext|>"));
  EXPECT_EQ(gpt2.bos_id(), gpt2.eos_id());
  EXPECT_EQ(gpt2.pad_id(), gpt2.eos_id());
  EXPECT_EQ(llama3.eos_id(), *llama3.AddedTokenId("<|end_of_text|>"));
  EXPECT_EQ(llama3.bos_id(), *llama3.AddedTokenId("<|begin_of_text|>"));
  EXPECT_EQ(tekken.eos_id(), *tekken.AddedTokenId("</s>"));
  EXPECT_EQ(tekken.bos_id(), *tekken.AddedTokenId("<s>"));
  EXPECT_EQ(load("kimi").eos_id(), *load("kimi").AddedTokenId("[EOS]"));
}

}  // namespace
}  // namespace jevons
