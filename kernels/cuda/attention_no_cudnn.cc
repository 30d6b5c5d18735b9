// What stands in for cuDNN's attention in a build without its frontend headers.
#include "kernels/cuda/attention.h"

namespace jevons::cuda {

std::string CudnnProblem() { return "this program was built without cuDNN's frontend headers"; }
bool CudnnAttention(const OpContext&, const AttentionDesc&) { return false; }
bool CudnnAttentionBackward(const OpContext&, const AttentionDesc&, const AttentionGrad&) { return false; }

}  // namespace jevons::cuda
