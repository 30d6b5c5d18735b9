// How a row of logits is dealt to blocks. Plain arithmetic, tested on the host.
#ifndef JEVONS_KERNELS_CUDA_SOFTMAX_XENT_PLAN_H_
#define JEVONS_KERNELS_CUDA_SOFTMAX_XENT_PLAN_H_

#include "kernels/cuda/grid.h"

namespace jevons::cuda {

// A row is shared by the blocks of a cluster, which keep it in shared memory between its maximum, its sum and its gradient, so
// that it is read once. 8 blocks are what every device takes as a cluster.
struct XentPlan {
  int blocks = 1;      // of a row: 1, 2, 4 or 8
  int64_t slice = 0;   // logits of a block, a multiple of 4; the last block's may be fewer, or none
  bool keeps = false;  // in shared memory; else the row is read three times
  int threads = 32;

  int64_t shared_bytes() const { return keeps ? slice * static_cast<int64_t>(sizeof(float)) : 0; }
};

inline constexpr int64_t kSharedForThree = 72 << 10;  // of 227 KiB of a multiprocessor: three blocks, one loads while one stores
inline constexpr int64_t kSharedForOne = 220 << 10;

constexpr XentPlan PlanXent(int64_t vocab) {
  XentPlan plan;
  const auto slice = [&](int blocks) { return CeilDiv(CeilDiv(vocab, blocks), 4) * 4; };
  while (plan.blocks < 8 && slice(plan.blocks) * 4 > kSharedForThree) plan.blocks *= 2;
  plan.slice = slice(plan.blocks);
  plan.keeps = plan.slice * 4 <= kSharedForOne;
  plan.threads = RowThreads(CeilDiv(plan.slice, 4), 4, 512);
  return plan;
}

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_SOFTMAX_XENT_PLAN_H_
