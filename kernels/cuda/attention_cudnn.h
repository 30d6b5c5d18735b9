// How the operator's tensors are told to cuDNN: group by group of heads.
#ifndef JEVONS_KERNELS_CUDA_ATTENTION_CUDNN_H_
#define JEVONS_KERNELS_CUDA_ATTENTION_CUDNN_H_

#include <vector>

#include "kernels/cuda/attention_graph.h"
#include "kernels/cuda/scratch.h"
#include "kernels/ops/attention.h"

namespace jevons::cuda {

// The operands of the group that begins with head `first`; forward q k v o stats, backward also dO dq dk dv.
std::vector<GraphOperand> OperandsOf(const AttentionDesc& desc, const AttentionGrad* grad, const CudnnRoom& room, int64_t first);

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_ATTENTION_CUDNN_H_
