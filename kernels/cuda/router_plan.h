// The shared memory in which warps route. Plain arithmetic, tested on the host.
#ifndef JEVONS_KERNELS_CUDA_ROUTER_PLAN_H_
#define JEVONS_KERNELS_CUDA_ROUTER_PLAN_H_

#include "kernels/ops/router.h"

namespace jevons::cuda {

inline constexpr int kRouterWarps = 8;                  // of a block, or fewer where many experts fill the shared memory
inline constexpr int64_t kMostRouterBytes = 200 << 10;  // of shared memory

// Warps of a block, each of which has a row, and the block's shared memory.
struct WarpRoom {
  int warps;
  int64_t bytes;
  constexpr bool fits() const { return bytes <= kMostRouterBytes; }
};

// `words` for each warp and `common` for all, of 4 bytes.
constexpr WarpRoom RoomFor(int64_t words, int64_t common) {
  const auto bytes = [&](int warps) { return 4 * (warps * words + common); };
  int warps = kRouterWarps;
  while (warps > 1 && bytes(warps) > (warps > 4 ? kMostRouterBytes / 4 : kMostRouterBytes)) warps /= 2;
  return {warps, bytes(warps)};
}

constexpr WarpRoom RouterRoom(const RouterDesc& d) { return RoomFor(2 * d.experts + d.groups + d.top_k, d.experts); }
constexpr WarpRoom BalanceLossRoom(const RouterDesc& d) { return RoomFor(2 * d.experts, d.experts); }
constexpr WarpRoom RouterBackwardRoom(const RouterDesc& d) { return RoomFor(d.experts, 0); }

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_ROUTER_PLAN_H_
