// The attention core of MLA (DeepSeek-V3 report, eq. 10): causal, softmax in FP32, in blocks, so that no score matrix is
// kept. Head h of row t has query q[t,h] = [nope | rope] and key [kv[t,h,:nope] | k_rope[t]] (the rope part is shared by the
// heads), value kv[t,h,nope:]. Row t sees the rows of its own sequence from document_start up to itself.
#ifndef JEVONS_KERNELS_OPS_ATTENTION_H_
#define JEVONS_KERNELS_OPS_ATTENTION_H_

#include "kernels/ops/context.h"

namespace jevons {

struct AttentionDesc {
  int64_t heads = 0, nope_dim = 0, rope_dim = 0, value_dim = 0;
  int64_t sequence_length = 0;  // T is a multiple of it: the rows of one sequence lie together
  float scale = 0;              // on the scores: (nope+rope)^-1/2, times YaRN's mscale^2
  Tensor q;                     // [T, heads * (nope+rope)]  FP32 or BF16, as are kv, k_rope, o
  Tensor kv;                    // [T, heads * (nope+value)]
  Tensor k_rope;                // [T, rope]
  Tensor document_start;        // [T] I32: first visible position within the sequence; empty = 0 everywhere
  // What the host knows of document_start: at most so many documents, none longer; 0 = nothing. CUDA's fast path needs both,
  // with documents that follow each other without gaps, and aborts on documents beyond them.
  int64_t documents = 0, longest_document = 0;
  Tensor o;    // [T, heads * value]
  Tensor lse;  // [T, heads] FP32: log of the sum of exp(scores)
};
void Attention(const OpContext& ctx, const AttentionDesc& desc);

struct AttentionGrad {
  Tensor d_o;      // [T, heads * value]
  Tensor dq;       // as q
  Tensor dkv;      // as kv
  Tensor dk_rope;  // as k_rope: summed over the heads in order
};
void AttentionBackward(const OpContext& ctx, const AttentionDesc& desc, const AttentionGrad& grad);

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_ATTENTION_H_
