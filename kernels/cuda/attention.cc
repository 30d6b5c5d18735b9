#include "kernels/cuda/attention.h"

#include "absl/strings/str_format.h"
#include "kernels/base/environment.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/report.h"

namespace jevons::cuda {
namespace {

struct Choice {
  bool plain = false, exact = false;
};

Choice FromEnvironment() {
  constexpr const char* kNames[] = {"cudnn", "plain", "exact"};
  const size_t named = EnvironmentChoice("JEVONS_CUDA_ATTENTION", kNames).value_or(0);
  return {.plain = named == 1, .exact = named == 2};
}

Choice& TheChoice() {
  static Choice choice = FromEnvironment();
  return choice;
}

// True: `refusal` is empty, cuDNN has served. FP32 is not meant for it.
bool Counted(const AttentionDesc& d, const char* pass, const std::string& refusal) {
  CountServed(refusal.empty() ? &Served::cudnn : &Served::plain_attention);
  if (!refusal.empty() && d.q.dtype == DType::kBF16)
    CountFallback(absl::StrFormat("cuDNN refuses attention %s of %d heads of %d + %d and %d, %d rows%s (%s)", pass, d.heads, d.nope_dim,
                                  d.rope_dim, d.value_dim, d.q.rows(), d.document_start ? " in documents" : "", refusal));
  return refusal.empty();
}

}  // namespace

void LeaveOutCudnn(bool leave_out) { TheChoice().plain = leave_out; }
void CountDocumentsExactly(bool exactly) { TheChoice().exact = exactly; }
bool DocumentsAreCountedExactly() { return TheChoice().exact; }

void Attention(const OpContext& ctx, const AttentionDesc& desc) {
  if (!TheChoice().plain && Counted(desc, "forward", CudnnAttention(ctx, desc))) return;
  PlainAttention(ctx, desc);
}

void AttentionBackward(const OpContext& ctx, const AttentionDesc& desc, const AttentionGrad& grad) {
  if (!TheChoice().plain && Counted(desc, "backward", CudnnAttentionBackward(ctx, desc, grad))) return;
  PlainAttentionBackward(ctx, desc, grad);
}

}  // namespace jevons::cuda
