#include "parallel/comm/exchange_plan.h"

#include "kernels/base/check.h"

namespace jevons {
namespace {

// Parts in rank order that fill `total` bytes exactly.
std::vector<Part> PartsOf(std::span<const int64_t> bytes, size_t total, const char* what) {
  std::vector<Part> parts;
  parts.reserve(bytes.size());
  int64_t sum = 0;
  for (const int64_t part : bytes) {
    JEVONS_CHECK(part >= 0, "%s size %lld", what, static_cast<long long>(part));
    parts.push_back({static_cast<int>(parts.size()), sum, part});
    sum += part;
  }
  JEVONS_CHECK(sum == static_cast<int64_t>(total), "%s sizes add up to %lld bytes, the buffer has %zu", what,
               static_cast<long long>(sum), total);
  return parts;
}

ExchangePlan PlanParts(int rank, const std::vector<Part>& sends, const std::vector<Part>& receives) {
  const int ranks = static_cast<int>(receives.size());
  JEVONS_CHECK(rank >= 0 && rank < ranks, "rank %d of %d", rank, ranks);
  ExchangePlan plan;
  plan.own_send = sends[rank];
  plan.own_receive = receives[rank];
  JEVONS_CHECK(plan.own_send.bytes == plan.own_receive.bytes, "a rank's part for itself: sends %lld bytes, expects %lld",
               static_cast<long long>(plan.own_send.bytes), static_cast<long long>(plan.own_receive.bytes));
  for (int i = 1; i < ranks; ++i) {
    const int to = (rank + i) % ranks, from = (rank - i + ranks) % ranks;
    if (sends[to].bytes > 0) plan.sends.push_back(sends[to]);
    if (receives[from].bytes > 0) plan.receives.push_back(receives[from]);
  }
  return plan;
}

}  // namespace

std::set<int> ExchangePlan::Peers() const {
  std::set<int> peers;
  for (const Part& part : sends) peers.insert(part.peer);
  for (const Part& part : receives) peers.insert(part.peer);
  return peers;
}

ExchangePlan PlanAllToAllV(int rank, std::span<const int64_t> send_bytes, size_t send_total, std::span<const int64_t> recv_bytes,
                           size_t recv_total) {
  JEVONS_CHECK(send_bytes.size() == recv_bytes.size(), "sizes to %zu ranks, from %zu", send_bytes.size(), recv_bytes.size());
  return PlanParts(rank, PartsOf(send_bytes, send_total, "AllToAllV send"), PartsOf(recv_bytes, recv_total, "AllToAllV receive"));
}

ExchangePlan PlanAllGatherV(int rank, size_t send_total, std::span<const int64_t> recv_bytes, size_t recv_total) {
  std::vector<Part> sends;
  for (size_t r = 0; r < recv_bytes.size(); ++r) sends.push_back({static_cast<int>(r), 0, static_cast<int64_t>(send_total)});
  return PlanParts(rank, sends, PartsOf(recv_bytes, recv_total, "AllGatherV"));
}

}  // namespace jevons
