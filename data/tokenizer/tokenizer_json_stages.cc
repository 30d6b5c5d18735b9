#include "data/tokenizer/tokenizer_json_stages.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/status.h"
#include "kernels/base/strict_json.h"

namespace jevons {

using Json = nlohmann::json;

const Json& Member(const Json& object, const std::string& key) {
  static const Json null;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found == object.end() ? null : *found;
}

absl::Status Expect(const Json& object, absl::string_view where, const char* key, std::initializer_list<Json> legal) {
  const Json& value = Member(object, key);
  for (const Json& choice : legal) {
    if (value == choice) return absl::OkStatus();
  }
  return IntegrityError(
      absl::StrFormat("%s%s is %s; only %s is supported", where, key, ShownJson(value), ShownJson(*legal.begin())));
}

absl::Status ExpectKeys(const Json& object, absl::string_view where, std::initializer_list<const char*> known) {
  if (!object.is_object()) return IntegrityError(absl::StrFormat("%s is %s, not an object", where, ShownJson(object)));
  for (const auto& [key, value] : object.items()) {
    bool found = false;
    for (const char* name : known) found = found || key == name;
    if (!found) return IntegrityError(absl::StrFormat("%s has an unknown field \"%s\"", where, key));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> ReadNormalizer(const Json& json) {
  if (json.is_null()) return false;
  const Json nfc = {{"type", "NFC"}};
  if (json == nfc) return true;
  JEVONS_RETURN_IF_ERROR(ExpectKeys(json, "normalizer", {"type", "normalizers"}));
  JEVONS_RETURN_IF_ERROR(Expect(json, "normalizer.", "type", {"NFC", "Sequence"}));
  const Json& stages = Member(json, "normalizers");
  if (!stages.is_array()) return IntegrityError("normalizer.normalizers is not a list");
  for (const Json& stage : stages) {
    if (stage != nfc) return IntegrityError(absl::StrFormat("normalizer is %s; only NFC is supported", ShownJson(stage)));
  }
  return !stages.empty();
}

namespace {

// One Split of the sequence; the patterns of a covering family may also be written as Removed, inverted.
struct SplitStage {
  std::string pattern;
  bool inverted;
};

absl::StatusOr<SplitStage> ReadSplit(const Json& json, const std::string& where) {
  JEVONS_RETURN_IF_ERROR(Expect(json, where, "type", {"Split", "Digits"}));
  const bool inverted = Member(json, "behavior") == "Removed" && Member(json, "invert") == true;
  if (!inverted) {
    JEVONS_RETURN_IF_ERROR(Expect(json, where, "behavior", {"Isolated"}));
    JEVONS_RETURN_IF_ERROR(Expect(json, where, "invert", {false, nullptr}));
  }
  const Json& regex = Member(Member(json, "pattern"), "Regex");
  if (!regex.is_string()) return IntegrityError(where + "pattern.Regex is not a string");
  return SplitStage{regex.get<std::string>(), inverted};
}

// Splits, with one Digits before or behind them, and ByteLevel, which cuts by its own pattern where there is no split.
absl::StatusOr<Pretokenizer> ReadSequence(const Json& stages) {
  const auto where = [](size_t i) { return absl::StrFormat("pre_tokenizer.pretokenizers[%d].", i); };
  const size_t last = stages.size() - 1;
  std::vector<std::string> patterns;
  bool inverted = false;
  Digits digits = Digits::kNone;
  auto order = Pretokenizer::Order::kBefore;
  for (size_t i = 0; i < last; ++i) {
    if (Member(stages[i], "type") == "Digits") {
      if (digits != Digits::kNone || (i > 0 && i + 1 < last))
        return IntegrityError(where(i) + "type is \"Digits\"; only one is supported, before or behind all Split stages");
      JEVONS_RETURN_IF_ERROR(Expect(stages[i], where(i), "individual_digits", {true, false}));
      digits = Member(stages[i], "individual_digits") == true ? Digits::kEach : Digits::kRuns;
      if (i > 0) order = Pretokenizer::Order::kAfter;
      continue;
    }
    JEVONS_ASSIGN_OR_RETURN(SplitStage split, ReadSplit(stages[i], where(i)));
    patterns.push_back(std::move(split.pattern));
    inverted = inverted || split.inverted;
  }
  JEVONS_RETURN_IF_ERROR(Expect(stages.back(), where(last), "type", {"ByteLevel"}));
  JEVONS_RETURN_IF_ERROR(Expect(stages.back(), where(last), "add_prefix_space", {false}));
  if (patterns.empty()) {
    JEVONS_RETURN_IF_ERROR(Expect(stages.back(), where(last), "use_regex", {true, nullptr}));
    return Pretokenizer::ByteLevel(/*add_prefix_space=*/false).WithDigits(digits, order);
  }
  JEVONS_RETURN_IF_ERROR(Expect(stages.back(), where(last), "use_regex", {false}));
  JEVONS_ASSIGN_OR_RETURN(const Pretokenizer pretokenizer, Pretokenizer::ForPatterns(patterns));
  if (inverted && !pretokenizer.covers())
    return IntegrityError("pre_tokenizer: behavior Removed would drop text; only \"Isolated\" is supported");
  return pretokenizer.WithDigits(digits, order);
}

}  // namespace

absl::StatusOr<Pretokenizer> ReadPretokenizer(const Json& json) {
  const Json& type = Member(json, "type");
  const Json& stages = Member(json, "pretokenizers");
  if (type == "Sequence" && stages.is_array() && stages.size() == 1) return ReadPretokenizer(stages[0]);
  if (type == "ByteLevel") {
    JEVONS_RETURN_IF_ERROR(Expect(json, "pre_tokenizer.", "add_prefix_space", {false, true}));
    JEVONS_RETURN_IF_ERROR(Expect(json, "pre_tokenizer.", "use_regex", {true, nullptr}));
    return Pretokenizer::ByteLevel(Member(json, "add_prefix_space") == true);
  }
  JEVONS_RETURN_IF_ERROR(Expect(json, "pre_tokenizer.", "type", {"Sequence", "ByteLevel"}));
  if (!stages.is_array() || stages.empty()) return IntegrityError("pre_tokenizer.pretokenizers is not a list");
  return ReadSequence(stages);
}

namespace {

// Far beyond any template. A name stands for a list, so that a small file could ask for any amount of memory.
constexpr size_t kMaxTemplateTokens = 1024;

// The ids that the template names, from its table.
absl::StatusOr<std::vector<int32_t>> ReadTemplateIds(const Json& table, const Json& name, const std::string& where) {
  const Json& ids = Member(Member(table, name.is_string() ? name.get<std::string>() : ""), "ids");
  if (!name.is_string() || !ids.is_array())
    return IntegrityError(absl::StrFormat("%s%s is not in special_tokens", where, ShownJson(name)));
  std::vector<int32_t> out;
  for (const Json& id : ids) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX)
      return IntegrityError(absl::StrFormat("%s%s: %s is not a token id", where, ShownJson(name), ShownJson(id)));
    out.push_back(id.get<int32_t>());
  }
  return out;
}

absl::Status ReadTemplate(const Json& json, TextTemplate& out) {
  const std::string where = "post_processor.";
  const Json& single = Member(json, "single");
  if (!single.is_array()) return IntegrityError(where + "single is not a list");
  bool text_seen = false;
  for (const Json& piece : single) {
    if (const Json& token = Member(piece, "SpecialToken"); !token.is_null()) {
      JEVONS_ASSIGN_OR_RETURN(const auto ids, ReadTemplateIds(Member(json, "special_tokens"), Member(token, "id"), where));
      std::vector<int32_t>& side = text_seen ? out.after : out.before;
      if (side.size() + ids.size() > kMaxTemplateTokens)
        return IntegrityError(
            absl::StrFormat("%ssingle puts more than %d tokens on a side of the text", where, kMaxTemplateTokens));
      side.insert(side.end(), ids.begin(), ids.end());
    } else if (Member(Member(piece, "Sequence"), "id") == "A" && !text_seen) {
      text_seen = true;
    } else {
      return IntegrityError(
          absl::StrFormat("%ssingle has %s; only special tokens around one text are supported", where, ShownJson(piece)));
    }
  }
  if (!text_seen) return IntegrityError(where + "single has no text");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TextTemplate> ReadPostProcessor(const Json& json) {
  TextTemplate out;
  Json steps = Json::array({json});
  if (Member(json, "type") == "Sequence") {
    steps = Member(json, "processors");
    if (!steps.is_array()) return IntegrityError("post_processor.processors is not a list");
  }
  int templates = 0;
  for (const Json& step : steps) {
    const Json& type = Member(step, "type");
    if (type == "TemplateProcessing") {
      if (++templates > 1) return IntegrityError("post_processor has two templates");
      JEVONS_RETURN_IF_ERROR(ReadTemplate(step, out));
    } else if (!step.is_null()) {
      JEVONS_RETURN_IF_ERROR(Expect(step, "post_processor.", "type", {"ByteLevel"}));
    }
  }
  if (templates > 0) out.json = json.dump();
  return out;
}

absl::StatusOr<std::vector<AddedToken>> ReadAddedTokens(const Json& json) {
  std::vector<AddedToken> tokens;
  if (!json.is_array()) return IntegrityError("added_tokens is not a list");
  for (size_t i = 0; i < json.size(); ++i) {
    const std::string where = absl::StrFormat("added_tokens[%d]", i);
    JEVONS_RETURN_IF_ERROR(ExpectKeys(
        json[i], where, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special", "ends_documents"}));
    JEVONS_RETURN_IF_ERROR(Expect(json[i], where + ".", "single_word", {false, nullptr}));
    for (const char* key : {"normalized", "special", "lstrip", "rstrip", "ends_documents"}) {
      JEVONS_RETURN_IF_ERROR(Expect(json[i], where + ".", key, {true, false, nullptr}));
    }
    const auto flag = [&](const char* key) { return Member(json[i], key) == true; };
    const Json& id = Member(json[i], "id");
    const Json& content = Member(json[i], "content");
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX) {
      return IntegrityError(absl::StrFormat("%s.id is %s, not a token id", where, ShownJson(id)));
    }
    if (!content.is_string()) return IntegrityError(where + ".content is not a string");
    tokens.push_back({.id = id.get<int32_t>(),
                      .content = content.get<std::string>(),
                      .special = flag("special"),
                      .normalized = flag("normalized"),
                      .lstrip = flag("lstrip"),
                      .rstrip = flag("rstrip"),
                      .ends_documents = flag("ends_documents")});
  }
  return tokens;
}

}  // namespace jevons
