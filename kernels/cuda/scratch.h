// What the operators of CUDA streams take from their scratch arena, each need in one place: the operator takes it here, and so does the
// table that only counts (counted.cc), also in a build without CUDA. Products have theirs in gemm_lt.h and gemm_fp8_layout.h.
#ifndef JEVONS_KERNELS_CUDA_SCRATCH_H_
#define JEVONS_KERNELS_CUDA_SCRATCH_H_

#include <algorithm>
#include <span>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/grid.h"
#include "kernels/cuda/sort.h"
#include "kernels/ops/reduce.h"

namespace jevons::cuda {

// RmsNormBackward. Two blocks for each of an H100's 132 multiprocessors, or fewer for few rows: a part of dgamma costs as much as four
// rows.
constexpr int64_t GammaRowsPerBlock(int64_t rows) { return std::max<int64_t>(CeilDiv(rows, 264), 4); }
inline Tensor GammaParts(const OpContext& ctx, int64_t rows, int64_t cols) {
  return ctx.scratch->Allocate("rmsnorm.dgamma", DType::kF32, {CeilDiv(rows, GammaRowsPerBlock(rows)), cols});
}

// BalanceLoss.
inline constexpr int64_t kBalanceRows = 32;  // of a sequence for one block
struct BalanceRoom {
  int64_t blocks;  // of a sequence
  Tensor shares, hits;

  BalanceRoom(const OpContext& ctx, int64_t sequences, int64_t sequence_length, int64_t experts)
      : blocks(CeilDiv(sequence_length, kBalanceRows)),
        shares(ctx.scratch->Allocate("router.shares", DType::kF32, {sequences, blocks, experts})),
        hits(ctx.scratch->Allocate("router.hits", DType::kI32, {sequences, experts})) {}
};

// SumsOfSquares. Arenas hold no FP64; an I64 slice has its size and alignment.
inline double* SquaresParts(const OpContext& ctx, std::span<const SquaresSlice> slices) {
  int64_t blocks = 0;
  for (const SquaresSlice& slice : slices) blocks += CeilDiv(slice.x.size(), kSquaresBlock);
  return static_cast<double*>(ctx.scratch->Allocate("reduce.partial", DType::kI64, {blocks}).data);
}

// SumRowsByGroup.
inline int32_t* GroupOrder(const OpContext& ctx, int64_t pairs) {
  return ctx.scratch->Allocate("permute.groups", DType::kI32, {pairs}).as<int32_t>();
}

// StableSort.
inline constexpr int kSortItems = 512;  // of a block, one a thread
struct SortRoom {
  int64_t blocks;
  int32_t *counts, *totals;

  SortRoom(const OpContext& ctx, int64_t n, int64_t buckets)
      : blocks(CeilDiv(n, kSortItems)),
        counts(ctx.scratch->Allocate("sort.counts", DType::kI32, {buckets, blocks}).as<int32_t>()),
        totals(ctx.scratch->Allocate("sort.totals", DType::kI32, {buckets}).as<int32_t>()) {}
};

// SortByKey: its passes, each of which is a StableSort.
struct RadixRoom {
  int passes, width;  // bits of a pass
  int32_t* orders[2];

  RadixRoom(const OpContext& ctx, int64_t n, int64_t limit) {
    const int bits = std::max(BitsOf(limit), 1);
    passes = (bits + kRadixBits - 1) / kRadixBits;
    width = (bits + passes - 1) / passes;
    for (int32_t*& order : orders) order = ctx.scratch->Allocate("sort.order", DType::kI32, {n}).as<int32_t>();
  }
};

// PlainAttentionBackward.
struct PlainBackwardRoom {
  int64_t heads;  // at once
  float *delta, *parts, *sums;

  PlainBackwardRoom(const OpContext& ctx, const AttentionDesc& d) {
    constexpr int64_t kMostRopeBytes = int64_t{256} << 20;  // of dk_rope's parts by head
    const int64_t rows = d.q.rows(), rope_size = rows * d.rope_dim;
    const int64_t fitting = rope_size == 0 ? d.heads : std::max<int64_t>(kMostRopeBytes / (rope_size * 4), 1);
    heads = std::min(d.heads, fitting);
    delta = ctx.scratch->Allocate("attention.delta", DType::kF32, {rows * d.heads}).as<float>();
    parts = ctx.scratch->Allocate("attention.dk_rope", DType::kF32, {heads * rope_size}).as<float>();
    sums = ctx.scratch->Allocate("attention.dk_rope", DType::kF32, {rope_size}).as<float>();
  }
};

// A call of cuDNN's attention, whatever its graphs: for a group of heads [T, heads of the group * key size] BF16 whole keys and their
// gradients, [T, heads of the group] FP32 statistics; for all of them [T, rope] FP32 sums.
struct CudnnRoom {
  Tensor keys, stats, d_keys, sums;

  CudnnRoom() = default;
  CudnnRoom(const OpContext& ctx, const AttentionDesc& d, const CallPlan& plan) {
    const int64_t rows = d.q.rows(), dim = d.nope_dim + d.rope_dim, heads = plan.heads();
    keys = ctx.scratch->Allocate("attention.keys", DType::kBF16, {rows, heads * dim});
    stats = ctx.scratch->Allocate("attention.lse", DType::kF32, {rows, heads});
    if (!plan.parts[0].shape.backward) return;
    d_keys = ctx.scratch->Allocate("attention.dkeys", DType::kBF16, {rows, heads * dim});
    sums = ctx.scratch->Allocate("attention.dk_rope", DType::kF32, {rows, d.rope_dim});
  }
};

// What its graphs work in, one after the other: as much as the one that asks for most.
inline constexpr int64_t kCudnnWorkspaceAlignment = 256;
inline Tensor CudnnWorkspace(const OpContext& ctx, int64_t bytes) {
  return ctx.scratch->Allocate("attention.workspace", DType::kU8, {bytes + kCudnnWorkspaceAlignment});
}

// Where a part's documents are, for each of its operands.
struct CudnnTableRoom {
  Tensor lengths, offsets;

  CudnnTableRoom(const OpContext& ctx, const PartPlan& part, int64_t operands) {
    lengths = ctx.scratch->Allocate("attention.documents", DType::kI32, {part.documents});
    const int64_t pitch = (part.documents + 2) / 2 * 2;  // rows begin at multiples of 16 bytes
    offsets = ctx.scratch->Allocate("attention.documents", DType::kI64, {operands, pitch});
  }
};

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_SCRATCH_H_
