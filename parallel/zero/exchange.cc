#include "parallel/zero/exchange.h"

#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/reduce.h"

namespace jevons {
namespace {

constexpr int64_t kLeastWindow = 256;  // elements

int64_t ScratchBytes(const Stream& stream) {
  return stream.backend() == Device::kCuda ? kExchangeScratchBytesOnDevice : kExchangeScratchBytes;
}

// The owned elements of one rank, slice after slice, as one line of `total` elements, of which windows
// travel.
struct OwnedLine {
  std::vector<OwnedSlice> slices;
  int64_t total = 0;

  OwnedLine(std::span<const int64_t> sizes, int ranks, int rank) : slices(OwnedSlices(sizes, ranks, rank)) {
    for (const OwnedSlice& slice : slices) total += slice.elements.size();
  }

  Range Window(int64_t round, int64_t width) const {
    return {std::min(round * width, total), std::min((round + 1) * width, total)};
  }

  // Calls piece(slice index, elements of the parameter, offset from the window's begin) for each part of the
  // window.
  template <typename Function>
  void ForPieces(Range window, Function piece) const {
    int64_t at = 0;  // where the slice begins on the line
    for (size_t i = 0; i < slices.size() && at < window.end; ++i) {
      const Range elements = slices[i].elements;
      const int64_t begin = std::max(window.begin, at), end = std::min(window.end, at + elements.size());
      if (begin < end) {
        piece(i, Range{elements.begin + begin - at, elements.begin + end - at}, begin - window.begin);
      }
      at += elements.size();
    }
  }
};

std::vector<OwnedLine> OwnedLines(std::span<const int64_t> sizes, int ranks) {
  std::vector<OwnedLine> lines;
  lines.reserve(ranks);
  for (int r = 0; r < ranks; ++r) lines.emplace_back(sizes, ranks, r);
  return lines;
}

int64_t LongestLine(const std::vector<OwnedLine>& lines) {
  int64_t longest = 0;
  for (const OwnedLine& line : lines) longest = std::max(longest, line.total);
  return longest;
}

char* Address(const Tensor& flat, int64_t element) { return static_cast<char*>(flat.data) + element * SizeOf(flat.dtype); }

class Reduction {
 public:
  Reduction(Communicator& group, std::span<const Tensor> sums, DType type, const std::vector<OwnedLine>& lines,
            const OpContext& ops)
      : group_(group), sums_(sums), type_(type), lines_(lines), ops_(ops) {}

  // One window of every rank's line. width: elements, as wide as the widest window is.
  void SumExactly(int64_t round, int64_t width) const {
    // Windows are all sent as wide as the widest; nobody reads what fills them up.
    const int64_t longest = std::min(width, LongestLine(lines_) - round * width);
    const Tensor send = ops_.scratch->Allocate("zero.reduce_send", type_, {group_.size() * longest});
    const Tensor recv = ops_.scratch->Allocate("zero.reduce_recv", type_, {longest});
    std::vector<CopiedPart> parts;
    for (int r = 0; r < group_.size(); ++r) Pack(lines_[r], lines_[r].Window(round, width), Address(send, r * longest), parts);
    CopyParts(ops_, parts);
    group_.ReduceScatterSum(ops_.stream, {send.as<int64_t>(), static_cast<size_t>(send.size())},
                            {recv.as<int64_t>(), static_cast<size_t>(recv.size())});
    parts.clear();
    own_line().ForPieces(own_line().Window(round, width), [&](size_t slice, Range elements, int64_t offset) {
      parts.push_back({Address(recv, offset), Owned(slice, elements), elements.size() * SizeOf(type_)});
    });
    CopyParts(ops_, parts);
  }

  void SumInOrder(int64_t round, int64_t width) const {
    const int ranks = group_.size(), self = group_.rank();
    const Range own = own_line().Window(round, width);
    std::vector<int64_t> send_bytes(ranks, 0), recv_bytes(ranks, 0), received_at(ranks, 0);
    int64_t send_total = 0, recv_total = 0;
    for (int r = 0; r < ranks; ++r) {
      if (r == self) continue;
      received_at[r] = recv_total;
      send_bytes[r] = lines_[r].Window(round, width).size() * SizeOf(type_);
      recv_bytes[r] = own.size() * SizeOf(type_);
      send_total += send_bytes[r] / SizeOf(type_);
      recv_total += own.size();
    }
    const Tensor send = ops_.scratch->Allocate("zero.reduce_send", type_, {send_total});
    const Tensor recv = ops_.scratch->Allocate("zero.reduce_recv", type_, {recv_total});
    std::vector<CopiedPart> parts;
    char* packed = Address(send, 0);
    for (int r = 0; r < ranks; ++r)
      if (r != self) packed = Pack(lines_[r], lines_[r].Window(round, width), packed, parts);
    CopyParts(ops_, parts);
    group_.AllToAllV(ops_.stream, {static_cast<const std::byte*>(send.data), static_cast<size_t>(send.bytes())}, send_bytes,
                     {static_cast<std::byte*>(recv.data), static_cast<size_t>(recv.bytes())}, recv_bytes);
    std::vector<PartialSums> vectors;
    std::vector<std::pair<int, int>> order;
    for (int r = 1; r < ranks; ++r) order.emplace_back(0, r);
    own_line().ForPieces(own, [&](size_t slice, Range elements, int64_t offset) {
      auto* const place = reinterpret_cast<float*>(Owned(slice, elements));
      PartialSums& vector = vectors.emplace_back();
      for (int r = 0; r < ranks; ++r) vector.values.push_back(r == self ? place : recv.as<float>() + received_at[r] + offset);
      vector.sum = place;
      vector.size = elements.size();
    });
    JoinSums(ops_, vectors, order);
  }

 private:
  const OwnedLine& own_line() const { return lines_[group_.rank()]; }
  char* Owned(size_t slice, Range elements) const { return Address(sums_[own_line().slices[slice].param], elements.begin); }

  // What a rank owns of a window, from the sums to `packed`; returns its end.
  char* Pack(const OwnedLine& line, Range window, char* packed, std::vector<CopiedPart>& parts) const {
    const int64_t size = SizeOf(type_);
    line.ForPieces(window, [&](size_t slice, Range elements, int64_t offset) {
      parts.push_back({Address(sums_[line.slices[slice].param], elements.begin), packed + offset * size, elements.size() * size});
    });
    return packed + window.size() * size;
  }

  Communicator& group_;
  const std::span<const Tensor> sums_;
  const DType type_;
  const std::vector<OwnedLine>& lines_;  // [group size]
  const OpContext& ops_;
};

}  // namespace

int64_t ExchangeScratchBytes(const Stream& stream, int ranks) {
  const int64_t least = 2 * int64_t{ranks} * kLeastWindow * SizeOf(DType::kI64);
  return std::max(ScratchBytes(stream), least) + 2 * Arena::SliceBytes(DType::kU8, {1});
}

void ReduceScatterOwned(Communicator& group, std::span<const Tensor> sums, const OpContext& ops) {
  if (group.size() == 1 || sums.empty()) return;
  std::vector<int64_t> sizes;
  for (const Tensor& sum : sums) {
    JEVONS_CHECK(sum.dtype == sums[0].dtype && (sum.dtype == DType::kI64 || sum.dtype == DType::kF32), "sums in %s and %s",
                 NameOf(sum.dtype), NameOf(sums[0].dtype));
    sizes.push_back(sum.size());
  }
  const DType type = sums[0].dtype;
  const bool exact = type == DType::kI64;
  const std::vector<OwnedLine> lines = OwnedLines(sizes, group.size());
  const Reduction reduction(group, sums, type, lines, ops);
  // Exact: what leaves for all ranks, and what comes back. Else: what leaves for the others, and what each of them sends.
  const int64_t windows = exact ? group.size() + 1 : 2 * (group.size() - 1);
  const int64_t width = std::max<int64_t>(ScratchBytes(ops.stream) / (windows * SizeOf(type)), kLeastWindow);
  for (int64_t round = 0; round * width < LongestLine(lines); ++round) {
    const ArenaScope scope(*ops.scratch);
    exact ? reduction.SumExactly(round, width) : reduction.SumInOrder(round, width);
  }
}

void AllGatherOwned(Communicator& group, std::span<void* const> params, std::span<const int64_t> sizes, int64_t element_bytes,
                    const OpContext& ops) {
  JEVONS_CHECK(params.size() == sizes.size() && element_bytes > 0, "%zu parameters, %zu sizes", params.size(), sizes.size());
  const int ranks = group.size();
  if (ranks == 1) return;
  const std::vector<OwnedLine> lines = OwnedLines(sizes, ranks);
  const int64_t width = std::max<int64_t>(ScratchBytes(ops.stream) / ((ranks + 1) * element_bytes), kLeastWindow);
  const auto address = [&](const OwnedLine& line, size_t slice, Range elements) {
    return static_cast<std::byte*>(params[line.slices[slice].param]) + elements.begin * element_bytes;
  };
  std::vector<int64_t> bytes(ranks);
  for (int64_t round = 0; round * width < LongestLine(lines); ++round) {
    const ArenaScope scope(*ops.scratch);
    int64_t total = 0;
    for (int r = 0; r < ranks; ++r) total += bytes[r] = lines[r].Window(round, width).size() * element_bytes;
    const Tensor send = ops.scratch->Allocate("zero.gather_send", DType::kU8, {bytes[group.rank()]});
    const Tensor recv = ops.scratch->Allocate("zero.gather_recv", DType::kU8, {total});
    const OwnedLine& own = lines[group.rank()];
    std::vector<CopiedPart> packed, unpacked;
    own.ForPieces(own.Window(round, width), [&](size_t slice, Range elements, int64_t offset) {
      packed.push_back(
          {address(own, slice, elements), send.as<uint8_t>() + offset * element_bytes, elements.size() * element_bytes});
    });
    CopyParts(ops, packed);
    group.AllGatherV(ops.stream, {static_cast<const std::byte*>(send.data), static_cast<size_t>(send.bytes())},
                     {static_cast<std::byte*>(recv.data), static_cast<size_t>(recv.bytes())}, bytes);
    const uint8_t* received = recv.as<uint8_t>();
    for (int r = 0; r < ranks; ++r) {
      if (r != group.rank()) {
        lines[r].ForPieces(lines[r].Window(round, width), [&](size_t slice, Range elements, int64_t offset) {
          unpacked.push_back(
              {received + offset * element_bytes, address(lines[r], slice, elements), elements.size() * element_bytes});
        });
      }
      received += bytes[r];
    }
    CopyParts(ops, unpacked);
  }
}

}  // namespace jevons
