#include "data/tokenizer/tokenizer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "data/tokenizer/byte_alphabet.h"
#include "data/tokenizer/encoder.h"
#include "data/tokenizer/nfc.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"

namespace jevons {

namespace {

constexpr absl::string_view kEosNames[] = {kEosToken, "<|end_of_text|>", "<|endoftext|>", "</s>", "<eos>", "[EOS]", "<|eos|>"};
constexpr absl::string_view kBosNames[] = {kBosToken, "<|begin_of_text|>", "<s>", "<bos>"};
constexpr absl::string_view kPadNames[] = {kPadToken, "<|finetune_right_pad_id|>", "<|pad|>", "<pad>"};
constexpr absl::string_view kFimNames[][3] = {{kFimBeginToken, kFimHoleToken, kFimEndToken},
                                              {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"}};

// No character has such a byte: vocabularies may lack them, as DeepSeek-V2's does.
bool NeverInUtf8(int byte) { return byte == 0xC0 || byte == 0xC1 || byte >= 0xF5; }

constexpr size_t kMostNamed = 10;  // tokens in a message

}  // namespace

absl::StatusOr<Tokenizer> Tokenizer::Create(TokenizerParts parts, EndToken end) {
  if (parts.vocabulary.size() + parts.added.size() >= std::numeric_limits<int32_t>::max()) {
    return IntegrityError("model.vocab: more tokens than 32-bit ids");
  }
  Tokenizer tokenizer(std::move(parts));
  JEVONS_RETURN_IF_ERROR(tokenizer.IndexAddedTokens());
  JEVONS_RETURN_IF_ERROR(tokenizer.IndexVocabulary());
  JEVONS_RETURN_IF_ERROR(tokenizer.IndexMerges());
  JEVONS_RETURN_IF_ERROR(tokenizer.FindSpecialTokens(end));
  return tokenizer;
}

absl::Status Tokenizer::IndexAddedTokens() {
  tokens_ = parts_.vocabulary;
  is_added_.assign(tokens_.size(), false);
  // Hugging Face's tokenizers numbers the tokens outside of the vocabulary itself: in order, from the number
  // of tokens (not from the highest id: the vocabulary may have holes) or after the highest added one.
  const auto is_token = [](const std::string& bytes) { return !bytes.empty(); };
  int64_t next = std::count_if(tokens_.begin(), tokens_.end(), is_token);
  std::string scratch;
  for (const AddedToken& token : parts_.added) {
    const auto at = absl::StrFormat("added_tokens: \"%s\", id %d", token.content, token.id);
    if (token.content.empty()) return IntegrityError(at + ": the content is empty");
    if (token.id < 0 || token.id > static_cast<int64_t>(tokens_.size())) {
      return IntegrityError(absl::StrFormat("%s: leaves a hole in the ids; the next free one is %d", at, tokens_.size()));
    }
    const std::string content(token.normalized && parts_.nfc ? NormalizeNfc(token.content, scratch) : token.content);
    const std::string bytes = AlphabetToBytes(content).value_or(content);
    if (token.id == static_cast<int64_t>(tokens_.size())) {
      if (next != token.id)
        return IntegrityError(absl::StrFormat("%s: Hugging Face's tokenizers would give it the id %d", at, next));
      tokens_.push_back(bytes);
      is_added_.push_back(true);
    } else {
      if (is_added_[token.id]) return IntegrityError(at + ": the id is given twice");
      if (tokens_[token.id] != AlphabetToBytes(token.content).value_or(token.content))
        return IntegrityError(at + ": model.vocab has another token there");
      tokens_[token.id] = bytes;
      is_added_[token.id] = true;
    }
    next = std::max(next, int64_t{token.id} + 1);
    if (!added_.try_emplace(token.content, token.id).second) return IntegrityError(at + ": the content is given twice");
    (token.normalized ? normalized_added_ : raw_added_).Insert(content, token);  // of two equal ones the first
  }
  return absl::OkStatus();
}

absl::Status Tokenizer::IndexVocabulary() {
  byte_ids_.fill(-1);
  for (size_t id = 0; id < parts_.vocabulary.size(); ++id) {
    const std::string& bytes = parts_.vocabulary[id];
    if (bytes.size() == 1) byte_ids_[static_cast<unsigned char>(bytes[0])] = static_cast<int32_t>(id);
    if (is_added_[id] || bytes.empty()) continue;
    if (!ordinary_.try_emplace(bytes, id).second) {
      return IntegrityError(absl::StrFormat("model.vocab: ids %d and %d are the same token", ordinary_[bytes], id));
    }
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (byte_ids_[byte] < 0 && !NeverInUtf8(byte)) {
      return IntegrityError(
          absl::StrFormat("model.vocab: no token for byte 0x%02x; byte-level BPE needs all that UTF-8 has", byte));
    }
  }
  return absl::OkStatus();
}

absl::Status Tokenizer::IndexMerges() {
  const int64_t n = static_cast<int64_t>(parts_.vocabulary.size());
  for (size_t rank = 0; rank < parts_.merges.size(); ++rank) {
    const Merge& merge = parts_.merges[rank];
    for (const int32_t id : {merge.left, merge.right, merge.result}) {
      if (id < 0 || id >= n || parts_.vocabulary[id].empty()) {
        return IntegrityError(absl::StrFormat("model.merges[%d]: id %d is not a token of model.vocab", rank, id));
      }
    }
    if (parts_.vocabulary[merge.left] + parts_.vocabulary[merge.right] != parts_.vocabulary[merge.result]) {
      return IntegrityError(absl::StrFormat("model.merges[%d]: the result is not the two tokens joined", rank));
    }
    if (!ranks_.Insert(merge)) return IntegrityError(absl::StrFormat("model.merges[%d]: given twice", rank));
  }
  return absl::OkStatus();
}

std::optional<int32_t> Tokenizer::FirstAdded(std::span<const absl::string_view> names) const {
  for (const absl::string_view name : names)
    if (const std::optional<int32_t> id = AddedTokenId(name)) return id;
  return std::nullopt;
}

absl::Status Tokenizer::FindSpecialTokens(EndToken end) {
  const TextTemplate& text_template = parts_.text_template;
  for (const std::vector<int32_t>* ids : {&text_template.before, &text_template.after}) {
    for (const int32_t id : *ids) {
      if (id < 0 || id >= vocab_size()) return IntegrityError(absl::StrFormat("post_processor: id %d is not a token", id));
    }
  }
  eos_id_ = FirstAdded(kEosNames).value_or(-1);
  const auto marked = [](const AddedToken& token) { return token.ends_documents; };
  const auto first = std::find_if(parts_.added.begin(), parts_.added.end(), marked);
  if (first != parts_.added.end()) {
    eos_id_ = first->id;
    const auto second = std::find_if(first + 1, parts_.added.end(), marked);
    if (second != parts_.added.end()) {
      return IntegrityError(
          absl::StrFormat("added_tokens: \"%s\" and \"%s\" both end documents", first->content, second->content));
    }
  }
  if (eos_id_ < 0 && end == EndToken::kNeeded) {
    return IntegrityError(
        absl::StrFormat("added_tokens: no token ends a document; one of \"%s\" is needed, or `jevons prepare "
                        "--end-token` to name another",
                        absl::StrJoin(kEosNames, "\", \"")));
  }
  bos_id_ = FirstAdded(kBosNames).value_or(text_template.before.empty() ? eos_id_ : text_template.before[0]);
  pad_id_ = FirstAdded(kPadNames).value_or(eos_id_);
  for (const auto& names : kFimNames) {
    const auto begin = AddedTokenId(names[0]), hole = AddedTokenId(names[1]), finish = AddedTokenId(names[2]);
    if (!fim_ids_ && begin && hole && finish) fim_ids_ = FimIds{*begin, *hole, *finish};
  }
  return absl::OkStatus();
}

absl::StatusOr<Tokenizer> Tokenizer::WithEndToken(absl::string_view content) const {
  TokenizerParts parts = parts_;
  bool found = false;
  for (AddedToken& token : parts.added) {
    token.ends_documents = token.content == content;
    found = found || token.ends_documents;
  }
  if (found) return Create(std::move(parts));
  std::vector<absl::string_view> special;
  for (const AddedToken& token : parts_.added) {
    if (token.special && special.size() < kMostNamed) special.push_back(token.content);
  }
  return UsageError(
      absl::StrFormat("end token: \"%s\" is no added token; some are \"%s\"", content, absl::StrJoin(special, "\", \"")));
}

std::vector<int32_t> Tokenizer::Encode(absl::string_view text, EncodeOptions options) const {
  return Encoder(*this).Encode(text, options);
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

}  // namespace jevons
