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

// Gradient of micro-batch `leaf`: spread over 32 binary orders of magnitude, so that the order of additions
// shows in the bits. Every fifth element is -0 in all micro-batches.
float Gradient(int64_t leaf, int64_t param, int64_t element) {
  if (element % 5 == 4) return -0.0f;
  uint64_t x = (static_cast<uint64_t>(leaf) * 64 + param) * 0x9E3779B97F4A7C15u + element;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  const float scale = std::bit_cast<float>(static_cast<uint32_t>((111 + (x >> 59)) << 23));  // 2^-16 ... 2^15
  return static_cast<float>(static_cast<int32_t>(x)) * 0x1p-31f * scale;
}

float TreeSum(int64_t begin, int64_t size, int64_t count, int64_t param, int64_t element) {
  if (size == 1) return Gradient(begin, param, element);
  const float left = TreeSum(begin, size / 2, count, param, element);
  if (begin + size / 2 >= count) return left;
  return left + TreeSum(begin + size / 2, size / 2, count, param, element);
}

std::vector<Range> NodesOfRank(const TreeReduceCase& reduce, int ranks, int rank) {
  std::vector<Range> nodes;
  for (int i = 0; i < reduce.blocks_per_rank; ++i) {
    const int block = rank * reduce.blocks_per_rank + i;
    for (const Range& node :
         NodesOf(BlockOf(reduce.count, ranks * reduce.blocks_per_rank, block), reduce.count)) {
      nodes.push_back(node);
    }
  }
  return nodes;
}

// A rank's partial sums: [node][param][element].
using Sums = std::vector<std::vector<std::vector<float>>>;
Sums PartialSums(const TreeReduceCase& reduce, const std::vector<Range>& nodes) {
  Sums sums;
  for (const Range& node : nodes) {
    const auto size = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(node.size())));
    auto& params = sums.emplace_back();
    for (size_t p = 0; p < reduce.sizes.size(); ++p) {
      auto& values = params.emplace_back(reduce.sizes[p]);
      for (int64_t e = 0; e < reduce.sizes[p]; ++e) values[e] = TreeSum(node.begin, size, node.end, p, e);
    }
  }
  return sums;
}

}  // namespace

void CheckTreeReduceScatter(Communicator& group, const TreeReduceCase& reduce, const Stream& stream) {
  StreamMemory memory(stream);
  TreeReduceDesc desc{.count = reduce.count, .nodes_of_rank = {}, .local = {}, .sizes = reduce.sizes};
  for (int r = 0; r < group.size(); ++r) desc.nodes_of_rank.push_back(NodesOfRank(reduce, group.size(), r));
  for (const auto& params : PartialSums(reduce, desc.nodes_of_rank[group.rank()])) {
    auto& pointers = desc.local.emplace_back();
    for (const auto& values : params) pointers.push_back(memory.Put(values));
  }
  const std::vector<OwnedSlice> slices = OwnedSlices(reduce.sizes, group.size(), group.rank());
  std::vector<float*> out;
  for (const OwnedSlice& slice : slices) {
    const bool in_place = reduce.in_place && !desc.local.empty();
    out.push_back(in_place ? desc.local[0][slice.param] + slice.elements.begin
                           : memory.Put(std::vector<float>(slice.elements.size(), -1.0f)));
  }
  Arena scratch("scratch", kScratchCapacity, stream.device);
  TreeReduceScatter(group, desc, out, {.stream = stream, .scratch = &scratch});
  EXPECT_EQ(scratch.used_bytes(), 0);
  EXPECT_LE(scratch.peak_bytes(), MostScratch(stream));
  const auto root = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(reduce.count)));
  int64_t wrong = 0;
  for (size_t i = 0; i < slices.size(); ++i) {
    const std::vector<float> result = memory.Get(out[i], slices[i].elements.size());
    for (int64_t e = slices[i].elements.begin; e < slices[i].elements.end; ++e) {
      const float expected = TreeSum(0, root, reduce.count, slices[i].param, e) + 0.0f;
      wrong +=
          std::bit_cast<uint32_t>(expected) != std::bit_cast<uint32_t>(result[e - slices[i].elements.begin]);
    }
  }
  EXPECT_EQ(wrong, 0) << reduce.count << " micro-batches on " << group.size() << " ranks";
}

void CheckAllGatherOwned(Communicator& group, const std::vector<int64_t>& sizes, int64_t element_bytes,
                         const Stream& stream) {
  StreamMemory memory(stream);
  const auto content = [](size_t param, int64_t byte) {
    return static_cast<uint8_t>(param * 31 + byte % 251);
  };
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
  for (int64_t count = 1; count <= 9; ++count) {
    CheckTreeReduceScatter(group, {.count = count, .sizes = sizes}, stream);
    CheckTreeReduceScatter(group, {.count = count, .blocks_per_rank = 2, .in_place = true, .sizes = sizes},
                           stream);
  }
  CheckTreeReduceScatter(group, {.count = 3, .sizes = no_elements}, stream);
  CheckTreeReduceScatter(group, {.count = 3, .sizes = {}}, stream);
  CheckTreeReduceScatter(group, {.count = 3, .blocks_per_rank = 3, .in_place = true, .sizes = large}, stream);
  CheckAllGatherOwned(group, sizes, 4, stream);
  CheckAllGatherOwned(group, no_elements, 4, stream);
  CheckAllGatherOwned(group, {}, 2, stream);
  CheckAllGatherOwned(group, large, 2, stream);
  CheckAllGatherOwned(group, large, 8, stream);
}

}  // namespace jevons
