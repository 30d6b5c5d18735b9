// The writing half of tokenizer.json; the structure is that of DeepSeek-V3's own file, so that reading that
// and writing it gives the same text. Whatever is read is written so that it means the same.
#include "data/tokenizer/byte_alphabet.h"
#include "data/tokenizer/text_file.h"
#include "data/tokenizer/tokenizer.h"
#include "nlohmann/json.hpp"

namespace jevons {
namespace {

using OrderedJson = nlohmann::ordered_json;

OrderedJson ByteLevelJson(bool add_prefix_space, bool trim_offsets, bool use_regex) {
  return {
      {"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"trim_offsets", trim_offsets}, {"use_regex", use_regex}};
}

OrderedJson NormalizerJson(bool nfc) {
  if (nfc) return {{"type", "NFC"}};
  return {{"type", "Sequence"}, {"normalizers", OrderedJson::array()}};
}

OrderedJson PostProcessorJson(const TextTemplate& text_template) {
  if (text_template.json.empty()) return ByteLevelJson(true, false, true);
  return OrderedJson::parse(text_template.json);
}

OrderedJson PretokenizerJson(const Pretokenizer& pretokenizer) {
  const bool byte_level = pretokenizer.is_byte_level();
  OrderedJson last = ByteLevelJson(pretokenizer.add_prefix_space(), /*trim_offsets=*/true, /*use_regex=*/byte_level);
  if (byte_level && pretokenizer.digits() == Digits::kNone) return last;
  OrderedJson stages = OrderedJson::array();
  if (!byte_level) {
    for (const std::string& pattern : pretokenizer.patterns()) {
      stages.push_back({{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
    }
  }
  if (pretokenizer.digits() != Digits::kNone) {
    const OrderedJson digits = {{"type", "Digits"}, {"individual_digits", pretokenizer.digits() == Digits::kEach}};
    stages.insert(pretokenizer.digits_order() == Pretokenizer::Order::kBefore ? stages.begin() : stages.end(), digits);
  }
  stages.push_back(std::move(last));
  return {{"type", "Sequence"}, {"pretokenizers", std::move(stages)}};
}

OrderedJson AddedTokensJson(const std::vector<AddedToken>& tokens) {
  OrderedJson json = OrderedJson::array();
  for (const AddedToken& token : tokens) {
    json.push_back({{"id", token.id},
                    {"content", token.content},
                    {"single_word", false},
                    {"lstrip", token.lstrip},
                    {"rstrip", token.rstrip},
                    {"normalized", token.normalized},
                    {"special", token.special}});
    if (token.ends_documents) json.back()["ends_documents"] = true;
  }
  return json;
}

OrderedJson ModelJson(const Tokenizer& tokenizer) {
  const TokenizerParts& parts = tokenizer.parts();
  std::vector<std::string> names(parts.vocabulary.size());
  for (const AddedToken& token : parts.added) {
    if (static_cast<size_t>(token.id) < names.size()) names[token.id] = token.content;
  }
  OrderedJson vocab = OrderedJson::object();
  for (size_t id = 0; id < names.size(); ++id) {
    if (parts.vocabulary[id].empty()) continue;
    if (names[id].empty()) names[id] = BytesToAlphabet(parts.vocabulary[id]);
    // The map behind an ordered object is a vector; operator[] would search it for each token.
    vocab.get_ref<OrderedJson::object_t&>().emplace_back(names[id], id);
  }
  OrderedJson merges = OrderedJson::array();
  for (const Merge& merge : parts.merges) merges.push_back(names[merge.left] + " " + names[merge.right]);
  OrderedJson json = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", false},
                      {"byte_fallback", false}};
  if (parts.ignore_merges) json["ignore_merges"] = true;
  json["vocab"] = std::move(vocab);
  json["merges"] = std::move(merges);
  return json;
}

}  // namespace

std::string Tokenizer::ToJson() const {
  const OrderedJson json = {{"version", "1.0"},
                            {"truncation", nullptr},
                            {"padding", nullptr},
                            {"added_tokens", AddedTokensJson(parts_.added)},
                            {"normalizer", NormalizerJson(parts_.nfc)},
                            {"pre_tokenizer", PretokenizerJson(parts_.pretokenizer)},
                            {"post_processor", PostProcessorJson(parts_.text_template)},
                            {"decoder", ByteLevelJson(true, true, true)},
                            {"model", ModelJson(*this)}};
  return json.dump(2, ' ', /*ensure_ascii=*/false, OrderedJson::error_handler_t::replace) + "\n";
}

absl::Status Tokenizer::Save(const std::string& path) const { return WriteTextFile(path, ToJson()); }

}  // namespace jevons
