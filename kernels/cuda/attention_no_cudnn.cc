// What stands in for cuDNN's attention in a build without its frontend headers.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/report.h"

namespace jevons::cuda {

std::string CudnnProblem() { return "this program was built without cuDNN's frontend headers"; }
std::string CudnnText() { return ""; }
std::string CudnnAttention(const OpContext&, const AttentionDesc&) { return CudnnProblem(); }
std::string CudnnAttentionBackward(const OpContext&, const AttentionDesc&, const AttentionGrad&) { return CudnnProblem(); }

}  // namespace jevons::cuda
