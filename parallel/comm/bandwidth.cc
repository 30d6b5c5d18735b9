#include "parallel/comm/bandwidth.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <vector>

#include "kernels/base/check.h"

namespace jevons {

AllToAllResult MeasureAllToAll(Communicator& group, int64_t bytes_per_peer, int repeats, Peers peers) {
  JEVONS_CHECK(bytes_per_peer >= 0 && repeats > 0, "%lld bytes, %d repeats", static_cast<long long>(bytes_per_peer), repeats);
  using Clock = std::chrono::steady_clock;
  std::vector<int64_t> bytes(group.size(), bytes_per_peer);
  int others = group.size() - 1;
  for (int rank = 0; rank < group.size() && peers != Peers::kAll; ++rank) {
    const bool near = group.NodeOf(rank) == group.NodeOf(group.rank());
    if (near == (peers == Peers::kSameNode)) continue;
    bytes[rank] = 0;
    others -= rank != group.rank();
  }
  std::vector<std::byte> send(std::accumulate(bytes.begin(), bytes.end(), int64_t{0})), recv(send.size());
  std::vector<int64_t> nanoseconds(repeats);
  for (int i = -1; i < repeats; ++i) {
    group.Barrier();
    const Clock::time_point begin = Clock::now();
    group.AllToAllV(send, bytes, recv, bytes);
    if (i >= 0) nanoseconds[i] = std::chrono::nanoseconds(Clock::now() - begin).count();
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
