// Which FP32 inputs the tests of the formats visit.
#ifndef JEVONS_TESTS_KERNELS_FP8_SWEEP_H_
#define JEVONS_TESTS_KERNELS_FP8_SWEEP_H_

#include <bit>
#include <cstdint>
#include <cstdlib>

namespace jevons {

// visit(bits): all 2^16 BF16 numbers, then every 61st of the 2^32 FP32 numbers; all of these with JEVONS_EXHAUSTIVE=1 in the
// environment (a minute or two).
template <class Visit>
void ForFloats(const Visit& visit) {
  for (uint32_t upper = 0; upper < 0x10000u; ++upper) visit(upper << 16);
  const uint64_t step = std::getenv("JEVONS_EXHAUSTIVE") != nullptr ? 1 : 61;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += step) visit(static_cast<uint32_t>(bits));
}

inline bool IsNanBits(uint32_t bits) { return (bits & 0x7FFFFFFFu) > 0x7F800000u; }
inline float FloatOf(uint32_t bits) { return std::bit_cast<float>(bits); }

}  // namespace jevons

#endif  // JEVONS_TESTS_KERNELS_FP8_SWEEP_H_
