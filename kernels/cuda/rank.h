// Numbers as integers of the same order, for choosing the best by integer maxima. The same on host and device.
#ifndef JEVONS_KERNELS_CUDA_RANK_H_
#define JEVONS_KERNELS_CUDA_RANK_H_

#include <bit>
#include <cstdint>

#include "kernels/base/philox.h"  // JEVONS_HOST_DEVICE

namespace jevons::cuda {

// a < b exactly where RankOf(a) < RankOf(b); -0 equals +0; NaN stands above all numbers. Never 0, which so means "taken".
JEVONS_HOST_DEVICE constexpr uint32_t RankOf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value + 0.0f);  // -0 + 0 = +0
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0xFFFFFFFFu;
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

inline constexpr uint32_t kTaken = 0;

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_RANK_H_
