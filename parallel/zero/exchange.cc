#include "parallel/zero/exchange.h"

#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/reduce.h"

namespace jevons {
namespace {

int64_t ScratchBytes(const Stream& stream) {
  return stream.device == Device::kCuda ? kExchangeScratchBytesOnDevice : kExchangeScratchBytes;
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

// One node of the tree as this rank sees it: its own partial sums, or what another rank sends of them.
struct NodeValue {
  Range range;
  int rank;
  int64_t index;  // among that rank's nodes
};

class TreeReduction {
 public:
  TreeReduction(Communicator& group, const TreeReduceDesc& desc, std::span<float* const> out,
                const OpContext& ops)
      : group_(group), desc_(desc), out_(out), ops_(ops), lines_(OwnedLines(desc.sizes, group.size())) {
    JEVONS_CHECK(static_cast<int>(desc.nodes_of_rank.size()) == group.size(),
                 "nodes of %zu ranks in a group of %d", desc.nodes_of_rank.size(), group.size());
    JEVONS_CHECK(desc.local.size() == own_nodes() && out.size() == own_line().slices.size(),
                 "%zu partial sums for %zu nodes, %zu results for %zu slices", desc.local.size(), own_nodes(),
                 out.size(), own_line().slices.size());
    for (const auto& params : desc.local) {
      JEVONS_CHECK(params.size() == desc.sizes.size(), "%zu of %zu parameters", params.size(),
                   desc.sizes.size());
    }
    OrderNodes();
  }

  void Run() {
    const ArenaScope scope(*ops_.scratch);
    // Every rank of the group finds the same width: it depends on the description alone.
    size_t most_nodes = 1;
    for (const auto& nodes : desc_.nodes_of_rank) most_nodes = std::max(most_nodes, nodes.size());
    const int64_t lines = static_cast<int64_t>(most_nodes) * group_.size() +
                          static_cast<int64_t>(values_.size());
    const int64_t width =
        group_.size() == 1
            ? std::max<int64_t>(own_line().total, 1)
            : std::max<int64_t>(ScratchBytes(ops_.stream) / (lines * static_cast<int64_t>(sizeof(float))),
                                256);
    for (int64_t round = 0; round * width < LongestLine(lines_); ++round) {
      const ArenaScope round_scope(*ops_.scratch);
      Exchange(round, width);
      Join(own_line().Window(round, width));
    }
  }

 private:
  const OwnedLine& own_line() const { return lines_[group_.rank()]; }
  size_t own_nodes() const { return desc_.nodes_of_rank[group_.rank()].size(); }

  void OrderNodes() {
    for (int r = 0; r < group_.size(); ++r) {
      for (size_t i = 0; i < desc_.nodes_of_rank[r].size(); ++i) {
        values_.push_back({desc_.nodes_of_rank[r][i], r, static_cast<int64_t>(i)});
      }
    }
    std::sort(values_.begin(), values_.end(),
              [](const NodeValue& a, const NodeValue& b) { return a.range.begin < b.range.begin; });
    std::vector<Range> ranges;
    for (const NodeValue& value : values_) ranges.push_back(value.range);
    order_ = JoinOrder(ranges, desc_.count);
  }

  // Sends each rank its window of this rank's nodes, [destination][node][window], and receives the others'
  // nodes of the own window, [source][node][window]. Nobody sends to himself: Join reads the own nodes
  // where they are.
  void Exchange(int64_t round, int64_t width) {
    const int ranks = group_.size();
    if (ranks == 1) return;
    const int64_t window = own_line().Window(round, width).size();
    std::vector<int64_t> send_bytes(ranks), recv_bytes(ranks);
    int64_t send_total = 0, recv_total = 0;
    received_at_.assign(ranks, 0);
    for (int r = 0; r < ranks; ++r) {
      received_at_[r] = recv_total;
      if (r == group_.rank()) continue;
      const int64_t sent = lines_[r].Window(round, width).size() * static_cast<int64_t>(own_nodes());
      const int64_t received = window * static_cast<int64_t>(desc_.nodes_of_rank[r].size());
      send_bytes[r] = sent * sizeof(float);
      recv_bytes[r] = received * sizeof(float);
      send_total += sent;
      recv_total += received;
    }
    const Tensor send = ops_.scratch->Allocate("zero.reduce_send", DType::kF32, {send_total});
    const Tensor recv = ops_.scratch->Allocate("zero.reduce_recv", DType::kF32, {recv_total});
    received_ = recv.as<float>();
    float* packed = send.as<float>();
    std::vector<CopiedPart> parts;
    for (int r = 0; r < ranks; ++r) {
      if (r != group_.rank()) packed = Pack(lines_[r], lines_[r].Window(round, width), packed, parts);
    }
    CopyParts(ops_, parts);
    group_.AllToAllV(
        ops_.stream, {static_cast<const std::byte*>(send.data), static_cast<size_t>(send.bytes())},
        send_bytes, {static_cast<std::byte*>(recv.data), static_cast<size_t>(recv.bytes())}, recv_bytes);
  }

  // What a rank is sent, at `packed`; returns where it ends.
  float* Pack(const OwnedLine& line, Range window, float* packed, std::vector<CopiedPart>& parts) const {
    for (const std::vector<float*>& node : desc_.local) {
      line.ForPieces(window, [&](size_t slice, Range elements, int64_t offset) {
        parts.push_back({node[line.slices[slice].param] + elements.begin, packed + offset,
                         elements.size() * static_cast<int64_t>(sizeof(float))});
      });
      packed += window.size();
    }
    return packed;
  }

  // Adds the nodes' values of the window in the tree's order and puts the root into out.
  void Join(Range window) {
    std::vector<PartialSums> pieces;
    own_line().ForPieces(window, [&](size_t slice, Range elements, int64_t offset) {
      const OwnedSlice& owned = own_line().slices[slice];
      PartialSums piece;
      for (const NodeValue& node : values_)
        piece.values.push_back(node.rank == group_.rank() ? desc_.local[node.index][owned.param] + elements.begin
                                                          : received_ + received_at_[node.rank] +
                                                                node.index * window.size() + offset);
      piece.sum = out_[slice] + (elements.begin - owned.elements.begin);
      piece.size = elements.size();
      pieces.push_back(std::move(piece));
    });
    JoinSums(ops_, pieces, order_);
  }

  Communicator& group_;
  const TreeReduceDesc& desc_;
  const std::span<float* const> out_;
  const OpContext& ops_;
  const std::vector<OwnedLine> lines_;      // [group size]
  std::vector<NodeValue> values_;           // all nodes, left to right
  std::vector<std::pair<int, int>> order_;  // of additions, indices into values_
  float* received_ = nullptr;
  std::vector<int64_t> received_at_;  // [group size], elements
};

}  // namespace

void TreeReduceScatter(Communicator& group, const TreeReduceDesc& desc, std::span<float* const> out,
                       const OpContext& ops) {
  TreeReduction(group, desc, out, ops).Run();
}

void AllGatherOwned(Communicator& group, std::span<void* const> params, std::span<const int64_t> sizes,
                    int64_t element_bytes, const OpContext& ops) {
  JEVONS_CHECK(params.size() == sizes.size() && element_bytes > 0, "%zu parameters, %zu sizes", params.size(),
               sizes.size());
  const int ranks = group.size();
  if (ranks == 1) return;
  const std::vector<OwnedLine> lines = OwnedLines(sizes, ranks);
  const int64_t width = std::max<int64_t>(ScratchBytes(ops.stream) / ((ranks + 1) * element_bytes), 256);
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
      packed.push_back({address(own, slice, elements), send.as<uint8_t>() + offset * element_bytes,
                        elements.size() * element_bytes});
    });
    CopyParts(ops, packed);
    group.AllGatherV(ops.stream,
                     {static_cast<const std::byte*>(send.data), static_cast<size_t>(send.bytes())},
                     {static_cast<std::byte*>(recv.data), static_cast<size_t>(recv.bytes())}, bytes);
    const uint8_t* received = recv.as<uint8_t>();
    for (int r = 0; r < ranks; ++r) {
      if (r != group.rank()) {
        lines[r].ForPieces(lines[r].Window(round, width), [&](size_t slice, Range elements, int64_t offset) {
          unpacked.push_back({received + offset * element_bytes, address(lines[r], slice, elements),
                              elements.size() * element_bytes});
        });
      }
      received += bytes[r];
    }
    CopyParts(ops, unpacked);
  }
}

}  // namespace jevons
