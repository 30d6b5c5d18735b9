#include <cuda_runtime_api.h>
#include <setjmp.h>
#include <ucontext.h>

#include <atomic>
#include <barrier>
#include <cstdio>
#include <deque>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "tests/support/cuda_on_host/device_memory.h"

thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_host {
namespace {

constexpr size_t kStackBytes = 128 << 10;
Order order = Order::kForward;
std::atomic<int64_t> launches = 0;

[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "CUDA on the host: %s; block %u, thread %u\n", what, blockIdx.x, threadIdx.x);
  std::abort();
}

// The indices 0..n-1 in the order chosen.
std::vector<size_t> Indices(size_t n) {
  std::vector<size_t> indices(n);
  for (size_t i = 0; i < n; ++i) indices[i] = order == Order::kBackward ? n - 1 - i : i;
  if (order == Order::kShuffled) std::shuffle(indices.begin(), indices.end(), std::mt19937_64(n));
  return indices;
}

// What the blocks of a cluster share.
struct Cluster {
  explicit Cluster(unsigned size) : size(size), barrier(static_cast<ptrdiff_t>(size)), anchors(size) {}
  unsigned size;
  std::barrier<> barrier;
  std::vector<char*> anchors;  // the address of one thread_local variable in each block's thread
};

// Where threads meet: a generation ends when all expected have come.
struct Meeting {
  size_t generation = 0, arrived = 0;
};
struct Lanes : Meeting {
  uint64_t values[2][32];  // of this generation and of the one before, which some may still have to read
};

struct Fiber {
  ucontext_t context;  // where it begins
  jmp_buf place;       // where it goes on: unlike swapcontext, a jump makes no system call
  std::unique_ptr<char[]> stack;
  dim3 thread;
  bool begun, done;
};

class Block;
thread_local Block* current = nullptr;
thread_local char anchor;

class Block {
 public:
  void Run(const Launch& launch, Cluster& cluster, unsigned rank, const std::function<void()>& kernel) {
    cluster_ = &cluster, rank_ = rank, kernel_ = &kernel;
    const size_t threads = size_t{launch.block.x} * launch.block.y * launch.block.z;
    live_ = threads, size_ = threads;
    shared_.assign(launch.shared_bytes / 16 + 1, make_uint4(~0u, ~0u, ~0u, ~0u));
    block_ = cluster_meeting_ = {};
    lanes_.assign((threads + 31) / 32 * 3, {});
    while (fibers_.size() < threads) fibers_.emplace_back();
    for (size_t i = 0; i < threads; ++i) Prepare(fibers_[i], launch.block, static_cast<unsigned>(i));
    current = this;
    const std::vector<size_t> turns = Indices(threads);
    while (live_ > 0) {
      const size_t before = progress_;
      for (size_t i : turns) Resume(fibers_[i]);
      if (progress_ == before) Die("threads wait for others that never come");
    }
  }

  void* shared() { return shared_.data(); }
  Cluster& cluster() { return *cluster_; }
  unsigned rank() const { return rank_; }

  void Meet(Meeting& meeting, size_t expected, const std::function<void()>& last = {}) {
    const size_t generation = meeting.generation;
    ++progress_;
    if (++meeting.arrived == expected) {
      if (last) last();
      meeting.arrived = 0;
      ++meeting.generation;
    }
    while (meeting.generation == generation) Yield();
  }
  void SyncThreads() { Meet(block_, size_); }
  void Pause() {
    ++progress_;  // whatever it waits for may come from another block
    Yield();
  }
  bool Or(bool value) {
    votes_ |= value;
    Meet(block_, size_, [&] { verdict_ = votes_, votes_ = false; });
    return verdict_;  // the next one comes when all have read this one
  }
  void SyncCluster() {
    Meet(cluster_meeting_, size_, [&] { cluster_->barrier.arrive_and_wait(); });
  }
  std::array<uint64_t, 32> Exchange(uint32_t mask, uint64_t value) {
    const size_t thread = threadIdx.x + size_t{blockDim.x} * (threadIdx.y + size_t{blockDim.y} * threadIdx.z);
    const size_t lane = thread % 32;
    if ((mask >> lane & 1u) == 0) Die("a lane outside the mask");
    const uint32_t known[] = {0xFFFFFFFFu, 0x0000FFFFu, 0xFFFF0000u};  // lanes that wait for all do not hinder half a warp
    const auto kind = static_cast<size_t>(std::find(known, known + 3, mask) - known);
    if (kind == 3) Die("a mask that is neither a warp nor half a warp");
    Lanes& lanes = lanes_[thread / 32 * 3 + kind];
    uint64_t* values = lanes.values[lanes.generation % 2];
    values[lane] = value;
    Meet(lanes, static_cast<size_t>(std::popcount(mask)));
    std::array<uint64_t, 32> all;
    std::copy_n(values, 32, all.begin());
    return all;
  }

 private:
  static void Enter() {
    (*current->kernel_)();
    current->running_->done = true;
    --current->live_;
    ++current->progress_;
    current->Yield();
  }
  void Prepare(Fiber& fiber, const dim3& block, unsigned i) {
    if (!fiber.stack) fiber.stack.reset(new char[kStackBytes]);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = nullptr;
    fiber.thread = dim3(i % block.x, i / block.x % block.y, i / block.x / block.y);
    fiber.begun = fiber.done = false;
    makecontext(&fiber.context, Enter, 0);
  }
  void Resume(Fiber& fiber) {
    if (fiber.done) return;
    running_ = &fiber;
    threadIdx = fiber.thread;
    if (_setjmp(scheduler_) != 0) return;
    if (fiber.begun) _longjmp(fiber.place, 1);
    fiber.begun = true;
    setcontext(&fiber.context);
  }
  void Yield() {
    if (_setjmp(running_->place) == 0) _longjmp(scheduler_, 1);
  }

  const std::function<void()>* kernel_ = nullptr;
  Cluster* cluster_ = nullptr;
  unsigned rank_ = 0;
  jmp_buf scheduler_;
  std::vector<Fiber> fibers_;
  Fiber* running_ = nullptr;
  size_t live_ = 0, size_ = 0, progress_ = 0;
  Meeting block_, cluster_meeting_;
  std::vector<Lanes> lanes_;
  bool votes_ = false, verdict_ = false;
  std::vector<uint4> shared_;
};

// Clusters that run at a time, as they share what they do among them.
constexpr unsigned kLanes = 2;

// The blocks that one thread of the operating system runs: those of one rank of every cluster of a lane, one after the other.
void RunRank(const Launch& launch, Cluster& cluster, unsigned lane, unsigned lanes, unsigned rank,
             const std::function<void()>& kernel) {
  static thread_local Block block;
  cluster.anchors[rank] = &anchor;
  cluster.barrier.arrive_and_wait();
  blockDim = launch.block, gridDim = launch.grid;
  for (size_t i : Indices(launch.grid.x / launch.cluster)) {
    if (i % lanes != lane) continue;
    blockIdx = dim3(static_cast<unsigned>(i) * launch.cluster + rank, 0, 0);
    block.Run(launch, cluster, rank, kernel);
    cluster.barrier.arrive_and_wait();
  }
}

}  // namespace

void SetOrder(Order chosen) { order = chosen; }
int64_t Launches() { return launches; }

void Run(const Launch& launch, const std::function<void()>& kernel) {
  const size_t threads = size_t{launch.block.x} * launch.block.y * launch.block.z;
  if (launch.grid.y != 1 || launch.grid.z != 1 || launch.grid.x % launch.cluster != 0) Die("a grid that is not a row");
  if (threads == 0 || threads > 1024) Die("a block of no threads or more than 1024");
  if (launch.shared_bytes > (227 << 10)) Die("more shared memory than a block may have");
  ++launches;
  const DeviceAccess access;
  const unsigned lanes = launch.cluster > 1 ? kLanes : 1;
  std::deque<Cluster> clusters;
  std::vector<std::thread> others;
  for (unsigned lane = 0; lane < lanes; ++lane) {
    Cluster& cluster = clusters.emplace_back(launch.cluster);
    for (unsigned rank = 0; rank < launch.cluster; ++rank)
      if (lane + rank > 0) others.emplace_back([&, lane, rank] { RunRank(launch, cluster, lane, lanes, rank, kernel); });
  }
  RunRank(launch, clusters[0], 0, lanes, 0, kernel);
  for (std::thread& other : others) other.join();
}

void* DynamicShared() { return current->shared(); }
void SyncThreads() { current->SyncThreads(); }
void Pause() { current->Pause(); }
bool SyncThreadsOr(bool value) { return current->Or(value); }
void SyncCluster() { current->SyncCluster(); }
unsigned ClusterSize() { return current->cluster().size; }
unsigned ClusterRank() { return current->rank(); }
void* OfRank(void* shared, unsigned rank) {
  // Variables of a thread lie at the same distance from each other in every thread.
  return current->cluster().anchors[rank] + (static_cast<char*>(shared) - &anchor);
}
std::array<uint64_t, 32> Exchange(uint32_t mask, uint64_t value) { return current->Exchange(mask, value); }

}  // namespace cuda_on_host

void __trap() { cuda_on_host::Die("trap"); }
