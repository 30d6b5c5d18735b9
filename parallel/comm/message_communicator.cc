#include "parallel/comm/message_communicator.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/base/check.h"
#include "parallel/comm/exchange_plan.h"
#include "parallel/comm/message_head.h"

namespace jevons {
namespace {

// Tags of collectives are odd, those of messages even: the two are numbered apart.
int64_t CollectiveTag(int64_t sequence) { return 2 * sequence + 1; }
int64_t MessageTag(int64_t number) { return 2 * number; }

// Of what a reduce-scatter receives at a time, from all peers together: 8 MiB.
constexpr size_t kSumWindow = size_t{1} << 20;

// Between two looks at what is under way, so that the core belongs to who computes.
constexpr std::chrono::microseconds kBackgroundPause(20);

struct Messages {
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;
  void Add(const ExchangePlan& plan, std::span<const std::byte> send, std::span<std::byte> recv) {
    for (const Part& part : plan.sends) sends.push_back({part.peer, send.subspan(part.offset, part.bytes)});
    for (const Part& part : plan.receives) receives.push_back({part.peer, recv.subspan(part.offset, part.bytes)});
  }
};

void CopyOwnPart(const ExchangePlan& plan, std::span<const std::byte> send, std::span<std::byte> recv) {
  const std::byte* from = send.data() + plan.own_send.offset;
  std::byte* to = recv.data() + plan.own_receive.offset;
  if (plan.own_send.bytes > 0 && from != to) std::memcpy(to, from, plan.own_send.bytes);
}

// A head and the data, which may be empty.
class NamedSend : public Transfer {
 public:
  NamedSend(Transport& transport, const Outgoing& data, const MessageNames& names, int64_t tag)
      : head_(HeadOf(names.here, data.data.size())) {
    const Outgoing messages[] = {{data.peer, std::as_bytes(std::span(&head_, 1))}, data};
    transfer_ = transport.Start(std::span(messages, data.data.empty() ? 1 : 2), {}, tag);
  }
  absl::StatusOr<bool> Poll() override { return transfer_->Poll(); }
  std::vector<int> MissingPeers() const override { return transfer_->MissingPeers(); }

 private:
  const MessageHead head_;
  std::unique_ptr<Transfer> transfer_;
};

// The data is received when its head has come and is right: so the receiver, who knows both, finds what is wrong.
class NamedReceive : public Transfer {
 public:
  NamedReceive(Transport& transport, const Incoming& data, const MessageNames& names, int64_t tag)
      : transport_(transport), data_(data), names_(names), tag_(tag), expected_(HeadOf(names.there, data.data.size())) {
    const Incoming head{data.peer, std::as_writable_bytes(std::span(&head_, 1))};
    transfer_ = transport.Start({}, {&head, 1}, tag);
  }

  absl::StatusOr<bool> Poll() override {
    JEVONS_ASSIGN_OR_RETURN(const bool done, transfer_->Poll());
    if (!done || right_) return done;
    if (head_ != expected_) {
      return PeerLostError(absl::StrFormat("rank %d sent %s, this rank expects %s of %d in %s", transport_.WorldRank(data_.peer),
                                           ToString(head_), names_.there, expected_.bytes, names_.here));
    }
    right_ = true;
    if (data_.data.empty()) return true;
    transfer_ = transport_.Start({}, {&data_, 1}, tag_);
    return transfer_->Poll();
  }
  std::vector<int> MissingPeers() const override { return transfer_->MissingPeers(); }

 private:
  Transport& transport_;
  const Incoming data_;
  const MessageNames names_;
  const int64_t tag_;
  const MessageHead expected_;
  MessageHead head_;
  bool right_ = false;                  // the head
  std::unique_ptr<Transfer> transfer_;  // of the head, then of the data
};

}  // namespace

MessageCommunicator::MessageCommunicator(std::unique_ptr<Transport> transport, std::shared_ptr<CallLog> log, std::string name)
    : transport_(std::move(transport)),
      log_(std::move(log)),
      name_(std::move(name)),
      sent_(transport_->size()),
      received_(transport_->size()) {}

MessageCommunicator::~MessageCommunicator() {
  if (background_.joinable()) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ends_ = true;
    }
    changed_.notify_one();
    background_.join();
  }
  JEVONS_CHECK(open_.empty(), "group %s ends with %zu transfers under way", name_.c_str(), open_.size());
}

MessageCommunicator::OpenCall MessageCommunicator::Enter(const char* kind, int64_t bytes) {
  OpenCall open;
  open.call = {.group = name_, .kind = kind, .sequence = sequence_++, .bytes = bytes};
  open.log_id = log_->Enter(open.call);
  open.tag = CollectiveTag(open.call.sequence);
  return open;
}

void MessageCommunicator::ExpectHost(const Stream& stream) const {
  JEVONS_CHECK(stream.device == Device::kCpu, "group %s carries the host's memory only; give devices one over NCCL",
               name_.c_str());
}

CommRequest MessageCommunicator::KeepOpen(OpenCall open) {
  const int64_t id = next_request_++;
  const std::lock_guard<std::mutex> lock(mutex_);
  open_.emplace(id, std::move(open));
  changed_.notify_one();
  return {id};
}

const MessageCommunicator::OpenCall& MessageCommunicator::Find(CommRequest request) const {
  const auto found = open_.find(request.id);
  JEVONS_CHECK(found != open_.end(), "group %s: no transfer %lld is under way", name_.c_str(),
               static_cast<long long>(request.id));
  return found->second;
}

bool MessageCommunicator::Poll(const OpenCall& open, Transfer& transfer) {
  const absl::StatusOr<bool> done = transfer.Poll();
  if (!done.ok()) log_->Die(open.call, done.status().message());
  return *done;
}

bool MessageCommunicator::PollAll() {
  bool done = true;
  for (const auto& [id, open] : open_)
    if (open.transfer != nullptr && !Poll(open, *open.transfer)) done = false;
  return done;
}

void MessageCommunicator::MoveInBackground() {
  if (size() > 1 && !background_.joinable()) background_ = std::thread([this] { Background(); });
}

void MessageCommunicator::Background() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!ends_) {
    if (PollAll())
      changed_.wait(lock);
    else
      changed_.wait_for(lock, kBackgroundPause);
  }
}

void MessageCommunicator::Finish(const OpenCall& open, Transfer& transfer) {
  PatientWait wait;
  for (;;) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (Poll(open, transfer)) return;
    PollAll();
    lock.unlock();
    if (!wait.Pause()) {
      lock.lock();
      const std::vector<int> missing = transfer.MissingPeers();
      const std::set<int> peers(missing.begin(), missing.end());
      log_->Die(open.call, CallLog::Waited(open.call, wait.seconds(), "", absl::StrJoin(peers, ", ")));
    }
  }
}

void MessageCommunicator::Send(const OpenCall& open, int peer, std::span<const std::byte> data) {
  const Outgoing message{peer, data};
  Finish(open, *transport_->Start({&message, 1}, {}, open.tag));
}

void MessageCommunicator::Receive(const OpenCall& open, int peer, std::span<std::byte> data) {
  const Incoming message{peer, data};
  Finish(open, *transport_->Start({}, {&message, 1}, open.tag));
}

// Dissemination (Hensgen, Finkel and Manber 1988): after round k a rank has heard, directly or not, from the
// 2^(k+1) - 1 ranks before it.
void MessageCommunicator::Barrier() {
  const OpenCall open = Enter("Barrier", 0);
  for (int step = 1; step < size(); step *= 2) {
    const std::byte sent{1};
    std::byte received{0};
    const Outgoing out{(rank() + step) % size(), {&sent, 1}};
    const Incoming in{(rank() - step + size()) % size(), {&received, 1}};
    Finish(open, *transport_->Start({&out, 1}, {&in, 1}, open.tag));
  }
  Leave(open);
}

void MessageCommunicator::AllGather(ConstBytes send, Bytes recv) {
  GatherParts("AllGather", send, recv, std::vector<int64_t>(size(), static_cast<int64_t>(send.size())));
}

void MessageCommunicator::AllGatherV(const Stream& stream, ConstBytes send, Bytes recv, Sizes recv_bytes) {
  ExpectHost(stream);
  GatherParts("AllGatherV", send, recv, recv_bytes);
}

void MessageCommunicator::GatherParts(const char* kind, ConstBytes send, Bytes recv, Sizes recv_bytes) {
  JEVONS_CHECK(static_cast<int>(recv_bytes.size()) == size(), "%s sizes for %zu of %d ranks", kind, recv_bytes.size(), size());
  const ExchangePlan plan = PlanAllGatherV(rank(), send.size(), recv_bytes, recv.size());
  const OpenCall open = Enter(kind, static_cast<int64_t>(send.size()));
  CopyOwnPart(plan, send, recv);
  Messages messages;
  messages.Add(plan, send, recv);
  Finish(open, *transport_->Start(messages.sends, messages.receives, open.tag));
  Leave(open);
}

CommRequest MessageCommunicator::BeginAllToAllV(const Stream& stream, std::span<const Exchange> exchanges) {
  ExpectHost(stream);
  int64_t bytes = 0;
  Messages messages;
  std::vector<ExchangePlan> plans;
  for (const auto& [send, send_bytes, recv, recv_bytes] : exchanges) {
    JEVONS_CHECK(static_cast<int>(send_bytes.size()) == size(), "AllToAllV sizes for %zu of %d ranks", send_bytes.size(), size());
    plans.push_back(PlanAllToAllV(rank(), send_bytes, send.size(), recv_bytes, recv.size()));
    messages.Add(plans.back(), send, recv);
    bytes += static_cast<int64_t>(send.size());
  }
  OpenCall open = Enter("AllToAllV", bytes);
  if (!messages.sends.empty() || !messages.receives.empty())
    open.transfer = transport_->Start(messages.sends, messages.receives, open.tag);
  for (size_t i = 0; i < plans.size(); ++i) CopyOwnPart(plans[i], exchanges[i].send, exchanges[i].recv);
  return KeepOpen(std::move(open));
}

MessageCommunicator::OpenCall MessageCommunicator::EnterMessage(const char* kind, int64_t bytes, int peer,
                                                                const MessageNames& names, std::vector<int64_t>& count) {
  JEVONS_CHECK(peer >= 0 && peer < size() && peer != rank(), "a message between rank %d and %d of %d", rank(), peer, size());
  OpenCall open;
  open.call = {.group = name_, .kind = kind, .sequence = count[peer]++, .bytes = bytes, .here = names.here, .there = names.there};
  open.log_id = log_->Enter(open.call);
  open.tag = MessageTag(open.call.sequence);
  return open;
}

CommRequest MessageCommunicator::BeginSend(const Stream& stream, ConstBytes data, int peer, const MessageNames& names) {
  ExpectHost(stream);
  OpenCall open = EnterMessage("Send", static_cast<int64_t>(data.size()), peer, names, sent_);
  const Outgoing message{peer, data};
  if (!names.here.empty()) {
    open.transfer = std::make_unique<NamedSend>(*transport_, message, names, open.tag);
  } else if (!data.empty()) {
    open.transfer = transport_->Start({&message, 1}, {}, open.tag);
  }
  return KeepOpen(std::move(open));
}

CommRequest MessageCommunicator::BeginReceive(const Stream& stream, Bytes data, int peer, const MessageNames& names) {
  ExpectHost(stream);
  OpenCall open = EnterMessage("Receive", 0, peer, names, received_);
  const Incoming message{peer, data};
  if (!names.here.empty()) {
    open.transfer = std::make_unique<NamedReceive>(*transport_, message, names, open.tag);
  } else if (!data.empty()) {
    open.transfer = transport_->Start({}, {&message, 1}, open.tag);
  }
  return KeepOpen(std::move(open));
}

void MessageCommunicator::Wait(const Stream& stream, CommRequest request) {
  ExpectHost(stream);
  std::unique_lock<std::mutex> lock(mutex_);
  const OpenCall& open = Find(request);
  lock.unlock();
  if (open.transfer != nullptr) Finish(open, *open.transfer);
  lock.lock();
  Leave(open);
  open_.erase(request.id);
}

bool MessageCommunicator::Done(const Stream& stream, CommRequest request) {
  ExpectHost(stream);
  const std::lock_guard<std::mutex> lock(mutex_);
  PollAll();
  const OpenCall& open = Find(request);
  return open.transfer == nullptr || Poll(open, *open.transfer);
}

// In a binomial tree rooted at 0, rank r has the children r + 1, r + 2, r + 4, ... below its lowest set bit.
template <typename Combine>
void MessageCommunicator::AllReduce(const char* kind, std::span<int64_t> values, Combine combine) {
  const OpenCall open = Enter(kind, static_cast<int64_t>(values.size_bytes()));
  if (values.empty() || size() == 1) return Leave(open);
  std::vector<int64_t> other(values.size());
  int step = 1;
  for (; step < size() && (rank() & step) == 0; step *= 2) {
    if (rank() + step >= size()) continue;
    Receive(open, rank() + step, std::as_writable_bytes(std::span(other)));
    for (size_t i = 0; i < values.size(); ++i) values[i] = combine(values[i], other[i]);
  }
  if (rank() != 0) Send(open, rank() - step, std::as_bytes(values));
  BroadcastTree(open, std::as_writable_bytes(values), 0);
  Leave(open);
}

void MessageCommunicator::AllReduceSum(std::span<int64_t> values) {
  AllReduce("AllReduceSum", values, [](int64_t a, int64_t b) { return a + b; });
}

void MessageCommunicator::AllReduceMax(std::span<int64_t> values) {
  AllReduce("AllReduceMax", values, [](int64_t a, int64_t b) { return std::max(a, b); });
}

void MessageCommunicator::ReduceScatterSum(const Stream& stream, std::span<const int64_t> send, std::span<int64_t> recv) {
  ExpectHost(stream);
  const size_t ranks = size(), self = rank(), part = recv.size();
  JEVONS_CHECK(send.size() == ranks * part, "ReduceScatterSum of %zu values to %zu for each of %zu ranks", send.size(), part,
               ranks);
  const OpenCall open = Enter("ReduceScatterSum", static_cast<int64_t>(send.size_bytes()));
  const std::span<const int64_t> own = send.subspan(self * part, part);
  if (own.data() != recv.data()) std::copy(own.begin(), own.end(), recv.begin());
  if (ranks == 1 || part == 0) return Leave(open);
  const size_t window = std::min(part, std::max<size_t>(1, kSumWindow / (ranks - 1)));
  std::vector<int64_t> arrived(window * (ranks - 1));
  for (size_t begin = 0; begin < part; begin += window) {
    const size_t count = std::min(window, part - begin);
    std::vector<Outgoing> sends;
    std::vector<Incoming> receives;
    for (size_t step = 1; step < ranks; ++step) {  // neighbours first
      const size_t to = (self + step) % ranks, from = (self + ranks - step) % ranks;
      sends.push_back({static_cast<int>(to), std::as_bytes(send.subspan(to * part + begin, count))});
      receives.push_back(
          {static_cast<int>(from), std::as_writable_bytes(std::span(arrived).subspan((step - 1) * window, count))});
    }
    Finish(open, *transport_->Start(sends, receives, open.tag));
    for (size_t step = 1; step < ranks; ++step) {
      const int64_t* terms = arrived.data() + (step - 1) * window;
      for (size_t i = 0; i < count; ++i) recv[begin + i] += terms[i];
    }
  }
  Leave(open);
}

void MessageCommunicator::Broadcast(const Stream& stream, Bytes data, int root) {
  ExpectHost(stream);
  JEVONS_CHECK(root >= 0 && root < size(), "broadcast from rank %d of %d", root, size());
  const OpenCall open = Enter("Broadcast", rank() == root ? static_cast<int64_t>(data.size()) : 0);
  if (!data.empty()) BroadcastTree(open, data, root);
  Leave(open);
}

void MessageCommunicator::BroadcastTree(const OpenCall& open, std::span<std::byte> data, int root) {
  const int relative = (rank() - root + size()) % size();
  int step = 1;
  while (step < size() && (relative & step) == 0) step *= 2;
  if (relative != 0) Receive(open, (relative - step + root) % size(), data);
  std::vector<Outgoing> sends;
  for (step /= 2; step > 0; step /= 2) {
    if (relative + step < size()) sends.push_back({(relative + step + root) % size(), data});
  }
  if (!sends.empty()) Finish(open, *transport_->Start(sends, {}, open.tag));
}

std::unique_ptr<Communicator> MessageCommunicator::Split(int color, const std::string& name) {
  std::vector<int> colors(size());
  AllGather(std::as_bytes(std::span(&color, 1)), std::as_writable_bytes(std::span(colors)));
  std::vector<int> members;
  for (int r = 0; r < size(); ++r) {
    if (colors[r] == color) members.push_back(r);
  }
  return std::make_unique<MessageCommunicator>(transport_->MakeGroup(members), log_, name);
}

}  // namespace jevons
