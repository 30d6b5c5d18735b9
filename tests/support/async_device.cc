#include "tests/support/async_device.h"

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/ref/ref_ops.h"
#include "kernels/tensor/cuda_backend.h"
#include "kernels/tensor/device.h"

namespace jevons {
namespace {

class StreamThread {
 public:
  StreamThread() : thread_([this] { Run(); }) {}
  ~StreamThread() {
    Enqueue(nullptr);
    thread_.join();
  }
  void Enqueue(std::function<void()> work) {
    const std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(std::move(work));
    arrived_.notify_one();
  }

 private:
  std::function<void()> Next() {
    std::unique_lock<std::mutex> lock(mutex_);
    arrived_.wait(lock, [this] { return !queue_.empty(); });
    std::function<void()> work = std::move(queue_.front());
    queue_.pop_front();
    return work;
  }
  void Run() {
    for (int count = 0; const std::function<void()> work = Next(); ++count) {
      if (count % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));  // lags behind the host
      work();
    }
  }

  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<std::function<void()>> queue_;
  std::thread thread_;
};

// A point in a stream; an event names the last that was recorded with it.
struct Point {
  std::mutex mutex;
  std::condition_variable reached;
  bool happened = false;

  void Happen() {
    const std::lock_guard<std::mutex> lock(mutex);
    happened = true;
    reached.notify_all();
  }
  void Await() {
    std::unique_lock<std::mutex> lock(mutex);
    reached.wait(lock, [this] { return happened; });
  }
};

struct FakeEvent {
  std::mutex mutex;
  std::shared_ptr<Point> point;  // null: never recorded
  std::shared_ptr<Point> Last() {
    const std::lock_guard<std::mutex> lock(mutex);
    return point;
  }
};

StreamThread& StreamOf(void* stream) { return *static_cast<StreamThread*>(stream); }
FakeEvent& EventOf(void* event) { return *static_cast<FakeEvent*>(event); }

// The streams that this thread has made: what a rank calls its device.
thread_local std::vector<void*> streams_of_this_thread;

void AsyncCopyParts(const OpContext& ctx, std::span<const CopiedPart> parts) {
  EnqueueOnStream(ctx.stream.handle, [parts = std::vector(parts.begin(), parts.end())] { kRefOps.copy_parts({}, parts); });
}
void AsyncJoinSums(const OpContext& ctx, std::span<const PartialSums> vectors, std::span<const std::pair<int, int>> order) {
  EnqueueOnStream(ctx.stream.handle,
                  [vectors = std::vector(vectors.begin(), vectors.end()), order = std::vector(order.begin(), order.end())] {
                    kRefOps.join_sums({}, vectors, order);
                  });
}

// The reference's operator, whose arguments are views and numbers, in stream order.
template <auto kOperator, typename... Arguments>
void Async(const OpContext& ctx, Arguments... arguments) {
  EnqueueOnStream(ctx.stream.handle, [arguments...] {
    Arena scratch("scratch", int64_t{1} << 24);
    (kRefOps.*kOperator)({.stream = {}, .scratch = &scratch}, arguments...);
  });
}

}  // namespace

void EnqueueOnStream(void* stream, std::function<void()> work) { StreamOf(stream).Enqueue(std::move(work)); }

CudaReport ExamineCuda() {
  CudaReport report;
  report.built = true;
  report.devices = {{.name = "streams as threads", .major = 9, .minor = 0, .multiprocessors = 1, .memory_bytes = 0}};
  return report;
}
void UseCudaDevice(int) {}

namespace cuda {

const OpTable& Operators() {
  static const OpTable table = [] {
    OpTable t = {};
    t.name = "streams as threads";
    t.copy_parts = AsyncCopyParts;
    t.join_sums = AsyncJoinSums;
    t.sort_by_expert = Async<&OpTable::sort_by_expert>;
    t.gather_rows = Async<&OpTable::gather_rows>;
    t.sum_rows = Async<&OpTable::sum_rows>;
    t.sum_rows_by_group = Async<&OpTable::sum_rows_by_group>;
    t.sum_segments = Async<&OpTable::sum_segments>;
    return t;
  }();
  return table;
}

void* NewStream() { return streams_of_this_thread.emplace_back(new StreamThread); }
void DeleteStream(void* stream) {
  std::erase(streams_of_this_thread, stream);
  delete static_cast<StreamThread*>(stream);
}
void SynchronizeStream(void* stream) {
  Point end;
  EnqueueOnStream(stream, [&end] { end.Happen(); });
  end.Await();
}
void SynchronizeDevice() {
  for (void* stream : streams_of_this_thread) SynchronizeStream(stream);
}

void* NewEvent() { return new FakeEvent; }
void DeleteEvent(void* event) { delete static_cast<FakeEvent*>(event); }
void RecordEvent(void* event, void* stream) {
  auto point = std::make_shared<Point>();
  {
    const std::lock_guard<std::mutex> lock(EventOf(event).mutex);
    EventOf(event).point = point;
  }
  EnqueueOnStream(stream, [point] { point->Happen(); });
}
void WaitForEvent(void* stream, void* event) {
  if (const std::shared_ptr<Point> point = EventOf(event).Last()) EnqueueOnStream(stream, [point] { point->Await(); });
}
void SynchronizeEvent(void* event) {
  if (const std::shared_ptr<Point> point = EventOf(event).Last()) point->Await();
}
bool EventHappened(void* event) {
  const std::shared_ptr<Point> point = EventOf(event).Last();
  if (point == nullptr) return true;
  const std::lock_guard<std::mutex> lock(point->mutex);
  return point->happened;
}
double EventMilliseconds(void*, void*) { return 0; }

void CopyBytes(void* stream, const void* from, void* to, int64_t bytes) {
  EnqueueOnStream(stream, [=] { std::memcpy(to, from, static_cast<size_t>(bytes)); });
}
void SetBytes(void* stream, void* to, int value, int64_t rows, int64_t width, int64_t pitch) {
  const auto set = [=] {
    for (int64_t r = 0; r < rows; ++r) std::memset(static_cast<char*>(to) + r * pitch, value, static_cast<size_t>(width));
  };
  stream == nullptr ? set() : EnqueueOnStream(stream, set);
}
void* NewPinned(int64_t bytes) { return std::malloc(static_cast<size_t>(bytes)); }
void DeletePinned(void* data) { std::free(data); }

Memory::Memory(int64_t capacity) : reserved_(capacity), backed_(capacity) {
  base_ = static_cast<char*>(std::aligned_alloc(256, static_cast<size_t>((capacity + 255) / 256 * 256)));
}
Memory::~Memory() {
  SynchronizeDevice();
  std::free(base_);
}
void Memory::Back(int64_t bytes) { JEVONS_CHECK(bytes <= reserved_); }

}  // namespace cuda
}  // namespace jevons
