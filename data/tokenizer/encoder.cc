#include "data/tokenizer/encoder.h"

#include <optional>

#include "data/tokenizer/nfc.h"

namespace jevons {
namespace {

// Bounds of the memory, about 16 MiB: when it is full it is forgotten whole and fills again.
constexpr size_t kMaxWordBytes = 48;
constexpr absl::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD, for a byte that the vocabulary lacks
constexpr size_t kMaxWords = size_t{1} << 17;

}  // namespace

std::vector<int32_t> Encoder::Encode(absl::string_view text, EncodeOptions options) {
  const TextTemplate& around = tokenizer_.parts_.text_template;
  std::vector<int32_t> ids;
  if (options.add_bos) {
    ids = around.before;
    if (around.json.empty() && tokenizer_.bos_id() >= 0) ids.push_back(tokenizer_.bos_id());
  }
  Append(text, options.specials, ids);
  if (options.add_bos) ids.insert(ids.end(), around.after.begin(), around.after.end());
  return ids;
}

void Encoder::Append(absl::string_view text, SpecialText specials, std::vector<int32_t>& ids) {
  const auto words = [&](absl::string_view t) { AppendWords(t, ids); };
  const auto token = [&](int32_t id) { ids.push_back(id); };
  const auto normalize = [&](absl::string_view t) { return tokenizer_.parts_.nfc ? NormalizeNfc(t, normalized_) : t; };
  if (specials == SpecialText::kPlain) return words(normalize(text));
  tokenizer_.raw_added_.Cut(
      text, [&](absl::string_view t) { tokenizer_.normalized_added_.Cut(normalize(t), words, token); }, token);
}

void Encoder::AppendWords(absl::string_view text, std::vector<int32_t>& ids) {
  const Pretokenizer& pretokenizer = tokenizer_.parts_.pretokenizer;
  if (pretokenizer.add_prefix_space() && !text.empty() && text[0] != ' ') {
    prefixed_.assign(1, ' ');
    prefixed_.append(text.data(), text.size());
    text = prefixed_;
  }
  ends_.clear();
  pretokenizer.Split(text, ends_);
  size_t begin = 0;
  for (const size_t end : ends_) {
    AppendWord(text.substr(begin, end - begin), ids);
    begin = end;
  }
}

void Encoder::AppendWord(absl::string_view word, std::vector<int32_t>& ids) {
  if (const auto found = seen_.find(word); found != seen_.end()) {
    const auto first = seen_ids_.begin() + found->second.begin;
    ids.insert(ids.end(), first, first + found->second.size);
    return;
  }
  const size_t first = ids.size();
  const auto whole = tokenizer_.parts_.ignore_merges ? tokenizer_.TokenId(word) : std::nullopt;
  if (whole) {
    ids.push_back(*whole);
  } else {
    symbols_.clear();
    const auto id_of = [&](char byte) { return tokenizer_.byte_ids_[static_cast<unsigned char>(byte)]; };
    for (const char byte : word) {
      if (id_of(byte) >= 0) {
        symbols_.push_back(id_of(byte));
      } else {
        for (const char part : kReplacement) symbols_.push_back(id_of(part));
      }
    }
    merge_loop_.Run(tokenizer_.ranks_, symbols_, ids);
  }
  if (word.size() > kMaxWordBytes) return;
  if (seen_.size() == kMaxWords) {
    seen_.clear();
    seen_ids_.clear();
  }
  seen_.emplace(word, Slice{static_cast<uint32_t>(seen_ids_.size()), static_cast<uint32_t>(ids.size() - first)});
  seen_ids_.insert(seen_ids_.end(), ids.begin() + first, ids.end());
}

}  // namespace jevons
