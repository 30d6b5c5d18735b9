// Who sends what to whom in one exchange: the arithmetic that every transport shares. A plan names what travels
// between ranks and nothing else: parts of zero bytes are left out, by the sender and by the receiver alike, as both
// know the size.
#ifndef JEVONS_PARALLEL_COMM_EXCHANGE_PLAN_H_
#define JEVONS_PARALLEL_COMM_EXCHANGE_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <vector>

namespace jevons {

// Bytes [offset, offset + bytes) of a buffer, for or from rank `peer` of the group.
struct Part {
  int peer = 0;
  int64_t offset = 0, bytes = 0;
  bool operator==(const Part&) const = default;
};

struct ExchangePlan {
  // None empty, none of the own rank; neighbours first, so that the ranks do not all write to rank 0 at once.
  std::vector<Part> sends, receives;
  Part own_send, own_receive;  // of one size; may be empty
  bool travels() const { return !sends.empty() || !receives.empty(); }
  std::set<int> Peers() const;  // everybody that this rank exchanges bytes with
};

// Of BeginAllToAllV: parts lie in rank order in both buffers. Aborts where sizes are negative, do not fill their buffer
// of `*_total` bytes, or differ between the two ends of the own part.
ExchangePlan PlanAllToAllV(int rank, std::span<const int64_t> send_bytes, size_t send_total, std::span<const int64_t> recv_bytes,
                           size_t recv_total);

// Of AllGatherV: all of `send` goes to everyone.
ExchangePlan PlanAllGatherV(int rank, size_t send_total, std::span<const int64_t> recv_bytes, size_t recv_total);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_EXCHANGE_PLAN_H_
