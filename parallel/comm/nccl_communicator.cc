#include "parallel/comm/nccl_communicator.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/base/check.h"
#include "kernels/base/log.h"

namespace jevons {
namespace {

constexpr double kTeardownSeconds = 30;  // of a communicator that nobody needs any more

bool OnHost(const Stream& stream) { return stream.device == Device::kCpu; }

}  // namespace

NcclCommunicator::NcclCommunicator(NcclApi& api, std::unique_ptr<Communicator> host, const NcclOptions& options)
    : api_(api), host_(std::move(host)), options_(options), nccl_name_(absl::StrCat("jevons.", host_->name())) {
  if (size() > 1) Connect();
}

NcclCommunicator::~NcclCommunicator() {
  JEVONS_CHECK(open_.empty(), "group %s ends with %zu transfers under way", name().c_str(), open_.size());
  if (comm_ == nullptr) return;
  watch_.reset();  // this thread looks at the communicator itself now
  NcclApi::Result result = api_.Finalize(comm_);
  PatientWait wait;
  while (result == NcclApi::kInProgress && wait.Pause() && wait.seconds() < kTeardownSeconds) {
    NcclApi::Result state = NcclApi::kSuccess;
    const NcclApi::Result asked = api_.AsyncError(comm_, &state);
    result = asked == NcclApi::kSuccess ? state : asked;
  }
  if (result == NcclApi::kSuccess) {
    api_.Destroy(comm_);  // frees memory, and takes nobody else; there is nothing to do about it if it fails
    return;
  }
  // The group's work is done: whether it matters is seen by what comes next.
  LogWarning(absl::StrFormat("NCCL communicator %s did not end in order and is aborted: %s", name(),
                             result == NcclApi::kInProgress ? "its peers do not answer" : api_.Explain(result, comm_)));
  AbortNccl(api_, comm_);
}

void NcclCommunicator::Connect() {
  const CallLog::Call call = NextCall("Connect", 0);
  const int64_t log_id = call_log()->Enter(call);
  NcclApi::UniqueId id = {};
  if (rank() == 0) Check(call, "ncclGetUniqueId", api_.NewUniqueId(&id));
  host_->Broadcast(std::as_writable_bytes(std::span(id)), 0);
  Await(call, "ncclCommInitRankConfig", api_.Init(&comm_, size(), id, rank(), nccl_name_.c_str()));
  watch_ = std::make_unique<NcclWatch>(api_, comm_, call_log(), name());
  call_log()->Leave(log_id);
}

void NcclCommunicator::Fail(const CallLog::Call& call, const std::string& reason) {
  if (watch_ != nullptr) watch_->Fail(call, reason);
  call_log()->Die(call, reason, [this] {
    if (comm_ != nullptr) AbortNccl(api_, comm_);
  });
}

void NcclCommunicator::Check(const CallLog::Call& call, const char* function, NcclApi::Result result) {
  if (result == NcclApi::kSuccess || result == NcclApi::kInProgress) return;
  Fail(call, absl::StrCat(function, ": ", api_.Explain(result, comm_)));
}

void NcclCommunicator::Await(const CallLog::Call& call, const char* function, NcclApi::Result result) {
  PatientWait wait;
  while (result == NcclApi::kInProgress) {
    if (!wait.Pause()) Fail(call, absl::StrFormat("%s: waited %.1f s for the ranks of the group", function, wait.seconds()));
    Check(call, "ncclCommGetAsyncError", api_.AsyncError(comm_, &result));
  }
  Check(call, function, result);
}

CallLog::Call NcclCommunicator::NextCall(const char* kind, size_t bytes) {
  return {.group = name(), .kind = kind, .sequence = sequence_++, .bytes = static_cast<int64_t>(bytes)};
}

NcclCommunicator::Copy NcclCommunicator::OwnPart(const ExchangePlan& plan, ConstBytes send, Bytes recv) {
  return {send.data() + plan.own_send.offset, recv.data() + plan.own_receive.offset, plan.own_send.bytes};
}

void NcclCommunicator::RunGroup(const CallLog::Call& call, const Enqueue& enqueue) {
  const std::lock_guard<std::recursive_timed_mutex> lock(watch_->nccl_calls());
  Check(call, "ncclGroupStart", api_.GroupStart());
  enqueue(call);
  // Until NCCL is done with the group, the stream may not hold its work yet.
  Await(call, "ncclGroupEnd", api_.GroupEnd());
}

CommRequest NcclCommunicator::Begin(const Stream& stream, const CallLog::Call& call, const std::string& peers,
                                    const std::vector<Copy>& own, const Enqueue& enqueue) {
  const int64_t id = next_request_++;
  const auto copy = [&own](const Stream& on) {
    for (const Copy& part : own)
      if (part.bytes > 0 && part.from != part.to) CopyBytes(on, part.from, part.to, part.bytes);
  };
  if (comm_ == nullptr) {
    copy(stream);
    open_.emplace(id, nullptr);
    return {id};
  }
  std::shared_ptr<DeviceCall> running = watch_->NewCall();
  running->call = call;
  running->log_id = call_log()->Enter(call);
  running->peers = peers;
  running->ready.Record(stream);
  running->ready.Wait(stream_.get());
  if (options_.shared_gpu) Synchronize(stream);
  copy(stream_.get());
  if (enqueue) RunGroup(call, enqueue);
  running->done.Record(stream_.get());
  watch_->Follow(running);
  if (options_.shared_gpu) running->done.Synchronize();
  open_.emplace(id, std::move(running));
  return {id};
}

NcclCommunicator::Open::iterator NcclCommunicator::Find(CommRequest request) {
  const auto found = open_.find(request.id);
  JEVONS_CHECK(found != open_.end(), "group %s: no transfer %lld is under way on the device", name().c_str(),
               static_cast<long long>(request.id));
  return found;
}

void NcclCommunicator::Wait(const Stream& stream, CommRequest request) {
  if (OnHost(stream)) return host_->Wait(stream, request);
  const auto found = Find(request);
  if (found->second != nullptr) found->second->done.Wait(stream);
  open_.erase(found);
}

bool NcclCommunicator::Done(const Stream& stream, CommRequest request) {
  if (OnHost(stream)) return host_->Done(stream, request);
  const auto found = Find(request);
  return found->second == nullptr || found->second->done.Happened();
}

CommRequest NcclCommunicator::BeginAllToAllV(const Stream& stream, std::span<const Exchange> exchanges) {
  if (OnHost(stream)) return host_->BeginAllToAllV(stream, exchanges);
  std::vector<ExchangePlan> plans;
  std::vector<Copy> own;
  std::set<int> peers;
  size_t bytes = 0;
  for (const Exchange& exchange : exchanges) {
    const auto& [send, send_bytes, recv, recv_bytes] = exchange;
    JEVONS_CHECK(static_cast<int>(send_bytes.size()) == size(), "AllToAllV sizes for %zu of %d ranks", send_bytes.size(), size());
    const ExchangePlan& plan = plans.emplace_back(PlanAllToAllV(rank(), send_bytes, send.size(), recv_bytes, recv.size()));
    own.push_back(OwnPart(plan, send, recv));
    peers.merge(plan.Peers());
    bytes += exchange.send.size();
  }
  const Enqueue enqueue = [&](const CallLog::Call& call) {
    void* stream_here = stream_.get().handle;
    for (size_t i = 0; i < exchanges.size(); ++i) {
      for (const Part& part : plans[i].sends)
        Check(call, "ncclSend", api_.Send(exchanges[i].send.data() + part.offset, part.bytes, part.peer, comm_, stream_here));
      for (const Part& part : plans[i].receives)
        Check(call, "ncclRecv", api_.Receive(exchanges[i].recv.data() + part.offset, part.bytes, part.peer, comm_, stream_here));
    }
  };
  return Begin(stream, NextCall("AllToAllV", bytes), absl::StrJoin(peers, ", "), own, peers.empty() ? nullptr : enqueue);
}

// Every part goes where it belongs in `recv` first, and from there to the others.
void NcclCommunicator::AllGatherV(const Stream& stream, ConstBytes send, Bytes recv, Sizes recv_bytes) {
  if (OnHost(stream)) return host_->AllGatherV(stream, send, recv, recv_bytes);
  JEVONS_CHECK(static_cast<int>(recv_bytes.size()) == size(), "AllGatherV sizes for %zu of %d ranks", recv_bytes.size(), size());
  const ExchangePlan plan = PlanAllGatherV(rank(), send.size(), recv_bytes, recv.size());
  const bool even = std::all_of(recv_bytes.begin(), recv_bytes.end(), [&](int64_t bytes) { return bytes == recv_bytes[0]; });
  const Enqueue enqueue = [&](const CallLog::Call& call) {
    void* own = stream_.get().handle;
    if (even) {
      return Check(call, "ncclAllGather",
                   api_.AllGather(recv.data() + plan.own_receive.offset, recv.data(), recv_bytes[0], comm_, own));
    }
    int64_t offset = 0;
    for (int root = 0; root < size(); offset += recv_bytes[root++])
      if (recv_bytes[root] > 0)
        Check(call, "ncclBroadcast", api_.Broadcast(recv.data() + offset, recv_bytes[root], root, comm_, own));
  };
  Wait(stream, Begin(stream, NextCall("AllGatherV", send.size()), absl::StrJoin(plan.Peers(), ", "), {OwnPart(plan, send, recv)},
                     plan.travels() ? enqueue : nullptr));
}

void NcclCommunicator::ReduceScatterSum(const Stream& stream, std::span<const int64_t> send, std::span<int64_t> recv) {
  if (OnHost(stream)) return host_->ReduceScatterSum(stream, send, recv);
  JEVONS_CHECK(send.size() == size() * recv.size(), "ReduceScatterSum of %zu values to %zu for each of %d ranks", send.size(),
               recv.size(), size());
  const auto count = static_cast<int64_t>(recv.size());
  const Enqueue enqueue = [&](const CallLog::Call& call) {
    Check(call, "ncclReduceScatter", api_.ReduceScatterSum(send.data(), recv.data(), count, comm_, stream_.get().handle));
  };
  // NCCL takes care of the own part, except in a group of one, which has no NCCL.
  const Copy own = size() == 1 ? Copy{send.data(), recv.data(), static_cast<int64_t>(recv.size_bytes())} : Copy{};
  std::vector<int> others;
  for (int r = 0; r < size(); ++r)
    if (r != rank()) others.push_back(r);
  Wait(stream, Begin(stream, NextCall("ReduceScatterSum", send.size_bytes()), absl::StrJoin(others, ", "), {own},
                     recv.empty() || size() == 1 ? nullptr : enqueue));
}

void NcclCommunicator::Broadcast(const Stream& stream, Bytes data, int root) {
  if (OnHost(stream)) return host_->Broadcast(stream, data, root);
  JEVONS_CHECK(root >= 0 && root < size(), "broadcast from rank %d of %d", root, size());
  const Enqueue enqueue = [&](const CallLog::Call& call) {
    Check(call, "ncclBroadcast",
          api_.Broadcast(data.data(), static_cast<int64_t>(data.size()), root, comm_, stream_.get().handle));
  };
  Wait(stream, Begin(stream, NextCall("Broadcast", rank() == root ? data.size() : 0), absl::StrCat(root), {},
                     data.empty() || size() == 1 ? nullptr : enqueue));
}

CommRequest NcclCommunicator::BeginMessage(const Stream& stream, const char* kind, int64_t bytes, int peer,
                                           const MessageNames& names, const Enqueue& enqueue) {
  JEVONS_CHECK(peer >= 0 && peer < size() && peer != rank(), "a message between rank %d and %d of %d", rank(), peer, size());
  const CallLog::Call call{
      .group = name(), .kind = kind, .sequence = messages_++, .bytes = bytes, .here = names.here, .there = names.there};
  return Begin(stream, call, absl::StrCat(peer), {}, enqueue);
}

CommRequest NcclCommunicator::BeginSend(const Stream& stream, ConstBytes data, int peer, const MessageNames& names) {
  if (OnHost(stream)) return host_->BeginSend(stream, data, peer, names);
  const auto bytes = static_cast<int64_t>(data.size());
  const Enqueue enqueue = [&](const CallLog::Call& call) {
    Check(call, "ncclSend", api_.Send(data.data(), bytes, peer, comm_, stream_.get().handle));
  };
  return BeginMessage(stream, "Send", bytes, peer, names, data.empty() ? nullptr : enqueue);
}

CommRequest NcclCommunicator::BeginReceive(const Stream& stream, Bytes data, int peer, const MessageNames& names) {
  if (OnHost(stream)) return host_->BeginReceive(stream, data, peer, names);
  const Enqueue enqueue = [&](const CallLog::Call& call) {
    Check(call, "ncclRecv", api_.Receive(data.data(), static_cast<int64_t>(data.size()), peer, comm_, stream_.get().handle));
  };
  return BeginMessage(stream, "Receive", 0, peer, names, data.empty() ? nullptr : enqueue);
}

std::unique_ptr<Communicator> NcclCommunicator::Split(int color, const std::string& name) {
  return std::make_unique<NcclCommunicator>(api_, host_->Split(color, name), options_);
}

}  // namespace jevons
