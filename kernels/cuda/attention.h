// Attention on CUDA streams: NVIDIA's cuDNN where it can, else kernels of this program.
//
//   cudnn  BF16; head sizes multiples of 8, the rope part too; without documents, or with documents of which the host knows number
//          and length; built with cuDNN's frontend headers, and with cuDNN 9 on the machine
//   plain  everything; FP32 arithmetic on the plain units, for tests and for what cudnn cannot do
//
// JEVONS_CUDA_ATTENTION=plain in the environment leaves cudnn out. Both give the same bits in every run.
#ifndef JEVONS_KERNELS_CUDA_ATTENTION_H_
#define JEVONS_KERNELS_CUDA_ATTENTION_H_

#include <string>

#include "kernels/ops/attention.h"

namespace jevons::cuda {

void PlainAttention(const OpContext& ctx, const AttentionDesc& desc);
void PlainAttentionBackward(const OpContext& ctx, const AttentionDesc& desc, const AttentionGrad& grad);

// False: not for cuDNN, and nothing was done.
bool CudnnAttention(const OpContext& ctx, const AttentionDesc& desc);
bool CudnnAttentionBackward(const OpContext& ctx, const AttentionDesc& desc, const AttentionGrad& grad);
// Why no attention can go to cuDNN in this process; empty if it can.
std::string CudnnProblem();

// For tests and benchmarks: leaves cuDNN out, or asks it again.
void LeaveOutCudnn(bool leave_out);

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_ATTENTION_H_
