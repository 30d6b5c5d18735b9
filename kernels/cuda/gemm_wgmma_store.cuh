// How the sums of a tile become C in the kernel of gemm_wgmma.cu: by the threads that have them, or by the copy engine.
#ifndef JEVONS_KERNELS_CUDA_GEMM_WGMMA_STORE_CUH_
#define JEVONS_KERNELS_CUDA_GEMM_WGMMA_STORE_CUH_

#include "kernels/cuda/gemm_wgmma_plan.h"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/pack.cuh"

namespace jevons::cuda {

// A thread's sums of a tile.
template <int kWidth>
using WgmmaSums = float[WgmmaTile::Sums(kWidth)];

// C [m, n] of FP32 or BF16.
struct WgmmaOutput {
  void* c;
  int64_t c_pitch;
  int m, n;
  bool add, vector;  // C += instead of C =; C's rows begin at multiples of 16 bytes
};

__device__ __forceinline__ void StoreTwo(const WgmmaOutput& p, int row, int col, float left, float right, float) {
  float* c = static_cast<float*>(p.c) + row * p.c_pitch + col;
  if (p.vector && col + 1 < p.n) {
    float2 sum = make_float2(left, right);
    if (p.add) {
      const float2 before = *reinterpret_cast<const float2*>(c);
      sum.x = before.x + sum.x;
      sum.y = before.y + sum.y;
    }
    *reinterpret_cast<float2*>(c) = sum;
    return;
  }
  if (col < p.n) c[0] = p.add ? c[0] + left : left;
  if (col + 1 < p.n) c[1] = p.add ? c[1] + right : right;
}
__device__ __forceinline__ void StoreTwo(const WgmmaOutput& p, int row, int col, float left, float right, bf16) {
  bf16* c = static_cast<bf16*>(p.c) + row * p.c_pitch + col;
  if (p.vector && col + 1 < p.n) {
    uint32_t& both = *reinterpret_cast<uint32_t*>(c);
    if (p.add) {
      const uint32_t before = both;
      left = __uint_as_float(before << 16) + left;
      right = __uint_as_float(before & 0xFFFF0000u) + right;
    }
    both = RoundPair(left, right);
    return;
  }
  if (col < p.n) c[0] = bf16(p.add ? static_cast<float>(c[0]) + left : left);
  if (col + 1 < p.n) c[1] = bf16(p.add ? static_cast<float>(c[1]) + right : right);
}

// The sums of a thread's row and of the one eight below, rounded once.
template <int kWidth, typename Out>
__device__ __forceinline__ void StoreRows(const WgmmaOutput& p, int row, int col, const WgmmaSums<kWidth>& sums) {
  const int q = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int i = 0; i < WgmmaTile::Sums(kWidth); i += 4) {
    const int at = col + i / 4 * 8 + q * 2;
    if (row < p.m) StoreTwo(p, row, at, sums[i], sums[i + 1], Out());
    if (row + 8 < p.m) StoreTwo(p, row + 8, at, sums[i + 2], sums[i + 3], Out());
  }
}

__device__ __forceinline__ void PutTwo(uint8_t* to, float left, float right, float) {
  *reinterpret_cast<float2*>(to) = make_float2(left, right);
}
__device__ __forceinline__ void PutTwo(uint8_t* to, float left, float right, bf16) {
  *reinterpret_cast<uint32_t*>(to) = RoundPair(left, right);
}

// The same by way of the copy engine, for the sixteen rows of a warp, of which `row` is the first: box by box through shared memory.
// The next tile may begin when the boxes are full. All lanes must come.
template <int kWidth, typename Out>
__device__ __forceinline__ void StoreBoxes(const WgmmaOutput& p, const CUtensorMap& map, uint8_t* memory, uint32_t shared,
                                           int row, int col, const WgmmaSums<kWidth>& sums) {
  using Room = WgmmaShared<kWidth>;
  constexpr int kColumns = 128 / static_cast<int>(sizeof(Out));
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  if (row >= p.m) return;
#pragma unroll
  for (int box = 0; box < kWidth / kColumns; ++box) {
    const int at = Room::Box(warp, box % Room::kBoxes), first = box * kColumns;
    if (lane == 0) WaitForStores<Room::kBoxes - 1>();  // this one has been read; each box is a group
    __syncwarp();
#pragma unroll
    for (int i = WgmmaTile::Sums(first); i < WgmmaTile::Sums(first + kColumns); i += 4) {
      const int byte = (ColumnOfSum(lane, i) - first) * static_cast<int>(sizeof(Out));
      PutTwo(memory + at + SwizzledByte(lane / 4, byte), sums[i], sums[i + 1], Out());
      PutTwo(memory + at + SwizzledByte(lane / 4 + 8, byte), sums[i + 2], sums[i + 3], Out());
    }
    ShowToCopies();
    __syncwarp();
    if (lane != 0) continue;
    if (col + first < p.n) StoreBox(&map, col + first, row, shared + static_cast<uint32_t>(at));
    CommitStores();
  }
}

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_GEMM_WGMMA_STORE_CUH_
