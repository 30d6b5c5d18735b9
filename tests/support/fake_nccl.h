// A stand-in for NCCL among the threads of one process: its transfers move bytes between "device" memory as NCCL's do,
// in stream order on async_device's streams, and it fails when it is told to.
#ifndef JEVONS_TESTS_SUPPORT_FAKE_NCCL_H_
#define JEVONS_TESTS_SUPPORT_FAKE_NCCL_H_

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "parallel/comm/nccl_api.h"

namespace jevons {

// One per rank (thread); those of a job share a Hub.
class FakeNccl : public NcclApi {
 public:
  static constexpr Result kRemoteError = 6;

  // Where messages wait for their receivers.
  struct Hub {
    std::mutex mutex;
    std::condition_variable arrived;
    std::map<std::tuple<int64_t, int, int>, std::deque<std::vector<char>>> messages;  // of (communicator, from, to)
    int64_t ids = 0;
    std::atomic<int> mismatches = 0;  // messages of another size than their receiver expects
  };

  // What goes wrong, and how long things take.
  struct Script {
    int polls_to_init = 3, polls_per_group = 1;  // kInProgress so often
    Result unique_id = kSuccess, init = kSuccess, send = kSuccess, group_end = kSuccess, finalize = kSuccess;
    std::atomic<bool> never_settles = false;  // kInProgress forever, from the next call on
    std::atomic<Result> async_error = kSuccess;
    bool abort_hangs = false;
    std::function<void()> on_abort;
  };

  // What it was asked for, for tests that count.
  struct Counts {
    std::atomic<int> sends = 0, receives = 0, groups = 0, gathers = 0, reductions = 0, broadcasts = 0, inits = 0, destroyed = 0,
                     aborted = 0;
  };

  explicit FakeNccl(std::shared_ptr<Hub> hub) : hub_(std::move(hub)) {}
  Script script;
  Counts counts;

  Result NewUniqueId(UniqueId* id) override;
  Result Init(Comm* comm, int ranks, const UniqueId& id, int rank, const char* name) override;
  Result AsyncError(Comm comm, Result* state) override;
  int DeviceOf(Comm) override { return 0; }
  Result Finalize(Comm comm) override;
  Result Destroy(Comm comm) override;
  Result Abort(Comm comm) override;
  Result GroupStart() override;
  Result GroupEnd() override;
  Result Send(const void* data, int64_t bytes, int peer, Comm comm, void* stream) override;
  Result Receive(void* data, int64_t bytes, int peer, Comm comm, void* stream) override;
  Result Broadcast(void* data, int64_t bytes, int root, Comm comm, void* stream) override;
  Result AllGather(const void* send, void* recv, int64_t bytes, Comm comm, void* stream) override;
  Result ReduceScatterSum(const int64_t* send, int64_t* recv, int64_t count, Comm comm, void* stream) override;
  std::string Explain(Result result, Comm comm) override;

 private:
  struct FakeComm {
    int64_t id;
    int ranks, rank;
    int polls = 0;  // left until it has settled
    bool destroyed = false;
  };
  static FakeComm& Of(Comm comm) { return *static_cast<FakeComm*>(comm); }
  void Put(const FakeComm& comm, int to, const void* data, int64_t bytes);
  void Take(const FakeComm& comm, int from, void* data, int64_t bytes);
  // Work of the group that is open: first what gives, then what waits. The stream gets it when the group has settled.
  void Later(void* stream, std::function<void()> give, std::function<void()> take);

  void Release();

  const std::shared_ptr<Hub> hub_;
  std::mutex mutex_;  // of what follows: each communicator of the rank has its watch
  std::vector<std::unique_ptr<FakeComm>> comms_;
  bool grouping_ = false;
  void* group_stream_ = nullptr;
  FakeComm* group_comm_ = nullptr;
  std::vector<std::function<void()>> gives_, takes_;
};

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_FAKE_NCCL_H_
