// Groups whose messages take time on a model of their links: what a rank waits for is arithmetic, not the machine's mood.
#ifndef JEVONS_TESTS_SUPPORT_LINK_GROUP_H_
#define JEVONS_TESTS_SUPPORT_LINK_GROUP_H_

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "tests/support/watched_group.h"

namespace jevons {

// What the ranks of a group know of each other's transfers: when each has begun which.
struct LinkMeeting {
  std::mutex mutex;
  std::map<int64_t, std::vector<double>> begun;
};

// Bytes per second of each rank's links, both ways at once: to ranks of its node, and to those of others. Each carries one transfer
// after the other.
struct LinkRates {
  double local = 0, network = 0;
};

// What a rank's groups have in common: its clock, which goes on while it computes, as `computed` says, and jumps where it waits, and its
// links, each of which is free when it has carried the transfer before.
struct LinkClock {
  explicit LinkClock(std::function<double()> computed) : computed(std::move(computed)), uncounted(this->computed()) {}
  double Now() const { return computed() - uncounted + waited; }
  static constexpr size_t kLinks = 2;
  const std::function<double()> computed;
  double uncounted, waited = 0, busy = 0;  // seconds; busy: of the links
  std::array<double, kLinks> free{};
};

// A transfer begins when all ranks have begun it and its link is free of the one before; where the link `asks`, as MPI does, no earlier
// than its reader waits for it.
class LinkGroup : public WatchedGroup {
 public:
  // across: each of its ranks is on another node, whatever the group says. clock: outlives the group.
  LinkGroup(Communicator& group, LinkMeeting& meeting, LinkRates rates, LinkClock& clock, bool asks = false, bool across = false)
      : WatchedGroup(group), meeting_(meeting), rates_{rates.local, rates.network}, clock_(clock), asks_(asks), across_(across) {}

  CommRequest BeginAllToAllV(const Stream& stream, std::span<const Exchange> exchanges) override {
    const double now = clock_.Now();
    const CommRequest request = WatchedGroup::BeginAllToAllV(stream, exchanges);
    std::array<int64_t, kLinks> out{}, in{};
    for (const Exchange& exchange : exchanges) {
      for (int peer = 0; peer < size(); ++peer) {
        if (peer == rank()) continue;
        const bool near = !across_ && NodeOf(peer) == NodeOf(rank());
        const size_t link = near ? 0 : 1;
        out[link] += exchange.send_bytes[static_cast<size_t>(peer)];
        in[link] += exchange.recv_bytes[static_cast<size_t>(peer)];
      }
    }
    std::array<double, kLinks>& seconds = seconds_[request.id];
    for (size_t link = 0; link < kLinks; ++link)
      seconds[link] = static_cast<double>(std::max(out[link], in[link])) / rates_[link];
    const std::lock_guard<std::mutex> lock(meeting_.mutex);
    std::vector<double>& begun = meeting_.begun[request.id];
    begun.resize(static_cast<size_t>(size()));
    begun[static_cast<size_t>(rank())] = now;
    return request;
  }
  void Wait(const Stream& stream, CommRequest request) override {
    const double now = clock_.Now(), computed = clock_.computed();
    WatchedGroup::Wait(stream, request);
    clock_.uncounted += clock_.computed() - computed;
    const std::lock_guard<std::mutex> lock(meeting_.mutex);
    const std::vector<double>& begun = meeting_.begun.at(request.id);
    const double begin = std::max(*std::max_element(begun.begin(), begun.end()), asks_ ? now : 0);
    double end = begin;
    for (size_t link = 0; link < kLinks; ++link) {
      const double seconds = seconds_.at(request.id)[link];
      if (seconds == 0) continue;
      clock_.free[link] = std::max(begin, clock_.free[link]) + seconds;
      end = std::max(end, clock_.free[link]);
      clock_.busy += seconds;
    }
    clock_.waited += std::max(0.0, end - now);
  }

 private:
  static constexpr size_t kLinks = LinkClock::kLinks;
  LinkMeeting& meeting_;
  const std::array<double, kLinks> rates_;
  LinkClock& clock_;
  const bool asks_;
  const bool across_;
  std::map<int64_t, std::array<double, kLinks>> seconds_;
};

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_LINK_GROUP_H_
