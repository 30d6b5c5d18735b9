// The reading half of tokenizer.json, the format of Hugging Face's tokenizers, as DeepSeek-V3's: Sequence of
// Split(Isolated) patterns and ByteLevel; BPE model with vocab and merges; added_tokens; ByteLevel decoder.
// What is not so is refused by name.
#include <initializer_list>
#include <set>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_format.h"
#include "data/tokenizer/byte_alphabet.h"
#include "data/tokenizer/text_file.h"
#include "data/tokenizer/tokenizer.h"
#include "kernels/base/status.h"
#include "nlohmann/json.hpp"

namespace jevons {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxFileBytes = int64_t{1} << 30;
constexpr int kMaxDepth = 16;

std::string Shown(const Json& value) {
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() <= 60 ? text : text.substr(0, 60) + "...";
}

// Refuses duplicate keys, which the parser would silently let overwrite each other, and deep nesting. The
// exceptions do not leave this function.
absl::StatusOr<Json> ParseStrictly(absl::string_view text) {
  std::vector<std::set<std::string>> keys;
  const auto check = [&keys](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxDepth) throw std::runtime_error(absl::StrFormat("nested deeper than %d", kMaxDepth));
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      throw std::runtime_error("duplicate key " + Shown(parsed));
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), check);
  } catch (const std::exception& error) {
    return IntegrityError(absl::StrFormat("not valid JSON: %s", error.what()));
  }
}

// A member of an object, null if it is absent (or if `object` is none).
const Json& Member(const Json& object, const char* key) {
  static const Json null;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found == object.end() ? null : *found;
}

absl::Status Expect(const Json& object, absl::string_view where, const char* key,
                    std::initializer_list<Json> legal) {
  const Json& value = Member(object, key);
  for (const Json& choice : legal) {
    if (value == choice) return absl::OkStatus();
  }
  return IntegrityError(
      absl::StrFormat("%s%s is %s; only %s is supported", where, key, Shown(value), Shown(*legal.begin())));
}

absl::Status ExpectKeys(const Json& object, absl::string_view where,
                        std::initializer_list<const char*> known) {
  if (!object.is_object())
    return IntegrityError(absl::StrFormat("%s is %s, not an object", where, Shown(object)));
  for (const auto& [key, value] : object.items()) {
    bool found = false;
    for (const char* name : known) found = found || key == name;
    if (!found) return IntegrityError(absl::StrFormat("%s has an unknown field \"%s\"", where, key));
  }
  return absl::OkStatus();
}

absl::StatusOr<Pretokenizer> ReadPretokenizer(const Json& json) {
  JEVONS_RETURN_IF_ERROR(Expect(json, "pre_tokenizer.", "type", {"Sequence"}));
  const Json& stages = Member(json, "pretokenizers");
  if (!stages.is_array() || stages.empty())
    return IntegrityError("pre_tokenizer.pretokenizers is not a list");
  std::vector<std::string> patterns;
  for (size_t i = 0; i + 1 < stages.size(); ++i) {
    const std::string where = absl::StrFormat("pre_tokenizer.pretokenizers[%d].", i);
    JEVONS_RETURN_IF_ERROR(Expect(stages[i], where, "type", {"Split"}));
    JEVONS_RETURN_IF_ERROR(Expect(stages[i], where, "behavior", {"Isolated"}));
    JEVONS_RETURN_IF_ERROR(Expect(stages[i], where, "invert", {false, nullptr}));
    const Json& regex = Member(Member(stages[i], "pattern"), "Regex");
    if (!regex.is_string()) return IntegrityError(where + "pattern.Regex is not a string");
    patterns.push_back(regex.get<std::string>());
  }
  const std::string where = absl::StrFormat("pre_tokenizer.pretokenizers[%d].", stages.size() - 1);
  JEVONS_RETURN_IF_ERROR(Expect(stages.back(), where, "type", {"ByteLevel"}));
  JEVONS_RETURN_IF_ERROR(Expect(stages.back(), where, "add_prefix_space", {false}));
  JEVONS_RETURN_IF_ERROR(Expect(stages.back(), where, "use_regex", {false}));
  return Pretokenizer::ForPatterns(patterns);
}

absl::StatusOr<std::vector<AddedToken>> ReadAddedTokens(const Json& json) {
  std::vector<AddedToken> tokens;
  if (!json.is_array()) return IntegrityError("added_tokens is not a list");
  for (size_t i = 0; i < json.size(); ++i) {
    const std::string where = absl::StrFormat("added_tokens[%d]", i);
    JEVONS_RETURN_IF_ERROR(ExpectKeys(
        json[i], where, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}));
    for (const char* key : {"single_word", "lstrip", "rstrip"}) {
      JEVONS_RETURN_IF_ERROR(Expect(json[i], where + ".", key, {false, nullptr}));
    }
    for (const char* key : {"normalized", "special"}) {
      JEVONS_RETURN_IF_ERROR(Expect(json[i], where + ".", key, {true, false, nullptr}));
    }
    const Json& id = Member(json[i], "id");
    const Json& content = Member(json[i], "content");
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX) {
      return IntegrityError(absl::StrFormat("%s.id is %s, not a token id", where, Shown(id)));
    }
    if (!content.is_string()) return IntegrityError(where + ".content is not a string");
    tokens.push_back({id.get<int32_t>(), content.get<std::string>(), Member(json[i], "special") == true,
                      Member(json[i], "normalized") == true});
  }
  return tokens;
}

// The tokens as the file writes them, by id.
absl::StatusOr<std::vector<std::string>> ReadVocabulary(const Json& json) {
  if (!json.is_object() || json.empty()) return IntegrityError("model.vocab is missing or not an object");
  std::vector<std::string> tokens(json.size());
  std::vector<bool> given(json.size(), false);
  for (const auto& [token, id] : json.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= tokens.size()) {
      return IntegrityError(
          absl::StrFormat("model.vocab: \"%s\" has id %s; %d tokens need the ids 0 to %d without holes",
                          token, Shown(id), tokens.size(), tokens.size() - 1));
    }
    const size_t index = id.get<size_t>();
    if (given[index]) {
      return IntegrityError(
          absl::StrFormat("model.vocab: \"%s\" and \"%s\" have the same id %d", tokens[index], token, index));
    }
    given[index] = true;
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
  return IntegrityError(absl::StrFormat("%s is %s, not a pair of tokens", where, Shown(json)));
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

// From the alphabet to bytes, except for the tokens that are added tokens: those are literal.
absl::Status TokensToBytes(const std::vector<AddedToken>& added, std::vector<std::string>& tokens) {
  std::set<int32_t> literal;
  for (const AddedToken& token : added) literal.insert(token.id);
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (literal.contains(static_cast<int32_t>(id))) continue;
    std::optional<std::string> bytes = AlphabetToBytes(tokens[id]);
    if (!bytes) {
      return IntegrityError(absl::StrFormat(
          "model.vocab: \"%s\" has a character outside the byte alphabet and is no added token", tokens[id]));
    }
    tokens[id] = *std::move(bytes);
  }
  return absl::OkStatus();
}

absl::StatusOr<Tokenizer> FromParsedJson(const Json& json) {
  JEVONS_RETURN_IF_ERROR(ExpectKeys(json, "the file",
                                    {"version", "truncation", "padding", "added_tokens", "normalizer",
                                     "pre_tokenizer", "post_processor", "decoder", "model"}));
  JEVONS_RETURN_IF_ERROR(Expect(json, "", "version", {"1.0"}));
  for (const char* key : {"truncation", "padding"}) JEVONS_RETURN_IF_ERROR(Expect(json, "", key, {nullptr}));
  const Json no_normalizer = {{"type", "Sequence"}, {"normalizers", Json::array()}};
  JEVONS_RETURN_IF_ERROR(Expect(json, "", "normalizer", {no_normalizer, nullptr}));
  JEVONS_RETURN_IF_ERROR(
      Expect(Member(json, "post_processor"), "post_processor.", "type", {"ByteLevel", nullptr}));
  JEVONS_RETURN_IF_ERROR(Expect(Member(json, "decoder"), "decoder.", "type", {"ByteLevel"}));
  const Json& model = Member(json, "model");
  JEVONS_RETURN_IF_ERROR(
      ExpectKeys(model, "model",
                 {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                  "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"}));
  JEVONS_RETURN_IF_ERROR(Expect(model, "model.", "type", {"BPE"}));
  for (const char* key : {"dropout", "unk_token"})
    JEVONS_RETURN_IF_ERROR(Expect(model, "model.", key, {nullptr}));
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    JEVONS_RETURN_IF_ERROR(Expect(model, "model.", key, {nullptr, ""}));
  }
  for (const char* key : {"fuse_unk", "byte_fallback", "ignore_merges"}) {
    JEVONS_RETURN_IF_ERROR(Expect(model, "model.", key, {false, nullptr}));
  }
  TokenizerParts parts;
  JEVONS_ASSIGN_OR_RETURN(parts.pretokenizer, ReadPretokenizer(Member(json, "pre_tokenizer")));
  JEVONS_ASSIGN_OR_RETURN(parts.added, ReadAddedTokens(Member(json, "added_tokens")));
  JEVONS_ASSIGN_OR_RETURN(parts.vocabulary, ReadVocabulary(Member(model, "vocab")));
  JEVONS_ASSIGN_OR_RETURN(parts.merges, ReadMerges(Member(model, "merges"), parts.vocabulary));
  JEVONS_RETURN_IF_ERROR(TokensToBytes(parts.added, parts.vocabulary));
  return Tokenizer::Create(std::move(parts));
}

}  // namespace

absl::StatusOr<Tokenizer> Tokenizer::FromJson(absl::string_view text, absl::string_view name) {
  absl::StatusOr<Json> json = ParseStrictly(text);
  if (!json.ok()) return Annotate(json.status(), name);
  absl::StatusOr<Tokenizer> tokenizer = FromParsedJson(*json);
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), name);
  return tokenizer;
}

absl::StatusOr<Tokenizer> Tokenizer::Load(const std::string& path) {
  JEVONS_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMaxFileBytes));
  return FromJson(text, path);
}

}  // namespace jevons
