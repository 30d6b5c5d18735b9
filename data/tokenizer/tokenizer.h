// Byte-level BPE in the format of Hugging Face's tokenizer.json: DeepSeek-V3's, GPT-2's, Llama 3's, Qwen's
// and others.
//
//   JEVONS_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load("data/tokenizer.json"));
//   std::vector<int32_t> ids = tokenizer.Encode("In the beginning");
//   std::string text = *tokenizer.Decode(ids);
//
// A tokenizer is immutable and may be shared by threads. To encode much text, give each thread an Encoder
// (encoder.h), which remembers the words it has seen. Encoding is total: bytes that are not UTF-8 become byte
// tokens (or U+FFFD where the vocabulary lacks one that no character has), and decoding gives back the very bytes (in Unicode's
// form C where the tokenizer normalizes).
#ifndef JEVONS_DATA_TOKENIZER_TOKENIZER_H_
#define JEVONS_DATA_TOKENIZER_TOKENIZER_H_

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/tokenizer/added_tokens.h"
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

struct FimIds {
  int32_t begin;
  int32_t hole;
  int32_t end;
};

enum class SpecialText {
  kPlain,       // "<｜end▁of▁sentence｜>" in the text is text: for corpora, which must not forge ends of documents
  kRecognized,  // it is the token: for prompts and for equality with Hugging Face
};

struct EncodeOptions {
  SpecialText specials = SpecialText::kPlain;
  // Put what the post-processor's template says around the tokens; without a template, bos_id() before them.
  bool add_bos = false;
};

// What the post-processor puts around the tokens of one text.
struct TextTemplate {
  std::vector<int32_t> before;
  std::vector<int32_t> after;
  std::string json;  // of the whole post-processor, as it was read; empty: there is no template
  bool operator==(const TextTemplate&) const = default;
};

// What a tokenizer is made of.
struct TokenizerParts {
  // id -> bytes: the vocabulary of the model; empty where no token has the id. An id that `added` claims has
  // the added token's content, and takes part in merges like any other.
  std::vector<std::string> vocabulary;
  std::vector<Merge> merges;      // in order of rank
  std::vector<AddedToken> added;  // ids inside the vocabulary, or following it without holes
  Pretokenizer pretokenizer = Pretokenizer::DeepSeekV3();
  bool nfc = false;            // text is brought to form C first
  bool ignore_merges = false;  // a word that is a token is that token, whatever merges would make of it
  TextTemplate text_template = {};
};

// Whether a tokenizer must have a token that ends documents: to prepare data and to train, it must.
enum class EndToken { kNeeded, kOptional };

class Tokenizer {
 public:
  // Reads a tokenizer.json, strictly: what this program would not do as Hugging Face does is an integrity
  // error that names the file and the field (a duplicate key, an unknown pattern, another normalizer, ...).
  static absl::StatusOr<Tokenizer> Load(const std::string& path, EndToken end = EndToken::kNeeded);
  // The same from a string; `name` stands for the path in errors.
  static absl::StatusOr<Tokenizer> FromJson(absl::string_view json, absl::string_view name, EndToken end = EndToken::kNeeded);
  // Integrity error if the parts do not fit each other or a needed token is missing.
  static absl::StatusOr<Tokenizer> Create(TokenizerParts parts, EndToken end = EndToken::kNeeded);

  // The same tokenizer, where the added token of this text ends documents. Usage error if there is none.
  absl::StatusOr<Tokenizer> WithEndToken(absl::string_view content) const;

  // A tokenizer.json that Hugging Face's tokenizers loads; a pure function of the tokenizer.
  std::string ToJson() const;
  // Writes it beside `path`, syncs it and renames it.
  absl::Status Save(const std::string& path) const;

  std::vector<int32_t> Encode(absl::string_view text, EncodeOptions options = {}) const;
  // The bytes of the tokens, special ones as their text. Like Hugging Face's decoder, an added token whose
  // text (in form C, where it is sought in that) is made of letters of the byte alphabet gives the bytes that
  // they stand for. Usage error if an id is not in [0, vocab_size()).
  absl::StatusOr<std::string> Decode(std::span<const int32_t> ids) const;

  // All ids, special and added ones included, are in [0, vocab_size()).
  int64_t vocab_size() const { return static_cast<int64_t>(tokens_.size()); }
  // The token that ends documents: the added token that is marked so (WithEndToken); else the first of DeepSeek's name,
  // <|end_of_text|> (Llama 3), <|endoftext|> (GPT-2, Qwen), </s> (Tekken), <eos>, [EOS] (Kimi), <|eos|>. -1 if there is none, which EndToken::kOptional allows.
  int32_t eos_id() const { return eos_id_; }
  // Likewise; where there is none, what the template begins with, else eos_id(), as in GPT-2.
  int32_t bos_id() const { return bos_id_; }
  // Likewise; where there is none, eos_id().
  int32_t pad_id() const { return pad_id_; }
  // For fill-in-the-middle; nothing if the vocabulary lacks one of the three.
  std::optional<FimIds> fim_ids() const { return fim_ids_; }

  // The bytes that a token is decoded to. REQUIRES: 0 <= id < vocab_size().
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
  absl::Status FindSpecialTokens(EndToken end);
  std::optional<int32_t> FirstAdded(std::span<const absl::string_view> names) const;

  TokenizerParts parts_;
  std::vector<std::string> tokens_;  // id -> what it is decoded to
  absl::flat_hash_map<std::string, int32_t> ordinary_;
  absl::flat_hash_map<std::string, int32_t> added_;
  std::vector<bool> is_added_;
  AddedTokenSet raw_added_, normalized_added_;  // to find in the text before and after normalization
  MergeRanks ranks_;
  std::array<int32_t, 256> byte_ids_;  // -1 where the vocabulary lacks a byte, which no character has then
  int32_t bos_id_ = 0;
  int32_t eos_id_ = 0;
  int32_t pad_id_ = 0;
  std::optional<FimIds> fim_ids_;
};

}  // namespace jevons

#endif  // JEVONS_DATA_TOKENIZER_TOKENIZER_H_
