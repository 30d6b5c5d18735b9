// CUDA kernels on the host, for tests: what a .cu file of kernels/cuda needs in order to be compiled as C++ and run without a
// device. A launch runs block after block, those of two clusters at a time; the threads of a block are fibers, which run one at a
// time until they meet: at a barrier of the block or cluster, or in an exchange between lanes. The order in which they run is
// chosen by the test, so that a missing barrier shows as a result that depends on it; a barrier that some thread never reaches
// stops the program.
// Whoever wants this comes upon it in place of the toolkit's header, by the include path.
#ifndef JEVONS_TESTS_SUPPORT_CUDA_ON_HOST_CUDA_RUNTIME_API_H_
#define JEVONS_TESTS_SUPPORT_CUDA_ON_HOST_CUDA_RUNTIME_API_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __shared__ static thread_local  // a block has an operating system's thread to itself
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }

extern thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_host {

enum class Order { kForward, kBackward, kShuffled };
void SetOrder(Order order);  // of blocks and of the threads of a block

struct Launch {
  dim3 grid, block;
  unsigned cluster = 1;  // blocks that run together
  size_t shared_bytes = 0;
};
void Run(const Launch& launch, const std::function<void()>& kernel);
int64_t Launches();  // of this program so far

// By the fiber that runs.
void* DynamicShared();
void SyncThreads();
void Pause();  // others run; for what waits for another block
bool SyncThreadsOr(bool value);
void SyncCluster();
unsigned ClusterSize();
unsigned ClusterRank();
void* OfRank(void* shared, unsigned rank);                         // the variable of another block of the cluster
std::array<uint64_t, 32> Exchange(uint32_t mask, uint64_t value);  // the values of the lanes in mask

}  // namespace cuda_on_host

inline int cuda_lane() { return static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32); }

template <typename T>
uint64_t cuda_bits(T value) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <typename T>
T cuda_value(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline void __syncthreads() { cuda_on_host::SyncThreads(); }
inline int __syncthreads_or(int value) { return cuda_on_host::SyncThreadsOr(value != 0); }
inline void __syncwarp(uint32_t mask = 0xFFFFFFFFu) { cuda_on_host::Exchange(mask, 0); }

template <typename T>
T __shfl_sync(uint32_t mask, T value, int lane) {
  return cuda_value<T>(cuda_on_host::Exchange(mask, cuda_bits(value))[static_cast<size_t>(lane)]);
}
template <typename T>
T __shfl_xor_sync(uint32_t mask, T value, int step) {
  return cuda_value<T>(cuda_on_host::Exchange(mask, cuda_bits(value))[static_cast<size_t>(cuda_lane() ^ step)]);
}
template <typename T>
T __shfl_up_sync(uint32_t mask, T value, unsigned step) {
  const auto values = cuda_on_host::Exchange(mask, cuda_bits(value));
  const int from = cuda_lane() - static_cast<int>(step);
  return from < 0 ? value : cuda_value<T>(values[static_cast<size_t>(from)]);
}
template <typename T, class Join>
T cuda_reduce(uint32_t mask, T value, const Join& join) {
  const auto values = cuda_on_host::Exchange(mask, cuda_bits(value));
  T result = value;
  for (size_t lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1u) result = join(result, cuda_value<T>(values[lane]));
  return result;
}
template <typename T>
T __reduce_max_sync(uint32_t mask, T value) {
  return cuda_reduce(mask, value, [](T a, T b) { return std::max(a, b); });
}
template <typename T>
T __reduce_min_sync(uint32_t mask, T value) {
  return cuda_reduce(mask, value, [](T a, T b) { return std::min(a, b); });
}
template <typename T>
T __reduce_add_sync(uint32_t mask, T value) {
  return static_cast<T>(cuda_reduce(mask, value, [](T a, T b) { return static_cast<T>(a + b); }) - value);
}
inline bool __any_sync(uint32_t mask, bool value) { return __reduce_max_sync(mask, uint32_t{value}) != 0; }
template <typename T>
uint32_t __match_any_sync(uint32_t mask, T value) {
  const auto values = cuda_on_host::Exchange(mask, cuda_bits(value));
  uint32_t peers = 0;
  for (uint32_t lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1u) && values[lane] == cuda_bits(value)) peers |= 1u << lane;
  return peers;
}

inline int __popc(uint32_t bits) { return std::popcount(bits); }
inline uint32_t __float_as_uint(float value) { return std::bit_cast<uint32_t>(value); }
template <typename T>
T __ldg(const T* p) {
  return *p;
}
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __uint_as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
[[noreturn]] void __trap();

template <typename T>
T atomicAdd(T* address, T value) {
  return std::atomic_ref(*address).fetch_add(value);
}

template <typename T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}

// What launching asks of the runtime.
using cudaStream_t = struct CUstream_st*;
enum cudaError_t { cudaSuccess = 0 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaLaunchAttributeID { cudaLaunchAttributeClusterDimension };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    struct {
      unsigned x, y, z;
    } clusterDim;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};
inline const char* cudaGetErrorName(cudaError_t) { return "none"; }
inline const char* cudaGetErrorString(cudaError_t) { return "none"; }
inline cudaError_t cudaFuncGetName(const char** name, const void*) { return *name = "kernel", cudaSuccess; }
inline cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), const Arguments&... args) {
  cuda_on_host::Launch launch = {.grid = config->gridDim, .block = config->blockDim, .shared_bytes = config->dynamicSmemBytes};
  for (unsigned i = 0; i < config->numAttrs; ++i) launch.cluster = config->attrs[i].val.clusterDim.x;
  cuda_on_host::Run(launch, [&] { kernel(args...); });
  return cudaSuccess;
}

#endif  // JEVONS_TESTS_SUPPORT_CUDA_ON_HOST_CUDA_RUNTIME_API_H_
