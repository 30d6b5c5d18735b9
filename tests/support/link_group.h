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

// A rank's clock goes on while it computes, as `computed` says, and jumps where it waits. A transfer begins when all ranks have begun it and
// its link is free of the one before; where the link `asks`, as MPI does, no earlier than its reader waits for it.
class LinkGroup : public WatchedGroup {
 public:
  LinkGroup(Communicator& group, LinkMeeting& meeting, LinkRates rates, std::function<double()> computed, bool asks = false)
      : WatchedGroup(group), meeting_(meeting), rates_{rates.local, rates.network}, computed_(std::move(computed)), asks_(asks) {}

  double Now() const { return computed_() - uncounted_ + waited; }
  CommRequest BeginAllToAllV(const Stream& stream, std::span<const Exchange> exchanges) override {
    const double now = Now();
    const CommRequest request = WatchedGroup::BeginAllToAllV(stream, exchanges);
    std::array<int64_t, kLinks> out{}, in{};
    for (const Exchange& exchange : exchanges) {
      for (int peer = 0; peer < size(); ++peer) {
        if (peer == rank()) continue;
        const size_t link = NodeOf(peer) == NodeOf(rank()) ? 0 : 1;
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
    const double now = Now(), computed = computed_();
    WatchedGroup::Wait(stream, request);
    uncounted_ += computed_() - computed;
    const std::lock_guard<std::mutex> lock(meeting_.mutex);
    const std::vector<double>& begun = meeting_.begun.at(request.id);
    const double begin = std::max(*std::max_element(begun.begin(), begun.end()), asks_ ? now : 0);
    double end = begin;
    for (size_t link = 0; link < kLinks; ++link) {
      const double seconds = seconds_.at(request.id)[link];
      if (seconds == 0) continue;
      free_[link] = std::max(begin, free_[link]) + seconds;
      end = std::max(end, free_[link]);
      busy += seconds;
    }
    waited += std::max(0.0, end - now);
  }

  double waited = 0, busy = 0;  // seconds; busy: of the links

 private:
  static constexpr size_t kLinks = 2;
  LinkMeeting& meeting_;
  const std::array<double, kLinks> rates_;
  const std::function<double()> computed_;
  const bool asks_;
  std::map<int64_t, std::array<double, kLinks>> seconds_;
  std::array<double, kLinks> free_{};
  double uncounted_ = computed_();
};

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_LINK_GROUP_H_
