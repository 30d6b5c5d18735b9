#include "parallel/hash.h"

#include <xxhash.h>

#include <vector>

#include "kernels/tensor/device.h"

namespace jevons {

uint64_t HashOf(const Stream& stream, std::span<const std::byte> bytes, uint64_t before) {
  if (stream.device == Device::kCpu || bytes.empty()) return XXH3_64bits_withSeed(bytes.data(), bytes.size(), before);
  std::vector<std::byte> here(bytes.size());
  Fetch(stream, bytes.data(), here.data(), static_cast<int64_t>(bytes.size()));
  return XXH3_64bits_withSeed(here.data(), here.size(), before);
}

uint64_t HashOf(const Stream& stream, const Tensor& contiguous, uint64_t before) {
  return HashOf(stream, std::span(static_cast<const std::byte*>(contiguous.data), static_cast<size_t>(contiguous.bytes())),
                before);
}

}  // namespace jevons
