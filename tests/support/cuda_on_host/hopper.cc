#include <hopper_on_host.h>

#include <cstdio>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/cuda/gemm_wgmma_maps.h"
#include "kernels/fp8/tensor_core.h"

namespace jevons::cuda {
namespace {

constexpr uint32_t kFirstAddress = 1024 + 16;  // of shared memory: aligned to sixteen bytes and no more

std::mutex mutex;  // the blocks of a cluster have a thread of the operating system each
thread_local char* shared_memory = nullptr;

char* SharedOf(uint32_t rank) {
  shared_memory = static_cast<char*>(cuda_on_host::DynamicShared());
  return *static_cast<char**>(cuda_on_host::OfRank(&shared_memory, rank));
}
char* At(uint32_t address, uint32_t rank) { return SharedOf(rank) + (address - kFirstAddress); }
char* At(uint32_t address) { return At(address, ClusterRank()); }

struct Barrier {
  int32_t bytes;  // announced and not come
  uint8_t arrivals, missing, phase, unused;

  void Settle() {
    if (missing != 0 || bytes != 0) return;
    phase ^= 1;
    missing = arrivals;
  }
};
static_assert(sizeof(Barrier) == 8);
Barrier& BarrierAt(uint32_t address, uint32_t rank) { return *reinterpret_cast<Barrier*>(At(address, rank)); }

[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "Hopper on the host: %s; block %u, thread %u\n", what, blockIdx.x, threadIdx.x);
  std::abort();
}

// CUtensorMap's content here.
struct Map {
  uint8_t* data;
  int64_t width, lines, pitch, box;  // width and pitch in bytes
  int64_t element;
};
static_assert(sizeof(Map) <= sizeof(CUtensorMap));

void CopyBoxTo(uint32_t rank, uint32_t to, const CUtensorMap* map, int x, int y, uint32_t barrier) {
  Map m;
  std::memcpy(&m, map, sizeof m);
  if (to % 1024 != 0) Die("a swizzled box begins at a multiple of 1024 bytes");
  char* box = At(to, rank);
  for (int r = 0; r < m.box; ++r) {
    for (int c = 0; c < 128; ++c) {
      const bool inside = x + c < m.width && y + r < m.lines;
      box[SwizzledByte(r, c)] = inside ? static_cast<char>(m.data[(y + r) * m.pitch + x + c]) : char{0};
    }
  }
  Barrier& b = BarrierAt(barrier, rank);
  b.bytes -= static_cast<int32_t>(m.box * 128);
  b.Settle();
}

// Of each thread of the block that runs: the stores since its last group, and groups that have not read yet.
struct Stores {
  std::vector<std::function<void()>> open;
  std::deque<std::vector<std::function<void()>>> groups;
};
thread_local std::map<unsigned, Stores> stores;

// The 32 terms of row r of a matrix that a descriptor names. The hardware's swizzle is one of addresses, by 16 bytes.
struct Terms {
  uint8_t codes[32];
  Terms(const char* shared, uint64_t descriptor, int r) {
    const auto start = static_cast<uint32_t>(descriptor & 0x3FFF) * 16,
               group = static_cast<uint32_t>(descriptor >> 32 & 0x3FFF) * 16;
    if (descriptor >> 62 != 1) Die("a matrix without the 128-byte swizzle");
    for (uint32_t i = 0; i < 32; i += 16) {
      const uint32_t address = start + static_cast<uint32_t>(r / 8) * group + static_cast<uint32_t>(r % 8) * 128 + i;
      std::memcpy(codes + i, shared + ((address ^ (address >> 7 & 7) << 4) - kFirstAddress), 16);
    }
  }
  bool zero() const {
    return std::all_of(codes, codes + 32, [](uint8_t code) { return code == 0; });
  }
};

}  // namespace

uint32_t SharedAddress(const void* p) {
  return kFirstAddress + static_cast<uint32_t>(static_cast<const char*>(p) - SharedOf(ClusterRank()));
}

void InitBarrier(uint32_t barrier, uint32_t arrivals) {
  const auto n = static_cast<uint8_t>(arrivals);
  BarrierAt(barrier, ClusterRank()) = {.bytes = 0, .arrivals = n, .missing = n, .phase = 0, .unused = 0};
}

void ArriveExpecting(uint32_t barrier, uint32_t bytes) {
  const std::lock_guard lock(mutex);
  Barrier& b = BarrierAt(barrier, ClusterRank());
  b.bytes += static_cast<int32_t>(bytes);
  --b.missing;
  b.Settle();
}

void ArriveAt(uint32_t barrier, uint32_t rank) {
  const std::lock_guard lock(mutex);
  Barrier& b = BarrierAt(barrier, rank);
  if (b.missing == 0) Die("more arrivals than a barrier awaits");
  --b.missing;
  b.Settle();
}

// The word may have come before its bytes are awaited.
void Send(int word, uint32_t to, uint32_t barrier, uint32_t rank) {
  const std::lock_guard lock(mutex);
  if (to % 4 != 0) Die("a word at an odd address");
  std::memcpy(At(to, rank), &word, sizeof word);
  Barrier& b = BarrierAt(barrier, rank);
  if (b.missing != 1) Die("a word that its barrier does not await");
  b.missing = 0;
  b.Settle();
}

void WaitFor(uint32_t barrier, uint32_t parity) {
  for (;;) {
    {
      const std::lock_guard lock(mutex);
      if (BarrierAt(barrier, ClusterRank()).phase != parity) return;
    }
    cuda_on_host::Pause();
  }
}

void CopyBox(uint32_t to, const CUtensorMap* map, int x, int y, uint32_t barrier) {
  const std::lock_guard lock(mutex);
  CopyBoxTo(ClusterRank(), to, map, x, y, barrier);
}
void CopyBoxToBlocks(uint32_t to, const CUtensorMap* map, int x, int y, uint32_t barrier, uint16_t blocks) {
  const std::lock_guard lock(mutex);
  for (uint32_t rank = 0; rank < 16; ++rank)
    if (blocks >> rank & 1) CopyBoxTo(rank, to, map, x, y, barrier);
}
void StoreBox(const CUtensorMap* map, int x, int y, uint32_t from) {
  Map m;
  std::memcpy(&m, map, sizeof m);
  if (from % 1024 != 0) Die("a swizzled box begins at a multiple of 1024 bytes");
  const char* box = At(from);
  stores[threadIdx.x].open.push_back([=] {
    for (int r = 0; r < m.box && y + r < m.lines; ++r)
      for (int c = 0; c < 128 && x * m.element + c < m.width; ++c)
        m.data[(y + r) * m.pitch + x * m.element + c] = static_cast<uint8_t>(box[SwizzledByte(r, c)]);
  });
}
void CommitStores() {
  Stores& mine = stores[threadIdx.x];
  mine.groups.push_back(std::move(mine.open));
  mine.open.clear();
}
void WaitForStores(size_t groups) {
  Stores& mine = stores[threadIdx.x];
  for (; mine.groups.size() > groups; mine.groups.pop_front())
    for (const auto& store : mine.groups.front()) store();
}
void CopyRun(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
  const std::lock_guard lock(mutex);
  if (bytes % 16 != 0 || to % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0) Die("a copy of odd bytes");
  std::memcpy(At(to), from, bytes);
  Barrier& b = BarrierAt(barrier, ClusterRank());
  b.bytes -= static_cast<int32_t>(bytes);
  b.Settle();
}

void MultiplyAdd(float* d, int sums, uint64_t a, uint64_t b, bool add) {
  const int thread = static_cast<int>(threadIdx.x) % 128;
  const char* shared = SharedOf(ClusterRank());
  const Terms rows[2] = {{shared, a, RowOfSum(thread, 0)}, {shared, a, RowOfSum(thread, 2)}};
  const bool zero[2] = {rows[0].zero(), rows[1].zero()};
  for (int i = 0; i < sums; ++i) {
    if (!add) d[i] = 0;
    if (zero[i / 2 % 2]) continue;
    const Terms column(shared, b, ColumnOfSum(thread, i));
    if (!column.zero()) d[i] = TensorCoreStep<E4M3, E4M3>(rows[i / 2 % 2].codes, column.codes, 32, d[i]);
  }
}

CUtensorMap MapOf(const Tensor& t, int box) {
  const int64_t element = SizeOf(t.dtype);
  if (reinterpret_cast<uintptr_t>(t.data) % 16 != 0 || (t.rows() > 1 && t.pitch * element % 16 != 0))
    Die("an odd tensor for TMA");
  const Map map = {static_cast<uint8_t*>(t.data), t.cols() * element, t.rows(), t.pitch * element, box, element};
  CUtensorMap opaque = {};
  std::memcpy(&opaque, &map, sizeof map);
  return opaque;
}

int Multiprocessors() { return 5; }  // an odd one, and several tiles for each

}  // namespace jevons::cuda
