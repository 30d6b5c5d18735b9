// Attention on CUDA streams: NVIDIA's cuDNN where it can, else kernels of this program.
//
//   cudnn  BF16; head sizes multiples of 8, the rope part too; without documents, or with documents of which the host knows number
//          and length, from cuDNN 9.18 on; built with cuDNN's frontend headers, and with cuDNN 9 on the machine
//   plain  everything; FP32 arithmetic on the plain units, for tests and for what cudnn cannot do
//
// JEVONS_CUDA_ATTENTION=plain in the environment leaves cudnn out; =exact has it plan for the very number of documents that the caller
// says instead of the next power of two, which the others of length zero fill up: more plans, and in one call whatever memory
// it takes, to learn whether the empty ones are at fault. Both give the same bits in every run.
#ifndef JEVONS_KERNELS_CUDA_ATTENTION_H_
#define JEVONS_KERNELS_CUDA_ATTENTION_H_

#include <string>

#include "kernels/ops/attention.h"

namespace jevons::cuda {

void PlainAttention(const OpContext& ctx, const AttentionDesc& desc);
void PlainAttentionBackward(const OpContext& ctx, const AttentionDesc& desc, const AttentionGrad& grad);

// Why cuDNN does not serve this call, and nothing was done; empty: it did.
std::string CudnnAttention(const OpContext& ctx, const AttentionDesc& desc);
std::string CudnnAttentionBackward(const OpContext& ctx, const AttentionDesc& desc, const AttentionGrad& grad);
// Why cuDNN takes no such call, whatever its version; empty: it does. grad: null for a forward call.
std::string CudnnRefusal(const AttentionDesc& desc, const AttentionGrad* grad);
// Why no attention can go to cuDNN in this process; empty if it can, as far as can be told without a device.
std::string CudnnProblem();

// For tests and benchmarks: leaves cuDNN out, or asks it again.
void LeaveOutCudnn(bool leave_out);
bool CudnnIsLeftOut();
// The same for `exact`.
void CountDocumentsExactly(bool exactly);
bool DocumentsAreCountedExactly();

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_ATTENTION_H_
