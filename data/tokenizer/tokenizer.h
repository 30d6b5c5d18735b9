// Byte-level BPE of the DeepSeek-V3 kind, in the format of Hugging Face's tokenizer.json.
//
//   JEVONS_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load("data/tokenizer.json"));
//   std::vector<int32_t> ids = tokenizer.Encode("In the beginning");
//   std::string text = *tokenizer.Decode(ids);
//
// A tokenizer is immutable and may be shared by threads. To encode much text, give each thread an Encoder
// (encoder.h), which remembers the words it has seen. Encoding is total: bytes that are not UTF-8 become byte
// tokens, and decoding gives back the very bytes.
#ifndef JEVONS_DATA_TOKENIZER_TOKENIZER_H_
#define JEVONS_DATA_TOKENIZER_TOKENIZER_H_

#include <array>
#include <bitset>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/pretokenizer.h"

namespace jevons {

// The special tokens, by their names in DeepSeek-V3. A trained vocabulary has them as ids 0 to 5.
inline constexpr absl::string_view kBosToken = "<｜begin▁of▁sentence｜>";
inline constexpr absl::string_view kEosToken = "<｜end▁of▁sentence｜>";
inline constexpr absl::string_view kPadToken = "<｜▁pad▁｜>";
inline constexpr absl::string_view kFimBeginToken = "<｜fim▁begin｜>";
inline constexpr absl::string_view kFimHoleToken = "<｜fim▁hole｜>";
inline constexpr absl::string_view kFimEndToken = "<｜fim▁end｜>";

// A token that stands for a literal text outside of BPE.
struct AddedToken {
  int32_t id;
  std::string content;
  bool special = true;
  bool normalized = false;  // of no effect without a normalizer; kept for Save
  bool operator==(const AddedToken&) const = default;
};

struct FimIds {
  int32_t begin;
  int32_t hole;
  int32_t end;
};

enum class SpecialText {
  kPlain,  // "<｜end▁of▁sentence｜>" in the text is text: for corpora, which must not forge ends of documents
  kRecognized,  // it is the token: for prompts and for equality with Hugging Face
};

struct EncodeOptions {
  SpecialText specials = SpecialText::kPlain;
  bool add_bos = false;  // put kBosToken's id first
};

// What a tokenizer is made of.
struct TokenizerParts {
  // id -> bytes: the vocabulary of the model. An id that `added` claims has the added token's content.
  std::vector<std::string> vocabulary;
  std::vector<Merge> merges;      // in order of rank
  std::vector<AddedToken> added;  // ids inside the vocabulary, or following it without holes
  Pretokenizer pretokenizer = Pretokenizer::DeepSeekV3();
};

class Tokenizer {
 public:
  // Reads a tokenizer.json, strictly: what this program would not do as Hugging Face does is an integrity
  // error that names the file and the field (a duplicate key, a hole in the ids, an unknown pattern, a
  // normalizer, ...).
  static absl::StatusOr<Tokenizer> Load(const std::string& path);
  // The same from a string; `name` stands for the path in errors.
  static absl::StatusOr<Tokenizer> FromJson(absl::string_view json, absl::string_view name);
  // Integrity error if the parts do not fit each other or a needed token is missing.
  static absl::StatusOr<Tokenizer> Create(TokenizerParts parts);

  // A tokenizer.json that Hugging Face's tokenizers loads; a pure function of the tokenizer.
  std::string ToJson() const;
  // Writes it beside `path`, syncs it and renames it.
  absl::Status Save(const std::string& path) const;

  std::vector<int32_t> Encode(absl::string_view text, EncodeOptions options = {}) const;
  // The bytes of the tokens, special ones as their text. Usage error if an id is not in [0, vocab_size()).
  absl::StatusOr<std::string> Decode(std::span<const int32_t> ids) const;

  // All ids, special and added ones included, are in [0, vocab_size()).
  int64_t vocab_size() const { return static_cast<int64_t>(tokens_.size()); }
  int32_t bos_id() const { return bos_id_; }
  int32_t eos_id() const { return eos_id_; }
  int32_t pad_id() const { return pad_id_; }
  // For fill-in-the-middle; nothing if the vocabulary lacks one of the three.
  std::optional<FimIds> fim_ids() const { return fim_ids_; }

  // The bytes of a token; the text of an added one. REQUIRES: 0 <= id < vocab_size().
  absl::string_view TokenBytes(int32_t id) const;
  // The id of an added token's text, or of an ordinary token's bytes.
  std::optional<int32_t> AddedTokenId(absl::string_view content) const;
  std::optional<int32_t> TokenId(absl::string_view bytes) const;
  bool IsAddedToken(int32_t id) const;

  const TokenizerParts& parts() const { return parts_; }

 private:
  friend class Encoder;
  explicit Tokenizer(TokenizerParts parts) : parts_(std::move(parts)) {}
  absl::Status IndexVocabulary();
  absl::Status IndexAddedTokens();
  absl::Status IndexMerges();
  absl::Status FindSpecialTokens();
  // The leftmost, and there the longest, added token of `text` at or after `from`; size 0 if there is none.
  struct AddedMatch {
    size_t position;
    size_t size;
    int32_t id;
  };
  AddedMatch FindAdded(absl::string_view text, size_t from) const;

  TokenizerParts parts_;
  std::vector<std::string> tokens_;  // id -> bytes or content
  absl::flat_hash_map<std::string, int32_t> ordinary_;
  absl::flat_hash_map<std::string, int32_t> added_;
  std::vector<bool> is_added_;
  std::vector<size_t> added_sizes_;  // distinct sizes of the added tokens, longest first
  std::bitset<256> added_first_;     // bytes that an added token begins with
  MergeRanks ranks_;
  std::array<int32_t, 256> byte_ids_;
  int32_t bos_id_ = 0;
  int32_t eos_id_ = 0;
  int32_t pad_id_ = 0;
  std::optional<FimIds> fim_ids_;
};

}  // namespace jevons

#endif  // JEVONS_DATA_TOKENIZER_TOKENIZER_H_
