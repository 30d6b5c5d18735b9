#include "tests/support/fake_nccl.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "kernels/base/check.h"
#include "tests/support/async_device.h"

namespace jevons {

NcclApi::Result FakeNccl::NewUniqueId(UniqueId* id) {
  const std::lock_guard<std::mutex> lock(hub_->mutex);
  const int64_t number = ++hub_->ids;
  std::memcpy(id->data(), &number, sizeof number);
  return script.unique_id;
}

NcclApi::Result FakeNccl::Init(Comm* comm, int ranks, const UniqueId& id, int rank, const char* name) {
  const std::lock_guard<std::mutex> lock(mutex_);
  JEVONS_CHECK(std::strncmp(name, "jevons.", 7) == 0, "%s", name);
  int64_t number = 0;
  std::memcpy(&number, id.data(), sizeof number);
  JEVONS_CHECK(number > 0, "rank %d did not get the id", rank);
  comms_.push_back(std::make_unique<FakeComm>(FakeComm{number, ranks, rank, script.polls_to_init}));
  *comm = comms_.back().get();
  ++counts.inits;
  if (script.init != kSuccess) return script.init;
  return kInProgress;
}

NcclApi::Result FakeNccl::AsyncError(Comm comm, Result* state) {
  const std::lock_guard<std::mutex> lock(mutex_);
  FakeComm& c = Of(comm);
  JEVONS_CHECK(!c.destroyed, "asked about a communicator that is no more");
  const bool settled = c.polls <= 0 && !script.never_settles;
  c.polls -= c.polls > 0;
  if (settled && &c == group_comm_) Release();
  *state = script.async_error != kSuccess ? script.async_error.load() : settled ? kSuccess : kInProgress;
  return kSuccess;
}

NcclApi::Result FakeNccl::Finalize(Comm comm) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Of(comm).polls = 2;
  return script.finalize != kSuccess ? script.finalize : kInProgress;
}

NcclApi::Result FakeNccl::Destroy(Comm comm) {
  const std::lock_guard<std::mutex> lock(mutex_);
  JEVONS_CHECK(Of(comm).polls == 0, "destroyed before it was finalized");
  Of(comm).destroyed = true;
  ++counts.destroyed;
  return kSuccess;
}

NcclApi::Result FakeNccl::Abort(Comm comm) {
  Of(comm).destroyed = true;
  ++counts.aborted;
  if (script.on_abort) script.on_abort();
  while (script.abort_hangs) std::this_thread::sleep_for(std::chrono::seconds(1));
  return kSuccess;
}

NcclApi::Result FakeNccl::GroupStart() {
  const std::lock_guard<std::mutex> lock(mutex_);
  JEVONS_CHECK(!grouping_ && gives_.empty() && takes_.empty(), "a group before the last one has settled");
  grouping_ = true;
  group_comm_ = nullptr;
  return kSuccess;
}

NcclApi::Result FakeNccl::GroupEnd() {
  const std::lock_guard<std::mutex> lock(mutex_);
  JEVONS_CHECK(grouping_ && group_comm_ != nullptr, "an empty group");
  grouping_ = false;
  ++counts.groups;
  if (script.group_end != kSuccess) return script.group_end;
  group_comm_->polls = script.polls_per_group;
  if (group_comm_->polls > 0 || script.never_settles) return kInProgress;
  Release();
  return kSuccess;
}

void FakeNccl::Release() {
  for (auto* list : {&gives_, &takes_}) {
    for (std::function<void()>& work : *list) EnqueueOnStream(group_stream_, std::move(work));
    list->clear();
  }
}

void FakeNccl::Later(void* stream, std::function<void()> give, std::function<void()> take) {
  JEVONS_CHECK(grouping_, "a transfer outside of a group");
  group_stream_ = stream;
  if (give) gives_.push_back(std::move(give));
  if (take) takes_.push_back(std::move(take));
}

void FakeNccl::Put(const FakeComm& comm, int to, const void* data, int64_t bytes) {
  const char* begin = static_cast<const char*>(data);
  const std::lock_guard<std::mutex> lock(hub_->mutex);
  hub_->messages[{comm.id, comm.rank, to}].emplace_back(begin, begin + bytes);
  hub_->arrived.notify_all();
}

void FakeNccl::Take(const FakeComm& comm, int from, void* data, int64_t bytes) {
  std::unique_lock<std::mutex> lock(hub_->mutex);
  auto& waiting = hub_->messages[{comm.id, from, comm.rank}];
  hub_->arrived.wait(lock, [&] { return !waiting.empty(); });
  if (static_cast<int64_t>(waiting.front().size()) == bytes) {
    std::memcpy(data, waiting.front().data(), static_cast<size_t>(bytes));
  } else {
    ++hub_->mismatches;
  }
  waiting.pop_front();
}

NcclApi::Result FakeNccl::Send(const void* data, int64_t bytes, int peer, Comm comm, void* stream) {
  const std::lock_guard<std::mutex> lock(mutex_);
  FakeComm& c = Of(comm);
  JEVONS_CHECK(bytes > 0 && peer != c.rank, "%lld bytes to rank %d", static_cast<long long>(bytes), peer);
  ++counts.sends;
  group_comm_ = &c;
  Later(
      stream, [=, this, &c] { Put(c, peer, data, bytes); }, nullptr);
  return script.send;
}

NcclApi::Result FakeNccl::Receive(void* data, int64_t bytes, int peer, Comm comm, void* stream) {
  const std::lock_guard<std::mutex> lock(mutex_);
  FakeComm& c = Of(comm);
  JEVONS_CHECK(bytes > 0 && peer != c.rank, "%lld bytes from rank %d", static_cast<long long>(bytes), peer);
  ++counts.receives;
  group_comm_ = &c;
  Later(stream, nullptr, [=, this, &c] { Take(c, peer, data, bytes); });
  return kSuccess;
}

NcclApi::Result FakeNccl::Broadcast(void* data, int64_t bytes, int root, Comm comm, void* stream) {
  const std::lock_guard<std::mutex> lock(mutex_);
  FakeComm& c = Of(comm);
  ++counts.broadcasts;
  group_comm_ = &c;
  if (root != c.rank) {
    Later(stream, nullptr, [=, this, &c] { Take(c, root, data, bytes); });
    return kSuccess;
  }
  Later(
      stream,
      [=, this, &c] {
        for (int r = 0; r < c.ranks; ++r)
          if (r != c.rank) Put(c, r, data, bytes);
      },
      nullptr);
  return kSuccess;
}

NcclApi::Result FakeNccl::AllGather(const void* send, void* recv, int64_t bytes, Comm comm, void* stream) {
  const std::lock_guard<std::mutex> lock(mutex_);
  FakeComm& c = Of(comm);
  ++counts.gathers;
  group_comm_ = &c;
  JEVONS_CHECK(send == static_cast<char*>(recv) + c.rank * bytes, "a gather that is not in place");
  Later(
      stream,
      [=, this, &c] {
        for (int r = 0; r < c.ranks; ++r)
          if (r != c.rank) Put(c, r, send, bytes);
      },
      [=, this, &c] {
        for (int r = 0; r < c.ranks; ++r)
          if (r != c.rank) Take(c, r, static_cast<char*>(recv) + r * bytes, bytes);
      });
  return kSuccess;
}

NcclApi::Result FakeNccl::ReduceScatterSum(const int64_t* send, int64_t* recv, int64_t count, Comm comm, void* stream) {
  const std::lock_guard<std::mutex> lock(mutex_);
  FakeComm& c = Of(comm);
  ++counts.reductions;
  group_comm_ = &c;
  const int64_t* own = send + c.rank * count;
  JEVONS_CHECK(recv == own || recv + count <= send || recv >= send + c.ranks * count,
               "a sum neither in place nor apart from what is sent");
  Later(
      stream,
      [=, this, &c] {
        for (int r = 0; r < c.ranks; ++r)
          if (r != c.rank) Put(c, r, send + r * count, count * 8);
      },
      [=, this, &c] {
        std::vector<int64_t> terms(count);
        if (recv != own) std::copy_n(own, count, recv);
        for (int r = 0; r < c.ranks; ++r) {
          if (r == c.rank) continue;
          Take(c, r, terms.data(), count * 8);
          for (int64_t i = 0; i < count; ++i) recv[i] += terms[i];
        }
      });
  return kSuccess;
}

std::string FakeNccl::Explain(Result result, Comm) {
  return result == kRemoteError ? "remote process exited or there was a network error; socket closed"
                                : "error " + std::to_string(result);
}

}  // namespace jevons
