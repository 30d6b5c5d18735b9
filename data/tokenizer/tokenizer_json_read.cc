// The reading half of tokenizer.json, the format of Hugging Face's tokenizers: a BPE model with vocab and
// merges, a ByteLevel decoder, and the stages of tokenizer_json_stages.h. What is not so is refused by name.
#include <utility>

#include "absl/strings/str_format.h"
#include "data/tokenizer/byte_alphabet.h"
#include "data/tokenizer/text_file.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/tokenizer_json_stages.h"
#include "kernels/base/status.h"
#include "kernels/base/strict_json.h"

namespace jevons {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxFileBytes = int64_t{1} << 30;

// The tokens as the file writes them, by id; empty where the file has none. A hole costs memory, so there are
// at most as many as tokens.
absl::StatusOr<std::vector<std::string>> ReadVocabulary(const Json& json) {
  if (!json.is_object() || json.empty()) return IntegrityError("model.vocab is missing or not an object");
  const size_t limit = 2 * json.size();
  std::vector<std::string> tokens;
  for (const auto& [token, id] : json.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= limit) {
      return IntegrityError(absl::StrFormat("model.vocab: \"%s\" has id %s; %d tokens may have the ids 0 to %d", token,
                                            ShownJson(id), json.size(), limit - 1));
    }
    if (token.empty()) return IntegrityError("model.vocab: the empty token is not supported");
    const size_t index = id.get<size_t>();
    if (index >= tokens.size()) tokens.resize(index + 1);
    if (!tokens[index].empty()) {
      return IntegrityError(absl::StrFormat("model.vocab: \"%s\" and \"%s\" have the same id %d", tokens[index], token, index));
    }
    tokens[index] = token;
  }
  return tokens;
}

// Merges are "left right", or ["left", "right"] in files of newer versions.
absl::StatusOr<std::pair<std::string, std::string>> ReadPair(const Json& json, absl::string_view where) {
  if (json.is_array() && json.size() == 2 && json[0].is_string() && json[1].is_string()) {
    return std::pair(json[0].get<std::string>(), json[1].get<std::string>());
  }
  if (json.is_string()) {
    const std::string text = json.get<std::string>();
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      return std::pair(text.substr(0, space), text.substr(space + 1));
    }
  }
  return IntegrityError(absl::StrFormat("%s is %s, not a pair of tokens", where, ShownJson(json)));
}

absl::StatusOr<std::vector<Merge>> ReadMerges(const Json& json, const std::vector<std::string>& tokens) {
  if (!json.is_array()) return IntegrityError("model.merges is missing or not a list");
  absl::flat_hash_map<absl::string_view, int32_t> ids;
  for (size_t id = 0; id < tokens.size(); ++id) ids.emplace(tokens[id], static_cast<int32_t>(id));
  std::vector<Merge> merges;
  merges.reserve(json.size());
  for (size_t i = 0; i < json.size(); ++i) {
    const std::string where = absl::StrFormat("model.merges[%d]", i);
    auto pair = ReadPair(json[i], where);
    if (!pair.ok()) return pair.status();
    const auto id_of = [&](const std::string& token) -> absl::StatusOr<int32_t> {
      const auto found = ids.find(token);
      if (found != ids.end()) return found->second;
      return IntegrityError(absl::StrFormat("%s: \"%s\" is not in model.vocab", where, token));
    };
    JEVONS_ASSIGN_OR_RETURN(const int32_t left, id_of(pair->first));
    JEVONS_ASSIGN_OR_RETURN(const int32_t right, id_of(pair->second));
    JEVONS_ASSIGN_OR_RETURN(const int32_t result, id_of(pair->first + pair->second));
    merges.push_back({left, right, result});
  }
  return merges;
}

// From the alphabet to bytes; what is not written in it must be an added token, whose text is literal.
absl::Status TokensToBytes(const std::vector<AddedToken>& added, std::vector<std::string>& tokens) {
  std::set<int32_t> literal;
  for (const AddedToken& token : added) literal.insert(token.id);
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (std::optional<std::string> bytes = AlphabetToBytes(tokens[id])) {
      tokens[id] = *std::move(bytes);
    } else if (!literal.contains(static_cast<int32_t>(id))) {
      return IntegrityError(
          absl::StrFormat("model.vocab: \"%s\" has a character outside the byte alphabet and is no added token", tokens[id]));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Tokenizer> FromParsedJson(const Json& json, EndToken end) {
  JEVONS_RETURN_IF_ERROR(ExpectKeys(
      json, "the file",
      {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"}));
  JEVONS_RETURN_IF_ERROR(Expect(json, "", "version", {"1.0"}));
  for (const char* key : {"truncation", "padding"}) JEVONS_RETURN_IF_ERROR(Expect(json, "", key, {nullptr}));
  JEVONS_RETURN_IF_ERROR(Expect(Member(json, "decoder"), "decoder.", "type", {"ByteLevel"}));
  const Json& model = Member(json, "model");
  JEVONS_RETURN_IF_ERROR(ExpectKeys(model, "model",
                                    {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                                     "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"}));
  JEVONS_RETURN_IF_ERROR(Expect(model, "model.", "type", {"BPE", nullptr}));
  JEVONS_RETURN_IF_ERROR(Expect(model, "model.", "dropout", {nullptr, 0}));
  // Never used: every byte has a token, or Tokenizer::Create refuses the vocabulary.
  if (const Json& unknown = Member(model, "unk_token"); !unknown.is_null() && !unknown.is_string())
    return IntegrityError(absl::StrFormat("model.unk_token is %s, not a string", ShownJson(unknown)));
  for (const char* key : {"fuse_unk", "byte_fallback"}) {
    JEVONS_RETURN_IF_ERROR(Expect(model, "model.", key, {false, true, nullptr}));
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    JEVONS_RETURN_IF_ERROR(Expect(model, "model.", key, {nullptr, ""}));
  }
  JEVONS_RETURN_IF_ERROR(Expect(model, "model.", "ignore_merges", {false, true, nullptr}));
  TokenizerParts parts;
  parts.ignore_merges = Member(model, "ignore_merges") == true;
  JEVONS_ASSIGN_OR_RETURN(parts.nfc, ReadNormalizer(Member(json, "normalizer")));
  JEVONS_ASSIGN_OR_RETURN(parts.pretokenizer, ReadPretokenizer(Member(json, "pre_tokenizer")));
  JEVONS_ASSIGN_OR_RETURN(parts.text_template, ReadPostProcessor(Member(json, "post_processor")));
  JEVONS_ASSIGN_OR_RETURN(parts.added, ReadAddedTokens(Member(json, "added_tokens")));
  JEVONS_ASSIGN_OR_RETURN(parts.vocabulary, ReadVocabulary(Member(model, "vocab")));
  JEVONS_ASSIGN_OR_RETURN(parts.merges, ReadMerges(Member(model, "merges"), parts.vocabulary));
  JEVONS_RETURN_IF_ERROR(TokensToBytes(parts.added, parts.vocabulary));
  return Tokenizer::Create(std::move(parts), end);
}

}  // namespace

absl::StatusOr<Tokenizer> Tokenizer::FromJson(absl::string_view text, absl::string_view name, EndToken end) {
  absl::StatusOr<Json> json = ParseStrictJson(text);
  if (!json.ok()) return Annotate(json.status(), name);
  absl::StatusOr<Tokenizer> tokenizer = FromParsedJson(*json, end);
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), name);
  return tokenizer;
}

absl::StatusOr<Tokenizer> Tokenizer::Load(const std::string& path, EndToken end) {
  JEVONS_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMaxFileBytes));
  return FromJson(text, path, end);
}

}  // namespace jevons
