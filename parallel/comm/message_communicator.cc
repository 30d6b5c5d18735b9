#include "parallel/comm/message_communicator.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/base/check.h"

namespace jevons {
namespace {

// Checks that the parts are legal and fill `total` exactly; returns their offsets.
std::vector<int64_t> OffsetsOf(std::span<const int64_t> bytes, size_t total, int ranks, const char* what) {
  JEVONS_CHECK(static_cast<int>(bytes.size()) == ranks, "%s sizes for %zu of %d ranks", what, bytes.size(),
               ranks);
  std::vector<int64_t> offsets;
  offsets.reserve(bytes.size());
  int64_t sum = 0;
  for (const int64_t part : bytes) {
    JEVONS_CHECK(part >= 0, "%s size %lld", what, static_cast<long long>(part));
    offsets.push_back(sum);
    sum += part;
  }
  JEVONS_CHECK(sum == static_cast<int64_t>(total), "%s sizes add up to %lld bytes, the buffer has %zu", what,
               static_cast<long long>(sum), total);
  return offsets;
}

void Copy(std::span<const std::byte> from, std::span<std::byte> to) {
  JEVONS_CHECK(from.size() == to.size(), "a rank's part for itself: sends %zu bytes, expects %zu",
               from.size(), to.size());
  if (!from.empty() && from.data() != to.data()) std::memcpy(to.data(), from.data(), from.size());
}

}  // namespace

MessageCommunicator::MessageCommunicator(std::unique_ptr<Transport> transport, std::shared_ptr<CallLog> log,
                                         std::string name)
    : transport_(std::move(transport)), log_(std::move(log)), name_(std::move(name)) {}

MessageCommunicator::~MessageCommunicator() {
  JEVONS_CHECK(open_.empty(), "group %s ends with %zu transfers under way", name_.c_str(), open_.size());
}

MessageCommunicator::OpenCall MessageCommunicator::Enter(const char* kind, int64_t bytes) {
  OpenCall open;
  open.call = {.group = name_, .kind = kind, .sequence = sequence_++, .bytes = bytes};
  open.log_id = log_->Enter(open.call);
  return open;
}

void MessageCommunicator::Finish(const OpenCall& open, Transfer& transfer) {
  PatientWait wait;
  for (;;) {
    const absl::StatusOr<bool> done = transfer.Poll();
    if (!done.ok()) log_->Die(open.call, done.status().message());
    if (*done) return;
    if (!wait.Pause()) {
      const std::vector<int> missing = transfer.MissingPeers();
      log_->Die(open.call,
                absl::StrFormat("waited %.1f s for rank %s", wait.seconds(),
                                absl::StrJoin(std::set<int>(missing.begin(), missing.end()), ", ")));
    }
  }
}

void MessageCommunicator::Send(const OpenCall& open, int peer, std::span<const std::byte> data) {
  const Outgoing message{peer, data};
  Finish(open, *transport_->Start({&message, 1}, {}, open.call.sequence));
}

void MessageCommunicator::Receive(const OpenCall& open, int peer, std::span<std::byte> data) {
  const Incoming message{peer, data};
  Finish(open, *transport_->Start({}, {&message, 1}, open.call.sequence));
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
    Finish(open, *transport_->Start({&out, 1}, {&in, 1}, open.call.sequence));
  }
  Leave(open);
}

void MessageCommunicator::AllGather(std::span<const std::byte> send, std::span<std::byte> recv) {
  GatherParts("AllGather", send, recv, std::vector<int64_t>(size(), static_cast<int64_t>(send.size())));
}

void MessageCommunicator::AllGatherV(std::span<const std::byte> send, std::span<std::byte> recv,
                                     std::span<const int64_t> recv_bytes) {
  GatherParts("AllGatherV", send, recv, recv_bytes);
}

void MessageCommunicator::GatherParts(const char* kind, std::span<const std::byte> send,
                                      std::span<std::byte> recv, std::span<const int64_t> recv_bytes) {
  const std::vector<int64_t> offsets = OffsetsOf(recv_bytes, recv.size(), size(), kind);
  const OpenCall open = Enter(kind, static_cast<int64_t>(send.size()));
  Copy(send, recv.subspan(offsets[rank()], recv_bytes[rank()]));
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;
  for (int i = 1; i < size();
       ++i) {  // neighbours first, so that the ranks do not all write to rank 0 at once
    const int to = (rank() + i) % size(), from = (rank() - i + size()) % size();
    if (!send.empty()) sends.push_back({to, send});
    if (recv_bytes[from] > 0) receives.push_back({from, recv.subspan(offsets[from], recv_bytes[from])});
  }
  Finish(open, *transport_->Start(sends, receives, open.call.sequence));
  Leave(open);
}

CommRequest MessageCommunicator::BeginAllToAllV(std::span<const std::byte> send,
                                                std::span<const int64_t> send_bytes,
                                                std::span<std::byte> recv,
                                                std::span<const int64_t> recv_bytes) {
  const std::vector<int64_t> send_offsets = OffsetsOf(send_bytes, send.size(), size(), "AllToAllV send");
  const std::vector<int64_t> recv_offsets = OffsetsOf(recv_bytes, recv.size(), size(), "AllToAllV receive");
  OpenCall open = Enter("AllToAllV", static_cast<int64_t>(send.size()));
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;
  for (int i = 1; i < size(); ++i) {
    const int to = (rank() + i) % size(), from = (rank() - i + size()) % size();
    if (send_bytes[to] > 0) sends.push_back({to, send.subspan(send_offsets[to], send_bytes[to])});
    if (recv_bytes[from] > 0) receives.push_back({from, recv.subspan(recv_offsets[from], recv_bytes[from])});
  }
  const int64_t id = open.call.sequence;
  if (!sends.empty() || !receives.empty()) open.transfer = transport_->Start(sends, receives, id);
  Copy(send.subspan(send_offsets[rank()], send_bytes[rank()]),
       recv.subspan(recv_offsets[rank()], recv_bytes[rank()]));
  open_.emplace(id, std::move(open));
  return {id};
}

void MessageCommunicator::Wait(CommRequest request) {
  const auto found = open_.find(request.id);
  JEVONS_CHECK(found != open_.end(), "group %s: no transfer %lld is under way", name_.c_str(),
               static_cast<long long>(request.id));
  const OpenCall& open = found->second;
  if (open.transfer != nullptr) Finish(open, *open.transfer);
  Leave(open);
  open_.erase(found);
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

void MessageCommunicator::Broadcast(std::span<std::byte> data, int root) {
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
  if (!sends.empty()) Finish(open, *transport_->Start(sends, {}, open.call.sequence));
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
