// Sums and maxima over the threads of a warp or block, in an order that the number of threads alone fixes.
#ifndef JEVONS_KERNELS_CUDA_BLOCK_CUH_
#define JEVONS_KERNELS_CUDA_BLOCK_CUH_

#include <cstdint>

namespace jevons::cuda {

// The block's shared memory of the size that its launch asked for.
#ifdef __CUDACC__
template <typename T>
__device__ __forceinline__ T* DynamicShared() {
  extern __shared__ uint4 dynamic_shared[];
  return reinterpret_cast<T*>(dynamic_shared);
}
#else  // compiled as C++ by tests that run kernels on the host
template <typename T>
T* DynamicShared() {
  return static_cast<T*>(cuda_on_host::DynamicShared());
}
#endif

inline constexpr uint32_t kAllLanes = 0xFFFFFFFFu;

// Blocks have x and y: a row of a RowGrid may be less than a warp wide.
__device__ __forceinline__ int Lane() { return static_cast<int>((threadIdx.y * blockDim.x + threadIdx.x) % 32); }

// Every lane gets the result: each step adds the same two numbers on both sides.
__device__ __forceinline__ float WarpSum(float v) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(kAllLanes, v, step);
  return v;
}
__device__ __forceinline__ float WarpMax(float v) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) v = fmaxf(v, __shfl_xor_sync(kAllLanes, v, step));
  return v;
}

// Over a block of whole warps in x; every thread gets the result. All threads must come. `room` may be used again at once.
struct BlockRoom {
  float of_warp[32];
};
__device__ __forceinline__ float BlockSum(float v, BlockRoom& room) {
  const float sum = WarpSum(v);
  __syncthreads();
  if (Lane() == 0) room.of_warp[threadIdx.x / 32] = sum;
  __syncthreads();
  float total = room.of_warp[0];
  for (unsigned w = 1; w < blockDim.x / 32; ++w) total += room.of_warp[w];
  return total;
}
__device__ __forceinline__ float BlockMax(float v, BlockRoom& room) {
  const float largest = WarpMax(v);
  __syncthreads();
  if (Lane() == 0) room.of_warp[threadIdx.x / 32] = largest;
  __syncthreads();
  float total = room.of_warp[0];
  for (unsigned w = 1; w < blockDim.x / 32; ++w) total = fmaxf(total, room.of_warp[w]);
  return total;
}

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_BLOCK_CUH_
