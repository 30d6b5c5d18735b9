#include "kernels/cuda/attention.h"

#include <cstdlib>
#include <cstring>

#include "kernels/cuda/cuda_ops.h"

namespace jevons::cuda {
namespace {

bool FromEnvironment() {
  const char* name = std::getenv("JEVONS_CUDA_ATTENTION");
  if (name == nullptr || *name == '\0' || std::strcmp(name, "cudnn") == 0) return false;
  JEVONS_CHECK(std::strcmp(name, "plain") == 0, "JEVONS_CUDA_ATTENTION=%s: say cudnn or plain, or unset it",
               name);
  return true;
}

bool& CudnnLeftOut() {
  static bool left_out = FromEnvironment();
  return left_out;
}

}  // namespace

void LeaveOutCudnn(bool leave_out) { CudnnLeftOut() = leave_out; }

void Attention(const OpContext& ctx, const AttentionDesc& desc) {
  if (CudnnLeftOut() || !CudnnAttention(ctx, desc)) PlainAttention(ctx, desc);
}

void AttentionBackward(const OpContext& ctx, const AttentionDesc& desc, const AttentionGrad& grad) {
  if (CudnnLeftOut() || !CudnnAttentionBackward(ctx, desc, grad)) PlainAttentionBackward(ctx, desc, grad);
}

}  // namespace jevons::cuda
