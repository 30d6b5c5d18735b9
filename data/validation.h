// The validation set: a dataset cut into samples in the order of the file, without shuffle, epochs or
// fill-in-the-middle, so that a validation loss is a pure function of the files and the model.
#ifndef JEVONS_DATA_VALIDATION_H_
#define JEVONS_DATA_VALIDATION_H_

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/index/indexed_dataset.h"
#include "kernels/base/partition.h"

namespace jevons {

// Stands for tokens behind the end of the data. SplitInputsAndLabels makes it an ignored label.
inline constexpr int32_t kPaddingToken = -1;

class ValidationSet {
 public:
  // UsageError for seq_len; IntegrityError for damaged files, or fewer than two tokens (nothing to predict).
  static absl::StatusOr<ValidationSet> Open(const std::string& prefix, int64_t seq_len, int64_t vocab_size);

  // Into samples of another length, as Open takes it.
  void Cut(int64_t seq_len) { seq_len_ = seq_len; }

  // Samples of seq_len inputs, the last one perhaps padded; and the labels in all of them, one less than the
  // tokens.
  int64_t samples() const { return (labels() + seq_len_ - 1) / seq_len_; }
  int64_t labels() const { return dataset_.tokens() - 1; }

  // The i-th of `count` samples spread evenly over the set: each the first of one of as many equal stretches.
  // REQUIRES: 0 <= i < count <= samples().
  int64_t SpreadSample(int64_t i, int64_t count) const { return BlockOf(samples(), count, i).begin; }

  // Sample `index` in 0..samples()-1. tokens: [seq_len + 1], kPaddingToken behind the end; document_start:
  // [seq_len] or empty, as in SampleStream::Read. IntegrityError for a token outside the vocabulary.
  absl::Status Read(int64_t index, std::span<int32_t> tokens, std::span<int32_t> document_start) const;

 private:
  ValidationSet(IndexedDataset dataset, int64_t seq_len) : dataset_(std::move(dataset)), seq_len_(seq_len) {}
  int64_t DocumentAt(int64_t position) const;

  IndexedDataset dataset_;
  int64_t seq_len_;
};

}  // namespace jevons

#endif  // JEVONS_DATA_VALIDATION_H_
