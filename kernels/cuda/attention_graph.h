// Attention as a graph of cuDNN: what the library is told of a call, and what it answers. Only attention_graph.cc sees its frontend.
//
// A document is a sequence of the library's batch, causal from its own beginning; documents are packed one after the other
// ("ragged"), and a table on the device says where they begin.
#ifndef JEVONS_KERNELS_CUDA_ATTENTION_GRAPH_H_
#define JEVONS_KERNELS_CUDA_ATTENTION_GRAPH_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>

#include "absl/status/statusor.h"
#include "kernels/cuda/attention_plan.h"

struct cudnnContext;  // cudnnHandle_t points to it

namespace jevons::cuda {

// Tensors of a graph. Where an operand's documents begin is a tensor of its own, kOffsets + the operand's.
enum GraphTensor : int64_t { kQ = 1, kK, kV, kO, kStats, kDO, kDQ, kDK, kDV, kLengths, kOffsets };

// Heads of a [T, ...] tensor, BF16 but for kStats; distances in elements.
struct GraphOperand {
  GraphTensor id = kQ;
  void* data = nullptr;
  int64_t pitch = 0, head_pitch = 0, dim = 0;
};

// The device that a plan is for: that of a handle or, where that is null, one that is only described, in cuDNN's JSON
// (CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION), for Hopper.
struct GraphDevice {
  cudnnContext* handle = nullptr;
  std::string description = "";
};

class AttentionGraph {
 public:
  // FailureError, with the library's words, if it has no plan for this.
  static absl::StatusOr<std::unique_ptr<AttentionGraph>> Make(const GraphShape& shape, std::span<const GraphOperand> operands,
                                                              const GraphDevice& device);
  ~AttentionGraph();
  int64_t workspace_bytes() const;
  // Addresses of all the graph's tensors; a workspace on a multiple of 256 bytes.
  void Execute(cudnnContext* handle, std::unordered_map<int64_t, void*>& addresses, void* workspace) const;

 private:
  struct Plan;
  explicit AttentionGraph(std::unique_ptr<Plan> plan);
  std::unique_ptr<Plan> plan_;
};

// Opens the library; why it cannot be, or empty. Nothing else here may be called before.
std::string OpenCudnn();
// cudnnGetVersion: 91900 for 9.19.0.
int CudnnVersion();
// A handle on the current device, null and why not in *problem.
cudnnContext* NewCudnnHandle(std::string* problem);
void SetCudnnStream(cudnnContext* handle, void* stream);

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_ATTENTION_GRAPH_H_
