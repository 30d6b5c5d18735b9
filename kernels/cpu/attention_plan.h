// How attention is cut up. One task is a head of a sequence: its keys and values are packed once, then blocks
// of kQueries rows meet blocks of kKeys visible rows, so a thread holds a block of scores and never a whole
// score matrix.
#ifndef JEVONS_KERNELS_CPU_ATTENTION_PLAN_H_
#define JEVONS_KERNELS_CPU_ATTENTION_PLAN_H_

#include <algorithm>
#include <cstdint>

#include "kernels/base/partition.h"
#include "kernels/ops/attention.h"

namespace jevons::cpu {

inline constexpr int64_t kQueries = 64;
inline constexpr int64_t kKeys = 256;
inline constexpr int64_t kAlign = 64;               // floats: a multiple of every panel width
inline constexpr int64_t kScorePitch = kKeys + 16;  // not a power of two, so that columns fall into different cache sets

inline int64_t Padded(int64_t n) { return (n + 15) / 16 * 16; }  // whole vectors of up to 16 lanes
inline int64_t PaddedKeys(int64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

// One head of one sequence.
struct AttentionHead {
  AttentionHead(const AttentionDesc& d, int64_t task)
      : desc(d),
        head(task % d.heads),
        first_row(task / d.heads * d.sequence_length),
        key_dim(d.nope_dim + d.rope_dim),
        key_pitch(Padded(key_dim)),
        value_pitch(Padded(d.value_dim)) {}

  int64_t query_column() const { return head * key_dim; }
  int64_t key_column() const { return head * (desc.nope_dim + desc.value_dim); }
  int64_t value_column() const { return key_column() + desc.nope_dim; }
  int64_t output_column() const { return head * desc.value_dim; }

  // The positions that position t sees: [first, t].
  Range Visible(int64_t t) const { return {desc.document_start ? desc.document_start.as<int32_t>()[first_row + t] : 0, t + 1}; }
  // The keys that some query of [begin, end) sees, from a multiple of kAlign on.
  Range VisibleToBlock(Range queries) const {
    int64_t first = queries.begin;
    for (int64_t t = queries.begin; t < queries.end; ++t) first = std::min(first, Visible(t).begin);
    return {first / kAlign * kAlign, queries.end};
  }

  const AttentionDesc& desc;
  int64_t head, first_row;
  int64_t key_dim, key_pitch, value_pitch;
};

// Hands out consecutive pieces of one thread's scratch. With null it only counts.
class Pieces {
 public:
  explicit Pieces(float* base) : base_(base) {}
  float* Take(int64_t floats) {
    float* piece = base_ ? base_ + used_ : nullptr;
    used_ += Padded(floats);
    return piece;
  }
  int64_t used() const { return used_; }

 private:
  float* base_;
  int64_t used_ = 0;
};

}  // namespace jevons::cpu

#endif  // JEVONS_KERNELS_CPU_ATTENTION_PLAN_H_
