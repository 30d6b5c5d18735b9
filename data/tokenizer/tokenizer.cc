#include "data/tokenizer/tokenizer.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "data/tokenizer/encoder.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"

namespace jevons {

absl::StatusOr<Tokenizer> Tokenizer::Create(TokenizerParts parts) {
  if (parts.vocabulary.size() + parts.added.size() >= std::numeric_limits<int32_t>::max()) {
    return IntegrityError("model.vocab: more tokens than 32-bit ids");
  }
  Tokenizer tokenizer(std::move(parts));
  JEVONS_RETURN_IF_ERROR(tokenizer.IndexAddedTokens());
  JEVONS_RETURN_IF_ERROR(tokenizer.IndexVocabulary());
  JEVONS_RETURN_IF_ERROR(tokenizer.IndexMerges());
  JEVONS_RETURN_IF_ERROR(tokenizer.FindSpecialTokens());
  return tokenizer;
}

absl::Status Tokenizer::IndexAddedTokens() {
  tokens_ = parts_.vocabulary;
  is_added_.assign(tokens_.size(), false);
  std::vector<AddedToken>& added = parts_.added;
  std::stable_sort(added.begin(), added.end(),
                   [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  for (const AddedToken& token : added) {
    const auto at = absl::StrFormat("added_tokens: \"%s\", id %d", token.content, token.id);
    if (token.content.empty()) return IntegrityError(at + ": the content is empty");
    if (token.id < 0 || token.id > static_cast<int64_t>(tokens_.size())) {
      return IntegrityError(
          absl::StrFormat("%s: leaves a hole in the ids; the next free one is %d", at, tokens_.size()));
    }
    if (token.id == static_cast<int64_t>(tokens_.size())) {
      tokens_.push_back(token.content);
      is_added_.push_back(true);
    } else {
      if (is_added_[token.id]) return IntegrityError(at + ": the id is given twice");
      if (tokens_[token.id] != token.content)
        return IntegrityError(at + ": model.vocab has another token there");
      is_added_[token.id] = true;
    }
    if (!added_.try_emplace(token.content, token.id).second)
      return IntegrityError(at + ": the content is given twice");
    added_sizes_.push_back(token.content.size());
    added_first_.set(static_cast<unsigned char>(token.content[0]));
  }
  std::sort(added_sizes_.begin(), added_sizes_.end(), std::greater<>());
  added_sizes_.erase(std::unique(added_sizes_.begin(), added_sizes_.end()), added_sizes_.end());
  return absl::OkStatus();
}

absl::Status Tokenizer::IndexVocabulary() {
  byte_ids_.fill(-1);
  for (size_t id = 0; id < parts_.vocabulary.size(); ++id) {
    const std::string& bytes = parts_.vocabulary[id];
    if (is_added_[id]) continue;
    if (bytes.empty()) return IntegrityError(absl::StrFormat("model.vocab: id %d is an empty token", id));
    if (!ordinary_.try_emplace(bytes, id).second) {
      return IntegrityError(
          absl::StrFormat("model.vocab: ids %d and %d are the same token", ordinary_[bytes], id));
    }
    if (bytes.size() == 1) byte_ids_[static_cast<unsigned char>(bytes[0])] = static_cast<int32_t>(id);
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (byte_ids_[byte] < 0) {
      return IntegrityError(
          absl::StrFormat("model.vocab: no token for byte 0x%02x; byte-level BPE needs all 256", byte));
    }
  }
  return absl::OkStatus();
}

absl::Status Tokenizer::IndexMerges() {
  const int64_t n = static_cast<int64_t>(parts_.vocabulary.size());
  for (size_t rank = 0; rank < parts_.merges.size(); ++rank) {
    const Merge& merge = parts_.merges[rank];
    for (const int32_t id : {merge.left, merge.right, merge.result}) {
      if (id < 0 || id >= n || is_added_[id]) {
        return IntegrityError(absl::StrFormat("model.merges[%d]: id %d is not an ordinary token", rank, id));
      }
    }
    if (parts_.vocabulary[merge.left] + parts_.vocabulary[merge.right] != parts_.vocabulary[merge.result]) {
      return IntegrityError(
          absl::StrFormat("model.merges[%d]: the result is not the two tokens joined", rank));
    }
    if (!ranks_.Insert(merge)) return IntegrityError(absl::StrFormat("model.merges[%d]: given twice", rank));
  }
  return absl::OkStatus();
}

absl::Status Tokenizer::FindSpecialTokens() {
  for (const auto& [name, id] :
       {std::pair{kBosToken, &bos_id_}, std::pair{kEosToken, &eos_id_}, std::pair{kPadToken, &pad_id_}}) {
    const std::optional<int32_t> found = AddedTokenId(name);
    if (!found) return IntegrityError(absl::StrFormat("added_tokens: \"%s\" is missing", name));
    *id = *found;
  }
  const auto begin = AddedTokenId(kFimBeginToken), hole = AddedTokenId(kFimHoleToken),
             end = AddedTokenId(kFimEndToken);
  if (begin && hole && end) fim_ids_ = FimIds{*begin, *hole, *end};
  return absl::OkStatus();
}

std::vector<int32_t> Tokenizer::Encode(absl::string_view text, EncodeOptions options) const {
  std::vector<int32_t> ids;
  if (options.add_bos) ids.push_back(bos_id_);
  Encoder(*this).Append(text, options.specials, ids);
  return ids;
}

absl::StatusOr<std::string> Tokenizer::Decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab_size()) {
      return UsageError(absl::StrFormat("token id %d: the tokenizer has ids 0 to %d", id, vocab_size() - 1));
    }
    text += tokens_[id];
  }
  return text;
}

absl::string_view Tokenizer::TokenBytes(int32_t id) const {
  JEVONS_CHECK(id >= 0 && id < vocab_size(), "token id %d", id);
  return tokens_[id];
}

std::optional<int32_t> Tokenizer::AddedTokenId(absl::string_view content) const {
  const auto found = added_.find(content);
  return found == added_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<int32_t> Tokenizer::TokenId(absl::string_view bytes) const {
  const auto found = ordinary_.find(bytes);
  return found == ordinary_.end() ? std::nullopt : std::optional(found->second);
}

bool Tokenizer::IsAddedToken(int32_t id) const {
  JEVONS_CHECK(id >= 0 && id < vocab_size(), "token id %d", id);
  return is_added_[id];
}

Tokenizer::AddedMatch Tokenizer::FindAdded(absl::string_view text, size_t from) const {
  for (size_t i = from; i < text.size(); ++i) {
    if (!added_first_[static_cast<unsigned char>(text[i])]) continue;
    for (const size_t size : added_sizes_) {
      if (size > text.size() - i) continue;
      if (const auto found = added_.find(text.substr(i, size)); found != added_.end())
        return {i, size, found->second};
    }
  }
  return {text.size(), 0, 0};
}

}  // namespace jevons
