#include "data/tokenizer/added_tokens.h"

#include <algorithm>
#include <functional>

#include "data/tokenizer/unicode.h"

namespace jevons {
namespace {

bool IsSpace(uint32_t code_point) { return CharClassTable::Get()[code_point] == CharClass::kSpace; }

}  // namespace

bool AddedTokenSet::Insert(absl::string_view content, const AddedToken& token) {
  if (!entries_.try_emplace(content, Entry{token.id, token.lstrip, token.rstrip}).second) return false;
  const auto at = std::lower_bound(sizes_.begin(), sizes_.end(), content.size(), std::greater<>());
  if (at == sizes_.end() || *at != content.size()) sizes_.insert(at, content.size());
  first_.set(static_cast<unsigned char>(content[0]));
  return true;
}

AddedTokenSet::Match AddedTokenSet::Find(absl::string_view text, size_t from) const {
  for (size_t i = from; i < text.size(); ++i) {
    if (!first_[static_cast<unsigned char>(text[i])]) continue;
    for (const size_t size : sizes_) {
      if (size > text.size() - i) continue;
      if (const auto found = entries_.find(text.substr(i, size)); found != entries_.end()) return {i, size, found->second};
    }
  }
  return {};
}

size_t AddedTokenSet::SpacesBefore(absl::string_view text, size_t from, size_t position) {
  size_t begin = position;
  while (begin > 0) {
    size_t previous = begin - 1;
    while (previous > 0 && (static_cast<unsigned char>(text[previous]) & 0xC0) == 0x80) --previous;
    const DecodedChar c = DecodeUtf8(text.substr(previous));
    if (previous + c.size != begin || !IsSpace(c.code_point)) break;
    begin = previous;
  }
  return std::max(begin, from);
}

size_t AddedTokenSet::SpacesAfter(absl::string_view text, size_t position) {
  while (position < text.size()) {
    const DecodedChar c = DecodeUtf8(text.substr(position));
    if (!IsSpace(c.code_point)) break;
    position += c.size;
  }
  return position;
}

}  // namespace jevons
