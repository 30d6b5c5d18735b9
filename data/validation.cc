#include "data/validation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"

namespace jevons {

absl::StatusOr<ValidationSet> ValidationSet::Open(const std::string& prefix, int64_t seq_len, int64_t vocab_size) {
  if (seq_len < 1 || seq_len > (int64_t{1} << 30)) {
    return UsageError(absl::StrFormat("sequence_length is %d; it must lie in 1..2^30", seq_len));
  }
  JEVONS_ASSIGN_OR_RETURN(IndexedDataset dataset, IndexedDataset::Open(prefix, vocab_size));
  if (dataset.tokens() < 2) {
    return IntegrityError(
        absl::StrFormat("%s.bin: %d tokens, but a validation set needs 2 to predict one; prepare it "
                        "with a larger validation share",
                        prefix, dataset.tokens()));
  }
  return ValidationSet(std::move(dataset), seq_len);
}

// The document that holds token `position`: the last that begins there or before (earlier ones may be empty).
int64_t ValidationSet::DocumentAt(int64_t position) const {
  int64_t document = 0, beyond = dataset_.documents();
  while (beyond - document > 1) {
    const int64_t middle = document + (beyond - document) / 2;
    (dataset_.DocumentStart(middle) <= position ? document : beyond) = middle;
  }
  return document;
}

absl::Status ValidationSet::Read(int64_t index, std::span<int32_t> tokens, std::span<int32_t> document_start) const {
  JEVONS_CHECK(index >= 0 && index < samples() && static_cast<int64_t>(tokens.size()) == seq_len_ + 1);
  JEVONS_CHECK(document_start.empty() || static_cast<int64_t>(document_start.size()) == seq_len_);
  const int64_t begin = index * seq_len_;
  const auto real = static_cast<size_t>(std::min(seq_len_ + 1, dataset_.tokens() - begin));
  JEVONS_RETURN_IF_ERROR(dataset_.Read(begin, tokens.first(real)));
  std::fill(tokens.begin() + static_cast<ptrdiff_t>(real), tokens.end(), kPaddingToken);
  if (document_start.empty()) return absl::OkStatus();
  int64_t document = DocumentAt(begin);
  int32_t start = 0;
  for (int64_t i = 0; i < seq_len_; ++i) {
    while (document + 1 < dataset_.documents() && dataset_.DocumentStart(document + 1) <= begin + i) {
      ++document;
      start = static_cast<int32_t>(i);
    }
    document_start[static_cast<size_t>(i)] = start;
  }
  return absl::OkStatus();
}

}  // namespace jevons
