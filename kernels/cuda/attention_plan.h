// How a call of attention is cut for cuDNN, and what memory that takes. Plain arithmetic: a planner asks it where there is no device.
#ifndef JEVONS_KERNELS_CUDA_ATTENTION_PLAN_H_
#define JEVONS_KERNELS_CUDA_ATTENTION_PLAN_H_

#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/ops/attention.h"

namespace jevons::cuda {

inline constexpr int64_t kMostKeyBytes = int64_t{256} << 20;  // whole keys of a group of heads
inline constexpr int64_t kMostScoreBytes = int64_t{1} << 30;  // scores of a group of heads in the backward
inline constexpr int64_t kFewestDocuments = 4;  // of a call: their tables begin at multiples of 16 bytes

// What a graph is about beside its operands: `batch` sequences of at most `length` of the T = `rows` rows.
struct GraphShape {
  bool backward = false, ragged = false;
  int64_t batch = 0, length = 0, rows = 0, heads = 0;
  float scale = 0;
};

// How a call is cut: into groups of heads and, where even one head's scores of all documents would take too much memory, into calls
// for some of the documents.
struct CallPlan {
  GraphShape shape;       // of each call
  int64_t documents = 0;  // a multiple of shape.batch; 0: none are told apart
};
// `exact`: as many sequences as the caller says documents, so that, if that is their very number, none has length zero.
inline CallPlan PlanOf(const AttentionDesc& d, bool backward, bool exact = false) {
  GraphShape s{.backward = backward, .rows = d.q.rows(), .scale = d.scale};
  if (!d.document_start) {
    s.batch = s.rows / d.sequence_length;
    s.length = d.sequence_length;
  } else {
    // Powers of two, so that few shapes ever come.
    const auto up = [](int64_t n) { return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n))); };
    s.ragged = true;
    s.batch = exact ? d.documents : up(d.documents);
    s.length = std::min(up(std::max<int64_t>(d.longest_document, 256)), d.sequence_length);
  }
  const int64_t documents = s.ragged ? s.batch : 0;
  int64_t most = kMostKeyBytes / (s.rows * (d.nope_dim + d.rope_dim) * 2);
  if (backward) {
    const int64_t side = (s.length + 63) / 64 * 64, scores = side * side * 2;
    while (s.ragged && !exact && s.batch > kFewestDocuments && s.batch * scores > kMostScoreBytes) s.batch /= 2;
    most = std::min(most, kMostScoreBytes / (s.batch * scores));
  }
  // The largest number of heads that divides all of them and keeps to the bounds.
  s.heads = std::clamp<int64_t>(most, 1, d.heads);
  while (d.heads % s.heads != 0) --s.heads;
  return {s, documents};
}

// What the library asks for besides its operands, at most: for the deterministic backward a gradient for every pair of positions of
// the call's sequences, of tiles of 64 x 64, in BF16, and a sum for each row.
inline int64_t WorkspaceBytes(const GraphShape& s) {
  const int64_t side = (s.length + 63) / 64 * 64, tables = int64_t{1} << 20;
  return s.backward ? s.batch * s.heads * side * side * 2 + (s.rows + s.batch * 64) * s.heads * 4 + tables
                    : tables;
}

// All that a call takes from its scratch arena, at most.
inline int64_t ScratchBytes(const AttentionDesc& d, bool backward) {
  const CallPlan plan = PlanOf(d, backward);
  const int64_t keys = plan.shape.rows * plan.shape.heads * (d.nope_dim + d.rope_dim) * 2;
  const int64_t sums = plan.shape.rows * (plan.shape.heads + (backward ? d.rope_dim : 0)) * 4;
  return (backward ? 2 : 1) * keys + sums + WorkspaceBytes(plan.shape) + plan.documents * 80 +
         (int64_t{1} << 16);
}

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_ATTENTION_PLAN_H_
