#include "parallel/comm/bandwidth.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <vector>

#include "kernels/base/check.h"

namespace jevons {
namespace {

constexpr int kInARow = 4;  // so that the ranks' waiting for each other at the begin weighs little, as it does in a step

}  // namespace

AllToAllResult MeasureAllToAll(Communicator& group, int64_t bytes_per_peer, int repeats, Peers peers) {
  JEVONS_CHECK(bytes_per_peer >= 0 && repeats > 0, "%lld bytes, %d repeats", static_cast<long long>(bytes_per_peer), repeats);
  using Clock = std::chrono::steady_clock;
  std::vector<int64_t> bytes(group.size(), bytes_per_peer);
  int others = group.size() - 1, neighbours = 0;
  const auto near = [&](int rank) { return group.NodeOf(rank) == group.NodeOf(group.rank()); };
  for (int rank = 0; rank < group.size(); ++rank) neighbours += near(rank);
  const auto takes_part = [&](int rank) {
    switch (peers) {
      case Peers::kAll: return true;
      case Peers::kSameNode: return near(rank);
      case Peers::kOtherNodes: return !near(rank);
      case Peers::kRail: return rank % neighbours == group.rank() % neighbours;
    }
    return false;
  };
  for (int rank = 0; rank < group.size(); ++rank) {
    if (takes_part(rank)) continue;
    bytes[rank] = 0;
    others -= rank != group.rank();
  }
  std::vector<std::byte> send(std::accumulate(bytes.begin(), bytes.end(), int64_t{0})), recv(send.size());
  std::vector<int64_t> nanoseconds(repeats);
  for (int i = -1; i < repeats; ++i) {
    group.Barrier();
    const Clock::time_point begin = Clock::now();
    for (int j = 0; j < kInARow; ++j) group.AllToAllV(send, bytes, recv, bytes);
    if (i >= 0) nanoseconds[i] = std::chrono::nanoseconds(Clock::now() - begin).count() / kInARow;
  }
  group.AllReduceMax(nanoseconds);
  std::nth_element(nanoseconds.begin(), nanoseconds.begin() + repeats / 2, nanoseconds.end());
  AllToAllResult result;
  result.bytes_per_peer = bytes_per_peer;
  result.seconds = static_cast<double>(nanoseconds[repeats / 2]) * 1e-9;
  if (result.seconds > 0) {
    result.gigabytes_per_second = static_cast<double>(others * bytes_per_peer) / result.seconds * 1e-9;
  }
  return result;
}

}  // namespace jevons
