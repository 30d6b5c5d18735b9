// Buffers of a test where a stream works. What is put there is copied in stream order, without waiting, so that whatever
// uses it too early is seen on a device.
#ifndef JEVONS_TESTS_PARALLEL_STREAM_MEMORY_H_
#define JEVONS_TESTS_PARALLEL_STREAM_MEMORY_H_

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <deque>
#include <span>
#include <vector>

#include "kernels/tensor/arena.h"
#include "kernels/tensor/device.h"

namespace jevons {

class StreamMemory {
 public:
  explicit StreamMemory(const Stream& stream, int64_t bytes = int64_t{1} << 26)
      : stream_(stream), arena_("test", bytes, stream.device) {}
  ~StreamMemory() { Synchronize(stream_); }

  template <typename T>
  T* Put(const std::vector<T>& values) {
    const std::span<const std::byte> bytes = std::as_bytes(std::span(values));
    kept_.emplace_back(bytes.begin(), bytes.end());
    void* place = arena_.Allocate("test", DType::kU8, {static_cast<int64_t>(bytes.size())}).data;
    CopyBytes(stream_, kept_.back().data(), place, static_cast<int64_t>(bytes.size()));
    return static_cast<T*>(place);
  }
  std::span<std::byte> PutBytes(const std::vector<std::byte>& bytes) { return {Put(bytes), bytes.size()}; }

  // Waits.
  template <typename T>
  std::vector<T> Get(const T* place, size_t size) {
    std::vector<T> values(size);
    CopyBytes(stream_, place, values.data(), static_cast<int64_t>(size * sizeof(T)));
    Synchronize(stream_);
    return values;
  }
  std::vector<std::byte> GetBytes(std::span<const std::byte> bytes) { return Get(bytes.data(), bytes.size()); }

 private:
  Stream stream_;
  Arena arena_;
  std::deque<std::vector<std::byte>> kept_;  // until they are copied
};

}  // namespace jevons

#endif  // JEVONS_TESTS_PARALLEL_STREAM_MEMORY_H_
