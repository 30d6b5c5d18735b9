// Reads in order, works on threads, takes the results in order: whatever the threads do, the outcome is that
// of a loop.
#ifndef JEVONS_DATA_PREPARE_ORDERED_PIPELINE_H_
#define JEVONS_DATA_PREPARE_ORDERED_PIPELINE_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace jevons {

// For item 0, 1, 2, ... of produce() until it gives nothing: consume(work(worker, item)), in that order.
// produce (StatusOr<optional<In>>) and consume (Status, of an Out) run on the calling thread; work runs on
// `threads` others, numbered by `worker`. At most a few items per thread are in flight. The first error in
// the order of items ends it.
template <typename In, typename Out, typename Produce, typename Work, typename Consume>
absl::Status RunOrdered(int threads, Produce produce, Work work, Consume consume) {
  std::mutex mutex;
  std::condition_variable has_work, has_result;
  std::deque<std::pair<int64_t, In>> queue;
  std::map<int64_t, Out> results;
  bool stop = false;

  const auto run_worker = [&](int worker) {
    std::unique_lock lock(mutex);
    while (true) {
      has_work.wait(lock, [&] { return stop || !queue.empty(); });
      if (stop) return;
      auto [index, item] = std::move(queue.front());
      queue.pop_front();
      lock.unlock();
      Out result = work(worker, std::move(item));
      lock.lock();
      results.emplace(index, std::move(result));
      has_result.notify_one();
    }
  };
  std::vector<std::jthread> workers;
  for (int worker = 0; worker < threads; ++worker) workers.emplace_back(run_worker, worker);

  const int64_t window = int64_t{4} * threads;
  int64_t produced = 0;
  absl::Status status;  // what produce said last; an error counts after the items before it
  bool exhausted = false;
  for (int64_t consumed = 0; true; ++consumed) {
    while (!exhausted && produced < consumed + window) {
      absl::StatusOr<std::optional<In>> item = produce();
      status = item.status();
      exhausted = !item.ok() || !item->has_value();
      if (exhausted) break;
      const std::lock_guard lock(mutex);
      queue.emplace_back(produced++, *std::move(*item));
      has_work.notify_one();
    }
    if (consumed == produced) break;
    std::unique_lock lock(mutex);
    has_result.wait(lock, [&] { return results.contains(consumed); });
    auto result = results.extract(consumed);
    lock.unlock();
    if (absl::Status taken = consume(std::move(result.mapped())); !taken.ok()) {
      status = std::move(taken);
      break;
    }
  }
  {
    const std::lock_guard lock(mutex);
    stop = true;
  }
  has_work.notify_all();
  return status;  // after the threads have ended
}

}  // namespace jevons

#endif  // JEVONS_DATA_PREPARE_ORDERED_PIPELINE_H_
