#include "kernels/cuda/attention.h"

#include "absl/strings/str_format.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/report.h"

namespace jevons::cuda {
namespace {

// True: `refusal` is empty, cuDNN has served. FP32 is not meant for it.
bool Counted(const AttentionDesc& d, const char* pass, const std::string& refusal) {
  CountServed(refusal.empty() ? &Served::cudnn : &Served::plain_attention);
  if (!refusal.empty() && d.q.dtype == DType::kBF16)
    CountFallback(absl::StrFormat("cuDNN refuses attention %s of %d heads of %d + %d and %d, %d rows%s (%s)", pass, d.heads,
                                  d.nope_dim, d.rope_dim, d.value_dim, d.q.rows(), d.document_start ? " in documents" : "",
                                  refusal));
  return refusal.empty();
}

}  // namespace

void Attention(const OpContext& ctx, const AttentionDesc& desc) {
  if (!CudnnIsLeftOut() && Counted(desc, "forward", CudnnAttention(ctx, desc))) return;
  PlainAttention(ctx, desc);
}

void AttentionBackward(const OpContext& ctx, const AttentionDesc& desc, const AttentionGrad& grad) {
  if (!CudnnIsLeftOut() && Counted(desc, "backward", CudnnAttentionBackward(ctx, desc, grad))) return;
  PlainAttentionBackward(ctx, desc, grad);
}

}  // namespace jevons::cuda
