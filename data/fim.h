// Fill-in-the-middle: a document is cut twice and its middle moved to the end, so that the model learns to
// fill a hole from both sides. DeepSeek-V3 report, section 4.1: PSM order, rate 0.1, on whole documents
// before packing:
//   <fim_begin> prefix <fim_hole> suffix <fim_end> middle <eos>
// The document grows by exactly kFimExtraTokens; its own <eos>, if it ends in one, stays the last token.
#ifndef JEVONS_DATA_FIM_H_
#define JEVONS_DATA_FIM_H_

#include <array>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/index/indexed_dataset.h"

namespace jevons {

inline constexpr int64_t kFimExtraTokens = 3;
inline constexpr int64_t kFimMinTokens = 2;  // shorter documents are left alone: there is nothing to cut

struct FimTokens {
  int32_t begin = 0;
  int32_t hole = 0;
  int32_t end = 0;
  int32_t eos = 0;
};

// One document in PSM order, read in place from its dataset, which must outlive it.
class FimDocument {
 public:
  // Both cuts are uniform over the gaps between the document's tokens, drawn from `key`.
  static absl::StatusOr<FimDocument> Open(const IndexedDataset& dataset, int64_t document, uint64_t key,
                                          const FimTokens& special);

  // Tokens offset .. offset + out.size() - 1. REQUIRES: within DocumentLength + kFimExtraTokens.
  absl::Status Read(int64_t offset, std::span<int32_t> out) const;

 private:
  // `length` tokens of the dataset from `start` on, or (start < 0) one special token.
  struct Piece {
    int64_t start;
    int64_t length;
    int32_t special;
  };

  FimDocument(const IndexedDataset& dataset, const std::array<Piece, 7>& pieces) : dataset_(&dataset), pieces_(pieces) {}

  const IndexedDataset* dataset_;
  std::array<Piece, 7> pieces_;
};

}  // namespace jevons

#endif  // JEVONS_DATA_FIM_H_
