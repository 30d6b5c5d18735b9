// Tokenised documents on disk: Megatron's pair PREFIX.bin (the tokens) and PREFIX.idx (where each sequence
// and document lies), and their checksums in PREFIX.sums. The bytes are specified in FORMAT.md.
//
//   JEVONS_ASSIGN_OR_RETURN(IndexedDatasetWriter writer, IndexedDatasetWriter::Create("runs/bible", 4096));
//   JEVONS_RETURN_IF_ERROR(writer.AddDocument(tokens));
//   JEVONS_RETURN_IF_ERROR(writer.Finish());
//   JEVONS_ASSIGN_OR_RETURN(IndexedDataset dataset, IndexedDataset::Open("runs/bible", 4096));
#ifndef JEVONS_DATA_INDEX_INDEXED_DATASET_H_
#define JEVONS_DATA_INDEX_INDEXED_DATASET_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/index/block_sums.h"
#include "data/index/mapped_file.h"
#include "data/index/output_file.h"

namespace jevons {

// The integer types a .bin may hold, by their code in the .idx. Megatron's codes 6 and 7 are floating point.
enum class TokenType : uint8_t { kU8 = 1, kI8 = 2, kI16 = 3, kI32 = 4, kI64 = 5, kU16 = 8 };

// Bytes per token.
int64_t TokenBytes(TokenType type);

// The type that Megatron's writer picks: 2 bytes where every id fits with room to spare, else 4.
inline TokenType TokenTypeFor(int64_t vocab_size) { return vocab_size < 65500 ? TokenType::kU16 : TokenType::kI32; }

// Writes a dataset, one sequence per document. The files appear under their names only when Finish succeeds,
// and an .idx never stands beside a .bin or .sums that is not its own.
class IndexedDatasetWriter {
 public:
  // UsageError unless 1 <= vocab_size <= 2^31 - 1; FailureError where the disk refuses.
  static absl::StatusOr<IndexedDatasetWriter> Create(const std::string& prefix, int64_t vocab_size);

  // UsageError for a token outside [0, vocab_size) or a document of 2^31 tokens or more. May be empty.
  absl::Status AddDocument(std::span<const int32_t> tokens);

  // Writes sums and index and makes all files durable (fsync). Call it once, last.
  absl::Status Finish();

  int64_t documents() const { return static_cast<int64_t>(lengths_.size()); }
  int64_t tokens() const { return tokens_; }

 private:
  IndexedDatasetWriter(std::string prefix, int64_t vocab_size, OutputFile bin)
      : prefix_(std::move(prefix)), vocab_size_(vocab_size), bin_(std::move(bin)) {}

  std::string prefix_;
  int64_t vocab_size_;
  OutputFile bin_;
  BlockSummer sums_;
  std::vector<int32_t> lengths_;  // [documents], in tokens
  int64_t tokens_ = 0;
  std::vector<std::byte> encoded_;  // scratch of AddDocument
};

// A dataset opened for reading. Immutable, so any number of threads may read it. The files must not shrink
// while it lives: they are memory-mapped.
class IndexedDataset {
 public:
  // Checks the whole .idx against itself, the size of the .bin, and its checksum before anything is used. Tokens are checked as they are read,
  // and the first time with the whole block that they lie in, if there are checksums. IntegrityError names file, field, value
  // and remedy; UsageError for the vocabulary.
  static absl::StatusOr<IndexedDataset> Open(const std::string& prefix, int64_t vocab_size);

  const std::string& prefix() const { return prefix_; }
  TokenType token_type() const { return type_; }
  int64_t sequences() const { return sequences_; }
  int64_t documents() const { return documents_; }
  int64_t tokens() const { return static_cast<int64_t>(bin_.bytes().size()) / TokenBytes(type_); }

  // Tokens in document d, and before it. REQUIRES: 0 <= d < documents().
  int64_t DocumentLength(int64_t d) const { return DocumentStart(d + 1) - DocumentStart(d); }
  int64_t DocumentStart(int64_t d) const;  // d == documents() gives tokens()

  // out[i] = token start + i of the dataset, documents end to end. REQUIRES: within [0, tokens()).
  // IntegrityError for a token outside [0, vocab_size), and for a block that has changed since it was prepared.
  absl::Status Read(int64_t start, std::span<int32_t> out) const;

  bool has_sums() const { return sums_.has_value(); }

  // What a checkpoint knows a dataset by: XXH3-64 of the whole .idx (so of every length) and of 64 pages
  // spread over the .bin. Neither path nor date counts.
  uint64_t fingerprint() const { return fingerprint_; }

 private:
  IndexedDataset(std::string prefix, int64_t vocab_size, MappedFile bin, MappedFile idx);
  absl::Status ParseHeader();
  absl::Status CheckSequences() const;
  absl::Status CheckDocuments() const;
  uint64_t ComputeFingerprint() const;
  const std::byte* Lengths() const;          // int32 [sequences]
  const std::byte* Pointers() const;         // int64 [sequences]
  const std::byte* DocumentIndices() const;  // int64 [documents + 1]

  std::string prefix_;
  int64_t vocab_size_;
  MappedFile bin_;
  MappedFile idx_;
  std::optional<BlockSums> sums_;
  TokenType type_ = TokenType::kI32;
  int64_t sequences_ = 0;
  int64_t documents_ = 0;
  uint64_t fingerprint_ = 0;
};

}  // namespace jevons

#endif  // JEVONS_DATA_INDEX_INDEXED_DATASET_H_
