// Hashes of memory, wherever it lies: whether two ranks, or one rank twice, have the same bits.
#ifndef JEVONS_PARALLEL_HASH_H_
#define JEVONS_PARALLEL_HASH_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/tensor/stream.h"
#include "kernels/tensor/tensor.h"

namespace jevons {

// XXH3-64 of `bytes` where the stream works, after what has been hashed already. The host waits for a device.
uint64_t HashOf(const Stream& stream, std::span<const std::byte> bytes, uint64_t before = 0);
uint64_t HashOf(const Stream& stream, const Tensor& contiguous, uint64_t before = 0);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_HASH_H_
