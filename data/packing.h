// Packing: a dataset's documents in their shuffled order, end to end, epochs without end, as one stream of
// tokens. Sample j of the dataset is the seq_len + 1 tokens from j seq_len on: neighbours share one token,
// the label of the one's last position and the input of the other's first, so each token is an input exactly
// once per epoch. Where samples are shuffled, those that begin in an epoch change places among themselves.
#ifndef JEVONS_DATA_PACKING_H_
#define JEVONS_DATA_PACKING_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "data/document_order.h"
#include "data/fim.h"
#include "data/index/indexed_dataset.h"
#include "kernels/base/partition.h"

namespace jevons {

// Tokens of one document that follow each other in a sample.
struct DocumentPart {
  int64_t document = 0, epoch = 0;
  int64_t offset = 0;  // of the first, in the document; where that is in fill-in-the-middle order, in what it became
  int64_t tokens = 0;
  bool fim = false;
};

// A part of a dataset's stream that samples of one length are taken from, end to end.
struct Extent {
  static constexpr int64_t kEndless = int64_t{1} << 62;
  int64_t begin = 0;  // its first token
  int64_t samples = kEndless;
  bool operator==(const Extent&) const = default;
};

class PackedDataset {
 public:
  // REQUIRES: the dataset holds at least one token.
  PackedDataset(std::unique_ptr<const IndexedDataset> dataset, const DocumentOrder::Config& order, const FimTokens& fim);

  // Which of the extent's samples in order is its sample `index` where they are shuffled: a pure function of the key,
  // the extent and the index. The sample that straddles two epochs belongs to the one in which it begins.
  // REQUIRES: 0 <= index < extent.samples, seq_len >= 1.
  int64_t ShuffledSample(int64_t index, int64_t seq_len, const Extent& extent = {}) const;
  // The samples that change places with sample `index`, itself among them.
  Range ShuffledAmong(int64_t index, int64_t seq_len, const Extent& extent) const;

  // The stream from `position` (in tokens) on. tokens: [n + 1]; document_start: [n] or empty; for each input
  // position i, where its document begins among `tokens`, 0 if before them.
  // IntegrityError for a token outside the vocabulary. REQUIRES: 0 <= position, and all up to 2^61 + 2^50.
  absl::Status Read(int64_t position, std::span<int32_t> tokens, std::span<int32_t> document_start);

  // What `count` tokens of the stream from `position` on are made of, in order.
  std::vector<DocumentPart> Parts(int64_t position, int64_t count);

  const IndexedDataset& dataset() const { return *dataset_; }
  const DocumentOrder& order() const { return order_; }

 private:
  absl::Status ReadItem(const DocumentOrder::Item& item, int64_t offset, std::span<int32_t> out) const;

  std::unique_ptr<const IndexedDataset> dataset_;
  DocumentOrder order_;
  FimTokens fim_;
  uint64_t key_;
};

// Splits seq_len + 1 tokens into inputs and next-token labels, each [seq_len]. A token of -1 is padding: as a
// label it stays -1 (to be ignored), as an input it becomes 0 (any token: what it predicts is ignored).
void SplitInputsAndLabels(std::span<const int32_t> tokens, std::span<int32_t> inputs, std::span<int32_t> labels);

}  // namespace jevons

#endif  // JEVONS_DATA_PACKING_H_
