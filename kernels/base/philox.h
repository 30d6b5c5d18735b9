// Philox4x32-10, the counter-based random number generator of Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3" (SC'11). A number is a pure function of (key, counter): key = (seed, purpose), counter = index. So a
// parameter's i-th element or a sample's draw never depends on which rank or thread asks for it.
#ifndef JEVONS_KERNELS_BASE_PHILOX_H_
#define JEVONS_KERNELS_BASE_PHILOX_H_

#include <array>
#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define JEVONS_HOST_DEVICE __host__ __device__
#else
#define JEVONS_HOST_DEVICE
#endif

namespace jevons {

struct Philox4 {
  uint32_t v[4];
};

// The ten-round block function.
JEVONS_HOST_DEVICE inline Philox4 Philox(uint64_t key, uint64_t counter_low, uint64_t counter_high) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  Philox4 c{{static_cast<uint32_t>(counter_low), static_cast<uint32_t>(counter_low >> 32), static_cast<uint32_t>(counter_high),
             static_cast<uint32_t>(counter_high >> 32)}};
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c.v[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c.v[2];
    c = {{static_cast<uint32_t>(p1 >> 32) ^ c.v[1] ^ k0, static_cast<uint32_t>(p1), static_cast<uint32_t>(p0 >> 32) ^ c.v[3] ^ k1,
          static_cast<uint32_t>(p0)}};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

// 64 random bits for draw `index` of stream (seed, purpose).
JEVONS_HOST_DEVICE inline uint64_t RandomBits(uint64_t seed, uint64_t purpose, uint64_t index) {
  const Philox4 r = Philox(seed, index, purpose);
  return (uint64_t{r.v[1]} << 32) | r.v[0];
}

// Uniform in [0, 1), 53 bits.
JEVONS_HOST_DEVICE inline double RandomUniform(uint64_t seed, uint64_t purpose, uint64_t index) {
  return static_cast<double>(RandomBits(seed, purpose, index) >> 11) * 0x1.0p-53;
}

// Standard normal by Box-Muller, one value per index.
JEVONS_HOST_DEVICE inline double RandomNormal(uint64_t seed, uint64_t purpose, uint64_t index) {
  const Philox4 r = Philox(seed, index, purpose);
  const double u1 = (static_cast<double>(r.v[0]) + 1.0) * 0x1.0p-32;  // in (0, 1]
  const double u2 = static_cast<double>(r.v[1]) * 0x1.0p-32;
  return std::sqrt(-2.0 * std::log(u1)) * std::cos(6.283185307179586476925286766559 * u2);
}

}  // namespace jevons

#endif  // JEVONS_KERNELS_BASE_PHILOX_H_
