#include "parallel/comm/nccl_watch.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <utility>

#include "absl/strings/str_cat.h"

namespace jevons {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kBetweenLooks(10);
// The longest time between two looks that counts as waiting: a longer one means that this process was stopped.
constexpr double kLongestPause = 1;
// A communicator that cannot be aborted within this time ends with the process.
constexpr std::chrono::seconds kAbortPatience(5);

}  // namespace

NcclWatch::NcclWatch(NcclApi& api, NcclApi::Comm comm, std::shared_ptr<CallLog> log, const std::string& group)
    : api_(api), comm_(comm), log_(std::move(log)), group_(group), thread_([this] { Run(); }) {}

NcclWatch::~NcclWatch() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
  }
  end_.notify_all();
  thread_.join();
}

std::shared_ptr<DeviceCall> NcclWatch::NewCall() {
  const std::lock_guard<std::mutex> lock(mutex_);  // the watch gives its calls up under the same
  for (const std::shared_ptr<DeviceCall>& call : pool_)
    if (call.use_count() == 1) return call;
  return pool_.emplace_back(std::make_shared<DeviceCall>());
}

void NcclWatch::Follow(std::shared_ptr<DeviceCall> call) {
  const std::lock_guard<std::mutex> lock(mutex_);
  running_.push_back(std::move(call));
}

void NcclWatch::Run() {
  UseCudaDevice(api_.DeviceOf(comm_));  // else this thread would make itself a context on the first device
  Clock::time_point last = Clock::now();
  std::unique_lock<std::mutex> lock(mutex_);
  while (!end_.wait_for(lock, kBetweenLooks, [this] { return ended_; })) {
    const Clock::time_point now = Clock::now();
    Look(std::min(std::chrono::duration<double>(now - last).count(), kLongestPause));
    last = now;
  }
}

// Asking is no innocent call: it ends what NCCL does in the background. While another thread is inside NCCL, that one asks.
NcclApi::Result NcclWatch::State() {
  const std::unique_lock<std::recursive_timed_mutex> lock(nccl_calls_, std::try_to_lock);
  if (!lock.owns_lock()) return NcclApi::kInProgress;
  NcclApi::Result state = NcclApi::kSuccess;
  const NcclApi::Result result = api_.AsyncError(comm_, &state);
  return result == NcclApi::kSuccess ? state : result;
}

// Holds mutex_, also while it fails: nobody needs it any more then.
void NcclWatch::Look(double seconds) {
  while (!running_.empty() && running_.front()->done.Happened()) {
    log_->Leave(running_.front()->log_id);
    running_.pop_front();
    waited_ = 0;
  }
  const CallLog::Call idle{.group = group_, .kind = "no call", .sequence = 0, .bytes = 0};
  const CallLog::Call& first = running_.empty() ? idle : running_.front()->call;
  const NcclApi::Result result = State();
  if (result != NcclApi::kSuccess && result != NcclApi::kInProgress) Fail(first, "NCCL: " + api_.Explain(result, comm_));
  if (running_.empty() || !running_.front()->ready.Happened()) return;
  waited_ += seconds;
  if (waited_ > WatchdogDeadline())
    Fail(first, CallLog::Waited(first, waited_, " on the device", absl::StrCat(running_.front()->peers, " of the group")));
}

void NcclWatch::Fail(const CallLog::Call& call, const std::string& reason) {
  while (failing_.exchange(true)) std::this_thread::sleep_for(kAbortPatience);  // another thread ends the job
  log_->Die(call, reason, [this] {
    // Not under the feet of a thread that is inside NCCL: the end of the process takes both.
    const std::unique_lock<std::recursive_timed_mutex> lock(nccl_calls_, std::chrono::seconds(1));
    if (lock.owns_lock()) AbortNccl(api_, comm_);
  });
}

void AbortNccl(NcclApi& api, NcclApi::Comm comm) {
  auto aborted = std::make_shared<std::promise<void>>();
  std::thread([&api, comm, aborted] {
    api.Abort(comm);
    aborted->set_value();
  }).detach();
  aborted->get_future().wait_for(kAbortPatience);
}

}  // namespace jevons
