// The watch over one NCCL communicator. A host that never waits for its device cannot notice that a transfer hangs; and
// once it does wait, it cannot do anything else. So a thread looks at the communicator and at the transfers under way.
#ifndef JEVONS_PARALLEL_COMM_NCCL_WATCH_H_
#define JEVONS_PARALLEL_COMM_NCCL_WATCH_H_

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "kernels/tensor/device.h"
#include "parallel/comm/nccl_api.h"
#include "parallel/comm/watchdog.h"

namespace jevons {

// A transfer on the device.
struct DeviceCall {
  CallLog::Call call;
  int64_t log_id = 0;
  std::string peers;           // "1, 3"
  Event ready{Device::kCuda};  // its buffers may be read and written
  Event done{Device::kCuda};
};

// Aborts the communicator, so that its kernels end; gives up after some seconds, as the process ends anyway.
void AbortNccl(NcclApi& api, NcclApi::Comm comm);

class NcclWatch {
 public:
  NcclWatch(NcclApi& api, NcclApi::Comm comm, std::shared_ptr<CallLog> log, const std::string& group);
  ~NcclWatch();  // the watch ends, the communicator stays
  NcclWatch(const NcclWatch&) = delete;
  NcclWatch& operator=(const NcclWatch&) = delete;

  // A call whose events nobody uses any more.
  std::shared_ptr<DeviceCall> NewCall();
  // Follows the call from now on: its events are recorded, on a stream where all calls run one after the other.
  void Follow(std::shared_ptr<DeviceCall> call);

  // Held by whoever calls NCCL with this communicator: no other thread does so meanwhile, nor aborts it.
  std::recursive_timed_mutex& nccl_calls() { return nccl_calls_; }

  // The verdict, from any thread: prints it, aborts the communicator so that its kernels end, and ends the job.
  [[noreturn]] void Fail(const CallLog::Call& call, const std::string& reason);

 private:
  void Run();
  void Look(double seconds);  // since the last look
  NcclApi::Result State();

  NcclApi& api_;
  const NcclApi::Comm comm_;
  const std::shared_ptr<CallLog> log_;
  const std::string group_;
  std::atomic<bool> failing_ = false;
  std::recursive_timed_mutex nccl_calls_;

  std::mutex mutex_;  // of what follows
  std::condition_variable end_;
  bool ended_ = false;
  std::vector<std::shared_ptr<DeviceCall>> pool_;    // every call there is; with no other owner it is free
  std::deque<std::shared_ptr<DeviceCall>> running_;  // in the order in which they run
  double waited_ = 0;                                // how long the first of them has been able to run, seconds

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_NCCL_WATCH_H_
