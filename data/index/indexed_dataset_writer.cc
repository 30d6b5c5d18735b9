#include <unistd.h>
#include <xxhash.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_format.h"
#include "data/index/index_layout.h"
#include "data/index/indexed_dataset.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

// An .idx on its way to the disk, and its checksum.
class SummedFile {
 public:
  explicit SummedFile(OutputFile& file) : file_(file), state_(XXH3_createState(), XXH3_freeState) {
    XXH3_64bits_reset(state_.get());
  }
  absl::Status Append(std::span<const std::byte> bytes) {
    XXH3_64bits_update(state_.get(), bytes.data(), bytes.size());
    return file_.Append(bytes);
  }
  uint64_t sum() const { return XXH3_64bits_digest(state_.get()); }

 private:
  OutputFile& file_;
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

template <typename T>
absl::Status AppendValue(SummedFile& file, T value) {
  return file.Append(std::as_bytes(std::span(&value, 1)));
}

absl::Status Remove(const std::string& path) {
  if (unlink(path.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  return FailureError(
      absl::StrFormat("%s: cannot replace the older file: %s; remove it or choose another output", path, std::strerror(errno)));
}

template <typename T>
void Encode(std::span<const int32_t> tokens, std::vector<std::byte>& out) {
  out.resize(tokens.size() * sizeof(T));
  for (size_t i = 0; i < tokens.size(); ++i) {
    const T value = static_cast<T>(tokens[i]);
    std::memcpy(out.data() + i * sizeof(T), &value, sizeof(T));
  }
}

// Header, lengths, pointers, document indices: FORMAT.md, "PREFIX.idx".
absl::Status WriteIndex(SummedFile& file, TokenType type, std::span<const int32_t> lengths) {
  const uint64_t sequences = lengths.size();
  JEVONS_RETURN_IF_ERROR(file.Append(std::as_bytes(std::span(index_layout::kMagic))));
  JEVONS_RETURN_IF_ERROR(AppendValue(file, index_layout::kVersion));
  JEVONS_RETURN_IF_ERROR(AppendValue(file, type));
  JEVONS_RETURN_IF_ERROR(AppendValue(file, sequences));
  JEVONS_RETURN_IF_ERROR(AppendValue(file, sequences + 1));
  JEVONS_RETURN_IF_ERROR(file.Append(std::as_bytes(lengths)));
  int64_t pointer = 0;
  for (const int32_t length : lengths) {
    JEVONS_RETURN_IF_ERROR(AppendValue(file, pointer));
    pointer += length * TokenBytes(type);
  }
  for (uint64_t sequence = 0; sequence <= sequences; ++sequence) {
    JEVONS_RETURN_IF_ERROR(AppendValue(file, static_cast<int64_t>(sequence)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<IndexedDatasetWriter> IndexedDatasetWriter::Create(const std::string& prefix, int64_t vocab_size) {
  JEVONS_RETURN_IF_ERROR(index_layout::CheckVocabSize(prefix, vocab_size));
  JEVONS_ASSIGN_OR_RETURN(OutputFile bin, OutputFile::Create(index_layout::BinPath(prefix)));
  return IndexedDatasetWriter(prefix, vocab_size, std::move(bin));
}

absl::Status IndexedDatasetWriter::AddDocument(std::span<const int32_t> tokens) {
  if (tokens.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    return UsageError(
        absl::StrFormat("%s: document %d has %d tokens, but the format holds at most 2^31 - 1; "
                        "split the document",
                        prefix_, documents(), tokens.size()));
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && tokens[i] < vocab_size_) continue;
    return UsageError(
        absl::StrFormat("%s: document %d, token %d: id %d is outside the vocabulary of %d; use "
                        "the tokenizer that this vocabulary size belongs to",
                        prefix_, documents(), i, tokens[i], vocab_size_));
  }
  if (TokenTypeFor(vocab_size_) == TokenType::kU16) {
    Encode<uint16_t>(tokens, encoded_);
  } else {
    Encode<int32_t>(tokens, encoded_);
  }
  JEVONS_RETURN_IF_ERROR(bin_.Append(encoded_));
  sums_.Append(encoded_);
  lengths_.push_back(static_cast<int32_t>(tokens.size()));
  tokens_ += static_cast<int64_t>(tokens.size());
  return absl::OkStatus();
}

absl::Status IndexedDatasetWriter::Finish() {
  const std::string idx_path = index_layout::IdxPath(prefix_);
  JEVONS_ASSIGN_OR_RETURN(OutputFile idx, OutputFile::Create(idx_path));
  SummedFile summed(idx);
  JEVONS_RETURN_IF_ERROR(WriteIndex(summed, TokenTypeFor(vocab_size_), lengths_));
  const std::string sums_path = index_layout::SumsPath(prefix_);
  JEVONS_ASSIGN_OR_RETURN(OutputFile sums, OutputFile::Create(sums_path));
  JEVONS_RETURN_IF_ERROR(sums_.Write(sums, summed.sum()));
  // An older index goes first: at no instant may it stand beside the new tokens.
  JEVONS_RETURN_IF_ERROR(Remove(idx_path));
  JEVONS_RETURN_IF_ERROR(Remove(sums_path));
  JEVONS_RETURN_IF_ERROR(bin_.Close());
  JEVONS_RETURN_IF_ERROR(sums.Close());
  return idx.Close();
}

}  // namespace jevons
