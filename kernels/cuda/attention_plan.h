// How a call of attention is cut for cuDNN, and what memory that takes. Plain arithmetic: a planner asks it where there is no device.
#ifndef JEVONS_KERNELS_CUDA_ATTENTION_PLAN_H_
#define JEVONS_KERNELS_CUDA_ATTENTION_PLAN_H_

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "kernels/ops/attention.h"

namespace jevons::cuda {

inline constexpr int64_t kMostKeyBytes = int64_t{256} << 20;  // whole keys of a group of heads
inline constexpr int64_t kMostScoreBytes = int64_t{1} << 30;  // scores of a group of heads in the backward
inline constexpr int64_t kFewestDocuments = 4;   // of one of several runs: their tables begin at multiples of 16 bytes
inline constexpr int64_t kShortestLength = 256;  // that graphs are made for

// The next one, so that few shapes ever come.
inline int64_t PowerOfTwo(int64_t n) { return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n))); }

// What a graph is about beside its operands: `batch` sequences of at most `length` of the T = `rows` rows.
struct GraphShape {
  bool backward = false, ragged = false;
  int64_t batch = 0, length = 0, rows = 0, heads = 0;
  float scale = 0;
};

// A gradient for every pair of positions of a sequence, of tiles of 64 x 64, in BF16: what the deterministic backward keeps for a head.
inline int64_t ScoreBytes(int64_t length) {
  const int64_t side = (length + 63) / 64 * 64;
  return side * side * 2;
}

// Of one head and all the call's sequences.
inline int64_t ScoreBytes(const GraphShape& s) { return s.batch * ScoreBytes(s.length); }

// What one graph serves of a call: all, or documents longer than `above`, up to shape.length.
struct PartPlan {
  GraphShape shape;       // of each of its runs
  int64_t documents = 0;  // room for so many: a multiple of shape.batch; 0: none are told apart
  int64_t above = 0;
};

// How a call is cut: into groups of heads and, for each of them, into parts.
struct CallPlan {
  std::vector<PartPlan> parts;  // the longest documents first; all of as many heads
  int64_t heads() const { return parts[0].shape.heads; }
};

// The backward reckons every sequence of a graph as long as the longest. So few long documents and many short ones go apart, where
// that lets more heads go together: there are at most rows / (n + 1) documents longer than n.
inline std::vector<PartPlan> ByLength(const PartPlan& all) {
  std::vector<PartPlan> best = {all};
  int64_t least = ScoreBytes(all.shape);
  for (int64_t n = all.shape.length / 2; n >= kShortestLength; n /= 2) {
    PartPlan longer = all, rest = all;
    longer.shape.batch = std::min(all.shape.batch, PowerOfTwo(all.shape.rows / (n + 1)));
    longer.documents = longer.shape.batch;
    longer.above = n;
    rest.shape.length = n;
    const int64_t most = std::max(ScoreBytes(longer.shape), ScoreBytes(rest.shape));
    if (most >= least) continue;
    least = most;
    best = {longer, rest};
  }
  return best;
}

// `exact`: as many sequences as the caller says documents, so that, if that is their very number, none has length zero.
inline CallPlan PlanOf(const AttentionDesc& d, bool backward, bool exact = false) {
  GraphShape s{.backward = backward, .rows = d.q.rows(), .scale = d.scale};
  if (!d.document_start) {
    s.batch = s.rows / d.sequence_length;
    s.length = d.sequence_length;
  } else {
    s.ragged = true;
    s.batch = exact ? d.documents : PowerOfTwo(d.documents);
    s.length = std::min(PowerOfTwo(std::max(d.longest_document, kShortestLength)), d.sequence_length);
  }
  CallPlan plan = {{{s, s.ragged ? s.batch : 0}}};
  int64_t most = kMostKeyBytes / (s.rows * (d.nope_dim + d.rope_dim) * 2);
  if (backward) {
    const bool cut = s.ragged && !exact;
    if (cut && ScoreBytes(s) * d.heads > kMostScoreBytes) plan.parts = ByLength(plan.parts[0]);
    for (PartPlan& part : plan.parts) {
      // Where even one head's scores of all documents would take too much memory, a run serves some of them.
      while (cut && part.shape.batch > kFewestDocuments && ScoreBytes(part.shape) > kMostScoreBytes) part.shape.batch /= 2;
      most = std::min(most, kMostScoreBytes / ScoreBytes(part.shape));
    }
  }
  // The largest number of heads that divides all of them and keeps to the bounds.
  int64_t heads = std::clamp<int64_t>(most, 1, d.heads);
  while (d.heads % heads != 0) --heads;
  for (PartPlan& part : plan.parts) part.shape.heads = heads;
  return plan;
}

// What the library asks for besides its operands, at most: in the backward those gradients, and a sum for each row.
inline int64_t WorkspaceBytes(const GraphShape& s) {
  const int64_t tables = int64_t{1} << 20;
  return s.backward ? ScoreBytes(s) * s.heads + (s.rows + s.batch * 64) * s.heads * 4 + tables : tables;
}

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_ATTENTION_PLAN_H_
