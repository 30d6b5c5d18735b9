// A thread that does what it is given, one after the other, while whoever gave it goes on. It starts with the first work.
#ifndef JEVONS_KERNELS_BASE_WORKER_H_
#define JEVONS_KERNELS_BASE_WORKER_H_

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace jevons {

class Worker {
 public:
  Worker() = default;
  ~Worker();  // when all is done
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void Give(std::function<void()> work);
  // Until all that was given is done: what it wrote can be read then.
  void Wait();

 private:
  void Run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;  // the first is under way
  bool ends_ = false;
  std::thread thread_;
};

}  // namespace jevons

#endif  // JEVONS_KERNELS_BASE_WORKER_H_
