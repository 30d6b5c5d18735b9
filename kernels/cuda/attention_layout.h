// What lies between the operator's tensors and those of a library: whole keys per head, gradients of keys taken apart, and where
// documents begin. BF16; addresses and pitches allow words of 16 bytes, head sizes are multiples of 8.
#ifndef JEVONS_KERNELS_CUDA_ATTENTION_LAYOUT_H_
#define JEVONS_KERNELS_CUDA_ATTENTION_LAYOUT_H_

#include "kernels/ops/attention.h"

namespace jevons::cuda {

struct HeadGroup {
  int64_t first, count;
};

// keys[t, count, nope + rope] = [kv's nope | k_rope] of the group's heads.
void AssembleKeys(const OpContext& ctx, const AttentionDesc& desc, const HeadGroup& heads, const Tensor& keys);

// From d_keys [T, count, nope + rope]: dkv's nope columns of these heads, and the rope columns added to sums [T, rope] FP32 head by
// head. The first group begins the sums, the last one writes them to dk_rope.
void SplitKeyGrads(const OpContext& ctx, const AttentionDesc& desc, const HeadGroup& heads, const Tensor& d_keys,
                   const AttentionGrad& grad, const Tensor& sums);

// lse [T, heads] to or from a library's [T / sequence_length, heads, sequence_length] without gaps.
enum class StatsTo { kHeadMajor, kRows };
void MoveStats(const OpContext& ctx, const Tensor& lse, int64_t sequence_length, const Tensor& head_major, StatsTo to);

// Documents of T rows as a library counts them: those longer than `above`, up to `longest`, in their order. Longer ones than the
// host knows of abort the kernel (AttentionDesc), as do more documents than there is room for.
struct DocumentTable {
  static constexpr int kMostPitches = 9;
  int64_t documents = 0, above = 0, longest = 0;
  int64_t pitches[kMostPitches] = {};  // elements between rows, of several tensors
  int count = 0;                       // of pitches
  Tensor lengths;                      // [documents] I32, 0 for documents that are not there
  Tensor offsets;                      // [count, documents + 1 or more] I64: first row times pitch; the end for those not there
};
void FillDocuments(const OpContext& ctx, const AttentionDesc& desc, const DocumentTable& table);

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_ATTENTION_LAYOUT_H_
