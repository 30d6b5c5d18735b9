#include "data/tokenizer/encoder.h"

namespace jevons {
namespace {

// Bounds of the memory, about 16 MiB: when it is full it is forgotten whole and fills again.
constexpr size_t kMaxWordBytes = 48;
constexpr size_t kMaxWords = size_t{1} << 17;

}  // namespace

void Encoder::Append(absl::string_view text, SpecialText specials, std::vector<int32_t>& ids) {
  if (specials == SpecialText::kPlain) return AppendPlain(text, ids);
  size_t position = 0;
  while (position < text.size()) {
    const Tokenizer::AddedMatch match = tokenizer_.FindAdded(text, position);
    AppendPlain(text.substr(position, match.position - position), ids);
    if (match.size > 0) ids.push_back(match.id);
    position = match.position + match.size;
  }
}

void Encoder::AppendPlain(absl::string_view text, std::vector<int32_t>& ids) {
  ends_.clear();
  tokenizer_.parts_.pretokenizer.Split(text, ends_);
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
  symbols_.clear();
  for (const char byte : word) symbols_.push_back(tokenizer_.byte_ids_[static_cast<unsigned char>(byte)]);
  const size_t first = ids.size();
  merge_loop_.Run(tokenizer_.ranks_, symbols_, ids);
  if (word.size() > kMaxWordBytes) return;
  if (seen_.size() == kMaxWords) {
    seen_.clear();
    seen_ids_.clear();
  }
  seen_.emplace(word,
                Slice{static_cast<uint32_t>(seen_ids_.size()), static_cast<uint32_t>(ids.size() - first)});
  seen_ids_.insert(seen_ids_.end(), ids.begin() + first, ids.end());
}

}  // namespace jevons
