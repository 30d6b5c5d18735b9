#include "tests/parallel/exchange_checks.h"

#include <bit>
#include <cstring>

#include "gtest/gtest.h"
#include "kernels/tensor/arena.h"
#include "parallel/zero/exchange.h"
#include "tests/parallel/stream_memory.h"

namespace jevons {
namespace {

constexpr int64_t kScratchCapacity = int64_t{1} << 27;

int64_t MostScratch(const Stream& stream) {
  return (stream.device == Device::kCuda ? kExchangeScratchBytesOnDevice : kExchangeScratchBytes) + 192;
}

// What rank `rank` brings: spread over 32 binary orders of magnitude, so that the order of FP32 additions shows in the bits.
int64_t Random(int rank, size_t param, int64_t element) {
  uint64_t x = (static_cast<uint64_t>(rank) * 64 + param) * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(element);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  return static_cast<int64_t>((x ^ (x >> 27)) * 0x94D049BB133111EBu);
}

template <typename T>
T Value(int rank, size_t param, int64_t element) {
  const int64_t x = Random(rank, param, element);
  if constexpr (std::is_same_v<T, int64_t>) return x / 64;  // so that the sum of some ranks has room
  const float scale = std::bit_cast<float>(static_cast<uint32_t>((111 + (static_cast<uint64_t>(x) >> 59)) << 23));
  return static_cast<T>(static_cast<float>(static_cast<int32_t>(x)) * 0x1p-31f * scale);
}

template <typename T>
void CheckSums(Communicator& group, const std::vector<int64_t>& sizes, DType type, const Stream& stream) {
  StreamMemory memory(stream);
  std::vector<Tensor> sums;
  for (size_t p = 0; p < sizes.size(); ++p) {
    std::vector<T> values;
    for (int64_t e = 0; e < sizes[p]; ++e) values.push_back(Value<T>(group.rank(), p, e));
    sums.push_back(Tensor(memory.Put(values), type, {sizes[p]}));
  }
  Arena scratch("scratch", kScratchCapacity, stream.device);
  ReduceScatterOwned(group, sums, {.stream = stream, .scratch = &scratch});
  EXPECT_EQ(scratch.used_bytes(), 0);
  EXPECT_LE(scratch.peak_bytes(), MostScratch(stream));
  int64_t wrong = 0, seen = 0;
  for (const OwnedSlice& slice : OwnedSlices(sizes, group.size(), group.rank())) {
    const auto p = static_cast<size_t>(slice.param);
    const std::vector<T> result = memory.Get(sums[p].as<T>() + slice.elements.begin, static_cast<size_t>(slice.elements.size()));
    for (int64_t e = slice.elements.begin; e < slice.elements.end; ++e, ++seen) {
      T expected = Value<T>(0, p, e);
      for (int r = 1; r < group.size(); ++r) expected += Value<T>(r, p, e);
      wrong += expected != result[static_cast<size_t>(e - slice.elements.begin)];
    }
  }
  EXPECT_EQ(wrong, 0) << "of " << seen << " sums over " << group.size() << " ranks";
}

}  // namespace

void CheckReduceScatterOwned(Communicator& group, const std::vector<int64_t>& sizes, DType type, const Stream& stream) {
  type == DType::kI64 ? CheckSums<int64_t>(group, sizes, type, stream) : CheckSums<float>(group, sizes, type, stream);
}

void CheckAllGatherOwned(Communicator& group, const std::vector<int64_t>& sizes, int64_t element_bytes, const Stream& stream) {
  StreamMemory memory(stream);
  const auto content = [](size_t param, int64_t byte) { return static_cast<uint8_t>(param * 31 + byte % 251); };
  std::vector<std::vector<uint8_t>> params;
  std::vector<void*> pointers;
  for (const int64_t size : sizes) params.emplace_back(size * element_bytes, 0);
  for (const OwnedSlice& slice : OwnedSlices(sizes, group.size(), group.rank())) {
    for (int64_t b = slice.elements.begin * element_bytes; b < slice.elements.end * element_bytes; ++b) {
      params[slice.param][b] = content(slice.param, b);
    }
  }
  for (const auto& param : params) pointers.push_back(memory.Put(param));
  Arena scratch("scratch", kScratchCapacity, stream.device);
  AllGatherOwned(group, pointers, sizes, element_bytes, {.stream = stream, .scratch = &scratch});
  EXPECT_LE(scratch.peak_bytes(), MostScratch(stream));
  int64_t wrong = 0;
  for (size_t p = 0; p < params.size(); ++p) {
    const std::vector<uint8_t> got = memory.Get(static_cast<const uint8_t*>(pointers[p]), params[p].size());
    for (size_t b = 0; b < got.size(); ++b) wrong += got[b] != content(p, static_cast<int64_t>(b));
  }
  EXPECT_EQ(wrong, 0);
}

void CheckExchangeCases(Communicator& group, const Stream& stream) {
  const std::vector<int64_t> sizes = {5, 0, kChunk + 3, 1, 0}, no_elements = {0, 0};
  const std::vector<int64_t> large = {20 * kChunk + 17, 100};
  for (const DType type : {DType::kI64, DType::kF32})
    for (const std::vector<int64_t>& some : {sizes, no_elements, std::vector<int64_t>{}, large})
      CheckReduceScatterOwned(group, some, type, stream);
  CheckAllGatherOwned(group, sizes, 4, stream);
  CheckAllGatherOwned(group, no_elements, 4, stream);
  CheckAllGatherOwned(group, {}, 2, stream);
  CheckAllGatherOwned(group, large, 2, stream);
  CheckAllGatherOwned(group, large, 8, stream);
}

}  // namespace jevons
