#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "data/tokenizer/tokenizer.h"
#include "gmock/gmock.h"
#include "kernels/base/status.h"
#include "tests/data/tokenizer/tiny_tokenizer.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

TEST(TokenizerJsonTest, SaveThenLoadIsTheSame) {
  const Tokenizer tokenizer = TinyTokenizer();
  const TempFolder folder;
  const std::string path = folder / "tokenizer.json";
  ASSERT_TRUE(tokenizer.Save(path).ok());
  EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
  const auto loaded = Tokenizer::Load(path);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->parts().vocabulary, tokenizer.parts().vocabulary);
  EXPECT_EQ(loaded->parts().merges, tokenizer.parts().merges);
  EXPECT_EQ(loaded->parts().added, tokenizer.parts().added);
  EXPECT_EQ(loaded->ToJson(), tokenizer.ToJson());
  EXPECT_EQ(loaded->Encode(kGenesis), tokenizer.Encode(kGenesis));
  ASSERT_TRUE(loaded->Save(path).ok());  // over the old one
  std::stringstream bytes;
  bytes << std::ifstream(path, std::ios::binary).rdbuf();
  EXPECT_EQ(bytes.str(), tokenizer.ToJson());
}

// As in files of newer versions, and with added tokens beyond the vocabulary, as in DeepSeek's.
TEST(TokenizerJsonTest, ReadsMergesAsLists) {
  const std::string json = TinyTokenizer(263).ToJson();
  const std::string listed = absl::StrReplaceAll(json, {{"\"t h\"", "[\"t\", \"h\"]"}});
  ASSERT_NE(json, listed);
  const auto loaded = Tokenizer::FromJson(listed, "f");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->ToJson(), json);
}

TEST(TokenizerJsonTest, ReadsAddedTokensBeyondTheVocabulary) {
  TokenizerParts parts = TinyTokenizer().parts();
  parts.added.push_back({320, "<think>", /*special=*/false, /*normalized=*/true});
  parts.added.push_back({321, "é ü"});
  const auto tokenizer = Tokenizer::Create(parts);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(tokenizer->vocab_size(), 322);
  const auto loaded = Tokenizer::FromJson(tokenizer->ToJson(), "f");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->parts().added, parts.added);
  EXPECT_EQ(loaded->TokenBytes(321), "é ü");
}

TEST(TokenizerJsonTest, LoadNamesTheFile) {
  const absl::Status missing = Tokenizer::Load("/no/such/tokenizer.json").status();
  EXPECT_EQ(ExitCodeOf(missing), ExitCode::kIntegrity);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("/no/such/tokenizer.json: cannot open: No such file"));
  EXPECT_THAT(std::string(Tokenizer::Load("/tmp").status().message()), HasSubstr("/tmp: not a regular file"));
}

TEST(TokenizerJsonTest, SaveSaysWhyItCannot) {
  const absl::Status status = TinyTokenizer(262).Save("/no/such/folder/tokenizer.json");
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kFailure);
  EXPECT_THAT(std::string(status.message()), HasSubstr("cannot create: No such file"));
}

void ExpectRefused(const std::string& json, absl::string_view message) {
  const absl::Status status = Tokenizer::FromJson(json, "some/tokenizer.json").status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity) << message;
  EXPECT_THAT(std::string(status.message()), HasSubstr("some/tokenizer.json: "));
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(message)));
}

TEST(TokenizerJsonTest, RefusesEveryTruncation) {
  const std::string json = TinyTokenizer(263).ToJson();
  for (size_t size = 0; size + 2 < json.size(); size += 37) ExpectRefused(json.substr(0, size), "not valid JSON");
  ExpectRefused(json + "x", "not valid JSON");
  const auto quoted = Tokenizer::FromJson("[" + std::string(100'000, '1') + "]", "x.json");
  EXPECT_LT(quoted.status().message().size(), 1000u);
  ExpectRefused(std::string(100000, '['), "nested deeper than 16");
}

struct Mutation {
  absl::string_view from;
  absl::string_view to;
  absl::string_view message;
};

class TokenizerJsonMutationTest : public testing::TestWithParam<Mutation> {};

TEST_P(TokenizerJsonMutationTest, IsRefusedByName) {
  static const std::string json = TinyTokenizer(263).ToJson();
  const size_t at = json.find(GetParam().from.data(), 0, GetParam().from.size());
  ASSERT_NE(at, std::string::npos) << GetParam().from;
  std::string mutated = json;
  mutated.replace(at, GetParam().from.size(), GetParam().to.data(), GetParam().to.size());
  ExpectRefused(mutated, GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    All, TokenizerJsonMutationTest,
    testing::Values(
        Mutation{"\"merges\"", "\"mergers\"", "model has an unknown field \"mergers\""},
        Mutation{"\"merges\": [", "\"fuse_unk2\": [", "unknown field"},
        Mutation{"\"t h\"", "\"t hh\"", "model.merges[0]: \"hh\" is not in model.vocab"},
        Mutation{"\"t h\"", "\"th\"", "model.merges[0] is \"th\", not a pair of tokens"},
        Mutation{"\"t h\"", "\"t h e\"", "not a pair of tokens"}, Mutation{"\"t h\"", "[\"t\"]", "not a pair of tokens"},
        Mutation{"\"t h\"", "7", "not a pair of tokens"}, Mutation{"\"t h\"", "\"h t\"", "\"ht\" is not in model.vocab"},
        Mutation{"\"t h\"", "\"t h\", \"t h\"", "model.merges[1]: given twice"},
        Mutation{"\"th\": 262", "\"th\": 526", "has id 526; 263 tokens may have the ids 0 to 525"},
        Mutation{"\"th\": 262", "\"th\": 261", "have the same id 261"}, Mutation{"\"th\": 262", "\"th\": -1", "has id -1"},
        Mutation{"\"th\": 262", "\"th\": 1.5", "has id 1.5"}, Mutation{"\"th\": 262", "\"th\": \"262\"", "has id \"262\""},
        Mutation{"\"th\": 262", "\"a\": 262", "duplicate key \"a\""},
        Mutation{"\"~\": 99", "\"~ ~\": 99", "\"~ ~\" has a character outside the byte alphabet"},
        Mutation{"\"version\": \"1.0\"", "\"version\": \"2.0\"", "version is \"2.0\"; only \"1.0\""},
        Mutation{"\"version\": \"1.0\"", "\"version\": \"1.0\", \"version\": \"1.0\"", "duplicate key \"version\""},
        Mutation{"\"version\": \"1.0\"", "\"version\": \"1.0\", \"extra\": 1", "unknown field \"extra\""},
        Mutation{"\"truncation\": null", "\"truncation\": {}", "truncation is {}; only null"},
        Mutation{"\"normalizers\": []", "\"normalizers\": [{\"type\":\"NFKC\"}]", "normalizer is {\"type\":\"NFKC\"}; only NFC"},
        Mutation{"\\\\p{N}{1,3}", "\\\\p{N}", "pattern 1, \"\\p{N}\", is not known"},
        Mutation{"\"Isolated\"", "\"Removed\"", "pre_tokenizer.pretokenizers[0].behavior is \"Removed\""},
        Mutation{"\"invert\": false", "\"invert\": true", "pretokenizers[0].invert is true"},
        Mutation{"\"Regex\"", "\"String\"", "pre_tokenizer.pretokenizers[0].pattern.Regex is not a string"},
        Mutation{"\"add_prefix_space\": false", "\"add_prefix_space\": true", "pretokenizers[3].add_prefix_space"},
        Mutation{"\"use_regex\": false", "\"use_regex\": true", "pretokenizers[3].use_regex is true"},
        Mutation{"\"type\": \"BPE\"", "\"type\": \"Unigram\"", "model.type is \"Unigram\"; only \"BPE\""},
        Mutation{"\"dropout\": null", "\"dropout\": 0.1", "model.dropout is 0.1"},
        Mutation{"\"byte_fallback\": false", "\"byte_fallback\": 3", "model.byte_fallback is 3"},
        Mutation{"\"unk_token\": null", "\"unk_token\": 3", "model.unk_token is 3, not a string"},
        Mutation{"\"single_word\": false", "\"single_word\": true", "added_tokens[0].single_word is true"},
        Mutation{"\"special\": true", "\"special\": 3", "added_tokens[0].special is 3"},
        Mutation{"\"added_tokens\": [", "\"added_tokens\": [{\"id\": 300, \"content\": \"x\"},",
                 "leaves a hole in the ids; the next free one is 263"},
        Mutation{"\"id\": 5", "\"id\": 99999999999999999999", "added_tokens[5].id is"},
        Mutation{"\"added_tokens\": [", "\"added_tokens\": [{\"id\": 4, \"content\": \"x\"},",
                 "model.vocab has another token there"},
        Mutation{"\"content\": ", "\"content\": 1, \"c\": ", "added_tokens[0] has an unknown field \"c\""}));

// What the other families' files may say, and what is refused there.
std::string Llama3Json(absl::string_view from = "", absl::string_view to = "") {
  std::stringstream text;
  text << std::ifstream(SourcePath("tests/golden/tokenizer/llama3.json"), std::ios::binary).rdbuf();
  const std::string json = from.empty() ? text.str() : absl::StrReplaceAll(text.str(), {{from, to}});
  EXPECT_TRUE(from.empty() || json != text.str()) << from;
  return json;
}

TEST(TokenizerStagesTest, RefusesByName) {
  ExpectRefused(Llama3Json("\"type\":\"TemplateProcessing\"", "\"type\":\"RobertaProcessing\""),
                "post_processor.type is \"RobertaProcessing\"; only \"ByteLevel\"");
  ExpectRefused(Llama3Json("\"id\":\"A\"", "\"id\":\"C\""), "only special tokens around one text are supported");
  ExpectRefused(Llama3Json("\"special_tokens\":{", "\"special_tokens\":{},\"other\":{"),
                "\"<|begin_of_text|>\" is not in special_tokens");
  ExpectRefused(Llama3Json("\"ids\":[400]", "\"ids\":[100000]"), "post_processor: id 100000 is not a token");
  ExpectRefused(Llama3Json("\"ids\":[400]", "\"ids\":[-1]"), "-1 is not a token id");
  std::string many = "[400";
  for (int i = 0; i < 1024; ++i) many += ",400";
  ExpectRefused(Llama3Json("\"ids\":[400]", "\"ids\":" + many + "]"), "more than 1024 tokens on a side");
  ExpectRefused(Llama3Json("{\"SpecialToken\":{\"id\":\"<|begin_of_text|>\"", "{\"SpecialToken\":{\"id\":[400]"),
                "[400] is not in special_tokens");
  ExpectRefused(Llama3Json("\"ignore_merges\":true", "\"ignore_merges\":1"), "model.ignore_merges is 1");
  ExpectRefused(Llama3Json("\"normalizer\":null", "\"normalizer\":{\"type\":\"Lowercase\"}"),
                "normalizer.type is \"Lowercase\"; only \"NFC\"");
  ExpectRefused(Llama3Json("\"Isolated\",\"invert\":false", "\"Removed\",\"invert\":false"),
                "pretokenizers[0].behavior is \"Removed\"");
  ExpectRefused(Llama3Json("{1,3}", "{1,4}"), "is not known; known are the patterns of DeepSeek-V3, GPT-2, Llama 3");
  ExpectRefused(Llama3Json("<|end_of_text|>", "<|other|>"), "no token ends a document");
  ExpectRefused(Llama3Json("\"type\":\"Sequence\",\"pretokenizers\"", "\"type\":\"Digits\",\"pretokenizers\""),
                "pre_tokenizer.type is \"Digits\"");
  const std::string digits = "{\"type\":\"Digits\",\"individual_digits\":true},";
  ExpectRefused(Llama3Json("{\"type\":\"Split\"", digits + digits + "{\"type\":\"Split\""),
                "pre_tokenizer.pretokenizers[1].type is \"Digits\"; only one is supported, before or behind "
                "all Split stages");
  ExpectRefused(Llama3Json("{\"type\":\"Split\"", "{\"type\":\"Digits\"},{\"type\":\"Split\""),
                "pretokenizers[0].individual_digits is null");
  ExpectRefused(Llama3Json("{\"type\":\"Split\"", "{\"type\":\"Punctuation\"},{\"type\":\"Split\""),
                "pre_tokenizer.pretokenizers[0].type is \"Punctuation\"; only \"Split\"");
  ExpectRefused(Llama3Json("\"added_tokens\":[", "\"added_tokens\":[{\"id\":0,\"content\":\"!\",\"ends_documents\":1},"),
                "added_tokens[0].ends_documents is 1");
  ExpectRefused(Llama3Json("\"special\":true}", "\"special\":true,\"ends_documents\":true}"), "both end documents");
}

TEST(TokenizerStagesTest, AcceptsOtherSpellings) {
  const std::vector<int32_t> ids = Tokenizer::FromJson(Llama3Json(), "f")->Encode("It's 1984.\n");
  for (const auto& [from, to] :
       {std::pair("\"Isolated\",\"invert\":false", "\"Removed\",\"invert\":true"),
        std::pair("\"normalizer\":null", "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]}"),
        std::pair("\"unk_token\":null", "\"unk_token\":\"<unk>\""),
        std::pair("\"byte_fallback\":false", "\"byte_fallback\":true"), std::pair("\"fuse_unk\":false", "\"fuse_unk\":true"),
        std::pair("\"dropout\":null", "\"dropout\":0.0"), std::pair("\"type\":\"BPE\",", "")}) {
    const auto tokenizer = Tokenizer::FromJson(Llama3Json(from, to), "f");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_EQ(tokenizer->Encode("It's 1984.\n"), ids);
  }
  EXPECT_TRUE(Tokenizer::FromJson(Llama3Json("\"type\":\"BPE\",", ""), "f").ok());
}

TEST(TokenizerStagesTest, NeedsNoEndTokenToEncode) {
  const auto tokenizer = Tokenizer::FromJson(Llama3Json("<|end_of_text|>", "<|other|>"), "f", EndToken::kOptional);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(tokenizer->eos_id(), -1);
  EXPECT_EQ(tokenizer->bos_id(), *tokenizer->AddedTokenId("<|begin_of_text|>"));
}

TEST(TokenizerStagesTest, TheEndTokenIsTheOneThatIsMarked) {
  const Tokenizer tokenizer = Tokenizer::FromJson(Llama3Json(), "f").value();
  const auto marked = tokenizer.WithEndToken("<left>");
  ASSERT_TRUE(marked.ok()) << marked.status();
  EXPECT_EQ(marked->eos_id(), *tokenizer.AddedTokenId("<left>"));
  EXPECT_EQ(Tokenizer::FromJson(marked->ToJson(), "f")->eos_id(), marked->eos_id());
  EXPECT_EQ(marked->WithEndToken("<right>")->eos_id(), *tokenizer.AddedTokenId("<right>"));
  const absl::Status status = tokenizer.WithEndToken("the earth").status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage);
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"the earth\" is no added token; some are \"<|begin_of_text|>\""));
}

TEST(TokenizerStagesTest, KeepsHolesInTheVocabulary) {
  TokenizerParts parts = TinyTokenizer(263).parts();
  const std::vector<int32_t> ids = Tokenizer::Create(parts)->Encode("th the");
  parts.vocabulary.resize(270);
  parts.vocabulary.push_back("<|endoftext|>");
  parts.added.push_back({270, "<|endoftext|>"});
  const auto holed = Tokenizer::Create(parts);
  ASSERT_TRUE(holed.ok()) << holed.status();
  EXPECT_EQ(holed->vocab_size(), 271);
  EXPECT_EQ(holed->Encode("th the"), ids);
  EXPECT_EQ(*holed->Decode(std::vector<int32_t>{265, 270}), "<|endoftext|>");
  const auto again = Tokenizer::FromJson(holed->ToJson(), "f");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->parts().vocabulary, parts.vocabulary);
  parts.added.push_back({271, "<x>"});  // after the highest added one, as the package numbers it
  EXPECT_TRUE(Tokenizer::Create(parts).ok());
  parts.added.erase(parts.added.end() - 2);
  EXPECT_THAT(std::string(Tokenizer::Create(parts).status().message()), HasSubstr("would give it the id 264"));
}

}  // namespace
}  // namespace jevons
