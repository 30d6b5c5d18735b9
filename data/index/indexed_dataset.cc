#include "data/index/indexed_dataset.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "data/index/index_layout.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

using index_layout::kHeaderBytes;

constexpr int64_t kFingerprintPages = 64;
constexpr int64_t kFingerprintPageBytes = 4096;
constexpr absl::string_view kRemedy = "the file is damaged or incomplete: copy it again, or run `jevons prepare` again";

// The arrays of an .idx are not aligned (they begin at byte 34).
template <typename T>
T Load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

absl::Status BadIndex(const std::string& prefix, const std::string& what) {
  return IntegrityError(absl::StrFormat("%s: %s; %s", index_layout::IdxPath(prefix), what, kRemedy));
}

absl::StatusOr<TokenType> ParseTokenType(const std::string& prefix, uint8_t code) {
  switch (code) {
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 8: return static_cast<TokenType>(code);
    case 6:
    case 7:
      return IntegrityError(
          absl::StrFormat("%s: field dtype is %d, floating point; tokens are integers: convert the "
                          "dataset to code 4 (int32) or 8 (uint16)",
                          index_layout::IdxPath(prefix), code));
    default: return BadIndex(prefix, absl::StrFormat("field dtype is %d, not one of 1, 2, 3, 4, 5, 8", code));
  }
}

// Widens out.size() tokens of type T. Returns the index of a token outside [0, vocab_size), or -1.
template <typename T>
int64_t Widen(const std::byte* from, int64_t vocab_size, std::span<int32_t> out) {
  bool good = true;
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t token = Load<T>(from + i * sizeof(T));
    good &= token >= 0 && token < vocab_size;
    out[i] = static_cast<int32_t>(token);
  }
  if (good) return -1;
  for (size_t i = 0;; ++i) {
    const int64_t token = Load<T>(from + i * sizeof(T));
    if (token < 0 || token >= vocab_size) return static_cast<int64_t>(i);
  }
}

int64_t WidenAs(TokenType type, const std::byte* from, int64_t vocab_size, std::span<int32_t> out) {
  switch (type) {
    case TokenType::kU8: return Widen<uint8_t>(from, vocab_size, out);
    case TokenType::kI8: return Widen<int8_t>(from, vocab_size, out);
    case TokenType::kI16: return Widen<int16_t>(from, vocab_size, out);
    case TokenType::kI32: return Widen<int32_t>(from, vocab_size, out);
    case TokenType::kI64: return Widen<int64_t>(from, vocab_size, out);
    case TokenType::kU16: return Widen<uint16_t>(from, vocab_size, out);
  }
  JEVONS_CHECK(false, "token type %d", static_cast<int>(type));
}

}  // namespace

int64_t TokenBytes(TokenType type) {
  switch (type) {
    case TokenType::kU8:
    case TokenType::kI8: return 1;
    case TokenType::kI16:
    case TokenType::kU16: return 2;
    case TokenType::kI32: return 4;
    case TokenType::kI64: return 8;
  }
  JEVONS_CHECK(false, "token type %d", static_cast<int>(type));
}

IndexedDataset::IndexedDataset(std::string prefix, int64_t vocab_size, MappedFile bin, MappedFile idx)
    : prefix_(std::move(prefix)), vocab_size_(vocab_size), bin_(std::move(bin)), idx_(std::move(idx)) {}

absl::StatusOr<IndexedDataset> IndexedDataset::Open(const std::string& prefix, int64_t vocab_size) {
  JEVONS_RETURN_IF_ERROR(index_layout::CheckVocabSize(prefix, vocab_size));
  JEVONS_ASSIGN_OR_RETURN(MappedFile idx, MappedFile::Open(index_layout::IdxPath(prefix)));
  JEVONS_ASSIGN_OR_RETURN(MappedFile bin, MappedFile::Open(index_layout::BinPath(prefix)));
  IndexedDataset dataset(prefix, vocab_size, std::move(bin), std::move(idx));
  JEVONS_RETURN_IF_ERROR(dataset.ParseHeader());
  JEVONS_RETURN_IF_ERROR(dataset.CheckSequences());
  JEVONS_RETURN_IF_ERROR(dataset.CheckDocuments());
  JEVONS_ASSIGN_OR_RETURN(dataset.sums_, BlockSums::Open(prefix, dataset.bin_.bytes(), dataset.idx_.bytes()));
  dataset.fingerprint_ = dataset.ComputeFingerprint();
  return dataset;
}

const std::byte* IndexedDataset::Lengths() const { return idx_.bytes().data() + kHeaderBytes; }
const std::byte* IndexedDataset::Pointers() const { return Lengths() + 4 * sequences_; }
const std::byte* IndexedDataset::DocumentIndices() const { return Pointers() + 8 * sequences_; }

absl::Status IndexedDataset::ParseHeader() {
  const std::span<const std::byte> idx = idx_.bytes();
  const uint64_t size = idx.size();
  if (size < kHeaderBytes) {
    return BadIndex(prefix_, absl::StrFormat("%d bytes, but the header alone has %d", size, kHeaderBytes));
  }
  if (std::memcmp(idx.data(), index_layout::kMagic.data(), index_layout::kMagic.size()) != 0) {
    return BadIndex(prefix_, "field magic is not MMIDIDX: not a Megatron index");
  }
  const uint64_t version = Load<uint64_t>(idx.data() + index_layout::kVersionOffset);
  if (version != index_layout::kVersion) {
    return BadIndex(prefix_, absl::StrFormat("field version is %d, not 1", version));
  }
  JEVONS_ASSIGN_OR_RETURN(type_, ParseTokenType(prefix_, Load<uint8_t>(idx.data() + index_layout::kTypeOffset)));
  const uint64_t sequences = Load<uint64_t>(idx.data() + index_layout::kSequencesOffset);
  const uint64_t indices = Load<uint64_t>(idx.data() + index_layout::kDocumentsOffset);
  const uint64_t room = size - kHeaderBytes;  // compared by division, as the counts may be anything
  if (sequences > room / 12) {
    return BadIndex(prefix_, absl::StrFormat("field sequences is %d, too many for a file of %d bytes", sequences, size));
  }
  if (indices < 1 || indices > (room - 12 * sequences) / 8) {
    return BadIndex(prefix_, absl::StrFormat("field document indices is %d, impossible in a file of %d bytes with %d "
                                             "sequences (34 + 12 sequences + 8 indices)",
                                             indices, size, sequences));
  }
  const uint64_t expected = kHeaderBytes + 12 * sequences + 8 * indices;
  if (sequences > 0 && size == expected + sequences) {
    return IntegrityError(
        absl::StrFormat("%s: a modes array follows the document indices: a multimodal dataset; only "
                        "text is read here: convert it to a dataset without modes",
                        index_layout::IdxPath(prefix_)));
  }
  if (size != expected) {
    return BadIndex(prefix_, absl::StrFormat("%d bytes, but %d sequences and %d document indices make %d", size, sequences,
                                             indices, expected));
  }
  sequences_ = static_cast<int64_t>(sequences);
  documents_ = static_cast<int64_t>(indices) - 1;
  return absl::OkStatus();
}

absl::Status IndexedDataset::CheckSequences() const {
  const int64_t bin_bytes = static_cast<int64_t>(bin_.bytes().size());
  const int64_t token_bytes = TokenBytes(type_);
  int64_t expected = 0;  // bytes of the sequences before this one
  for (int64_t s = 0; s < sequences_; ++s) {
    const int32_t length = Load<int32_t>(Lengths() + 4 * s);
    const int64_t pointer = Load<int64_t>(Pointers() + 8 * s);
    if (length < 0) return BadIndex(prefix_, absl::StrFormat("field length[%d] is %d, negative", s, length));
    if (pointer != expected) {
      return BadIndex(
          prefix_, absl::StrFormat("field pointer[%d] is %d, but the sequences before it end at byte %d", s, pointer, expected));
    }
    expected += length * token_bytes;
    if (expected > bin_bytes) {
      return BadIndex(prefix_, absl::StrFormat("field length[%d] is %d tokens of %d bytes, which ends at byte %d, but %s "
                                               "has %d bytes",
                                               s, length, token_bytes, expected, index_layout::BinPath(prefix_), bin_bytes));
    }
  }
  if (expected != bin_bytes) {
    return IntegrityError(absl::StrFormat("%s: %d bytes, but %s describes %d; %s", index_layout::BinPath(prefix_), bin_bytes,
                                          index_layout::IdxPath(prefix_), expected, kRemedy));
  }
  return absl::OkStatus();
}

absl::Status IndexedDataset::CheckDocuments() const {
  int64_t previous = 0;
  for (int64_t d = 0; d <= documents_; ++d) {
    const int64_t index = Load<int64_t>(DocumentIndices() + 8 * d);
    if (d == 0 && index != 0) return BadIndex(prefix_, absl::StrFormat("field document[0] is %d, not 0", index));
    if (index < previous || index > sequences_) {
      return BadIndex(prefix_, absl::StrFormat("field document[%d] is %d, outside %d..%d", d, index, previous, sequences_));
    }
    previous = index;
  }
  if (previous != sequences_) {
    return BadIndex(prefix_, absl::StrFormat("field document[%d], the last, is %d, but there are %d sequences", documents_,
                                             previous, sequences_));
  }
  return absl::OkStatus();
}

uint64_t IndexedDataset::ComputeFingerprint() const {
  const std::span<const std::byte> bin = bin_.bytes();
  uint64_t hash = XXH3_64bits(idx_.bytes().data(), idx_.bytes().size());
  const int64_t last_page = std::max<int64_t>(0, static_cast<int64_t>(bin.size()) - kFingerprintPageBytes);
  for (int64_t page = 0; page < kFingerprintPages; ++page) {
    const int64_t from = last_page / (kFingerprintPages - 1) * page;
    const int64_t size = std::min<int64_t>(kFingerprintPageBytes, static_cast<int64_t>(bin.size()) - from);
    hash = XXH3_64bits_withSeed(bin.data() + from, static_cast<size_t>(size), hash);
  }
  return hash;
}

int64_t IndexedDataset::DocumentStart(int64_t d) const {
  const int64_t sequence = Load<int64_t>(DocumentIndices() + 8 * d);
  return sequence == sequences_ ? tokens() : Load<int64_t>(Pointers() + 8 * sequence) / TokenBytes(type_);
}

absl::Status IndexedDataset::Read(int64_t start, std::span<int32_t> out) const {
  JEVONS_CHECK(start >= 0 && start <= tokens() && static_cast<int64_t>(out.size()) <= tokens() - start,
               "start = %ld, size = %zu, tokens = %ld", start, out.size(), tokens());
  const int64_t begin = start * TokenBytes(type_), end = begin + static_cast<int64_t>(out.size()) * TokenBytes(type_);
  if (sums_) JEVONS_RETURN_IF_ERROR(sums_->Check(bin_.bytes(), begin, end));
  const std::byte* from = bin_.bytes().data() + begin;
  const int64_t bad = WidenAs(type_, from, vocab_size_, out);
  if (bad < 0) return absl::OkStatus();
  return IntegrityError(
      absl::StrFormat("%s: token %d (byte %d) is outside the vocabulary of %d; the file is damaged, or "
                      "another tokenizer made it: check the vocabulary size of the config, or prepare the data again",
                      index_layout::BinPath(prefix_), start + bad, (start + bad) * TokenBytes(type_), vocab_size_));
}

}  // namespace jevons
