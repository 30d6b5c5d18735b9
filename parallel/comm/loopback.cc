#include "parallel/comm/loopback.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "parallel/comm/message_communicator.h"

namespace jevons {
namespace {

// One end of a message. Whichever end comes second copies, straight from buffer to buffer, and completes
// both.
struct MessageEnd {
  enum Outcome { kOpen, kDone, kMismatch };
  int peer = 0;  // world rank
  bool sends = false;
  const std::byte* source = nullptr;  // of a send
  std::byte* target = nullptr;        // of a receive
  size_t bytes = 0, peer_bytes = 0;
  std::atomic<Outcome> outcome{kOpen};
};

void Deliver(MessageEnd& send, MessageEnd& receive) {
  send.peer_bytes = receive.bytes;
  receive.peer_bytes = send.bytes;
  const bool fits = send.bytes == receive.bytes;
  if (fits) std::memcpy(receive.target, send.source, send.bytes);
  // The last access to either end: its owner may destroy it afterwards.
  const MessageEnd::Outcome outcome = fits ? MessageEnd::kDone : MessageEnd::kMismatch;
  send.outcome.store(outcome, std::memory_order_release);
  receive.outcome.store(outcome, std::memory_order_release);
}

class LoopbackTransfer : public Transfer {
 public:
  explicit LoopbackTransfer(size_t messages) : ends_(messages) {}
  MessageEnd& end(size_t i) { return ends_[i]; }

  absl::StatusOr<bool> Poll() override {
    bool done = true;
    for (const MessageEnd& end : ends_) {
      const MessageEnd::Outcome outcome = end.outcome.load(std::memory_order_acquire);
      if (outcome == MessageEnd::kMismatch) return Mismatch(end);
      done = done && outcome == MessageEnd::kDone;
    }
    return done;
  }

  std::vector<int> MissingPeers() const override {
    std::vector<int> missing;
    for (const MessageEnd& end : ends_) {
      if (end.outcome.load(std::memory_order_acquire) == MessageEnd::kOpen) missing.push_back(end.peer);
    }
    return missing;
  }

 private:
  static absl::Status Mismatch(const MessageEnd& end) {
    return PeerLostError(
        end.sends ? absl::StrFormat("rank %d expects %d bytes, this rank sends it %d", end.peer, end.peer_bytes, end.bytes)
                  : absl::StrFormat("rank %d sent %d bytes, this rank expects %d from it", end.peer, end.peer_bytes, end.bytes));
  }

  std::vector<MessageEnd> ends_;  // never resized: the mailbox and the peers point into it
};

// Where the threads of one group meet.
struct Mailbox {
  explicit Mailbox(std::vector<int> world_ranks) : world_ranks(std::move(world_ranks)) {}

  using Key = std::tuple<int, int, int64_t>;  // source, destination, tag
  const std::vector<int> world_ranks;
  std::mutex mutex;
  std::map<Key, std::deque<MessageEnd*>> waiting;  // ends of one side whose other side has not come yet
  struct NewGroup {
    std::shared_ptr<Mailbox> mailbox;
    size_t taken = 0;
  };
  std::map<std::pair<int64_t, int>, NewGroup> groups;  // (count of splits, first member) -> the group being made
};

class LoopbackTransport : public Transport {
 public:
  LoopbackTransport(std::shared_ptr<Mailbox> mailbox, int rank) : mailbox_(std::move(mailbox)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(mailbox_->world_ranks.size()); }
  int WorldRank(int rank) const override { return mailbox_->world_ranks[rank]; }
  int NodeOf(int) const override { return 0; }

  std::unique_ptr<Transfer> Start(std::span<const Outgoing> sends, std::span<const Incoming> receives, int64_t tag) override {
    auto transfer = std::make_unique<LoopbackTransfer>(sends.size() + receives.size());
    for (size_t i = 0; i < sends.size(); ++i) {
      MessageEnd& end = transfer->end(i);
      end.peer = WorldRank(sends[i].peer);
      end.sends = true;
      end.source = sends[i].data.data();
      end.bytes = sends[i].data.size();
      if (MessageEnd* receive = MeetOrWait({rank_, sends[i].peer, tag}, end)) Deliver(end, *receive);
    }
    for (size_t i = 0; i < receives.size(); ++i) {
      MessageEnd& end = transfer->end(sends.size() + i);
      end.peer = WorldRank(receives[i].peer);
      end.target = receives[i].data.data();
      end.bytes = receives[i].data.size();
      if (MessageEnd* send = MeetOrWait({receives[i].peer, rank_, tag}, end)) Deliver(*send, end);
    }
    return transfer;
  }

  std::unique_ptr<Transport> MakeGroup(std::span<const int> members) override {
    const std::lock_guard<std::mutex> lock(mailbox_->mutex);
    const std::pair<int64_t, int> key(splits_++, members[0]);
    Mailbox::NewGroup& group = mailbox_->groups[key];
    if (group.mailbox == nullptr) {
      std::vector<int> world_ranks;
      for (const int member : members) world_ranks.push_back(WorldRank(member));
      group.mailbox = std::make_shared<Mailbox>(std::move(world_ranks));
    }
    const int own = static_cast<int>(std::find(members.begin(), members.end(), rank_) - members.begin());
    auto transport = std::make_unique<LoopbackTransport>(group.mailbox, own);
    if (++group.taken == members.size()) mailbox_->groups.erase(key);
    return transport;
  }

 private:
  // The other end of the message if it waits here already; else `end` waits.
  MessageEnd* MeetOrWait(const Mailbox::Key& key, MessageEnd& end) {
    const std::lock_guard<std::mutex> lock(mailbox_->mutex);
    const auto found = mailbox_->waiting.find(key);
    if (found == mailbox_->waiting.end()) {
      mailbox_->waiting[key].push_back(&end);
      return nullptr;
    }
    if (found->second.front()->sends == end.sends) {
      found->second.push_back(&end);
      return nullptr;
    }
    MessageEnd* other = found->second.front();
    found->second.pop_front();
    if (found->second.empty()) mailbox_->waiting.erase(found);
    return other;
  }

  std::shared_ptr<Mailbox> mailbox_;
  const int rank_;
  int64_t splits_ = 0;
};

}  // namespace

void RunLoopback(int ranks, const std::function<void(Communicator& world)>& body) {
  RunLoopback(ranks, body, [](std::unique_ptr<Transport> transport) { return transport; });
}

void RunLoopback(int ranks, const std::function<void(Communicator& world)>& body, const WrapTransport& wrap) {
  JEVONS_CHECK(ranks > 0, "%d ranks", ranks);
  std::vector<int> world_ranks;
  for (int r = 0; r < ranks; ++r) world_ranks.push_back(r);
  const auto mailbox = std::make_shared<Mailbox>(std::move(world_ranks));
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      MessageCommunicator world(wrap(std::make_unique<LoopbackTransport>(mailbox, r)),
                                std::make_shared<CallLog>(r, ranks, [](int exit_code) { std::_Exit(exit_code); }), "world");
      body(world);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace jevons
