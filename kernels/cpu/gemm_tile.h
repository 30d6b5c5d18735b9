// Part of the CPU's own GEMM: one rectangle of C, computed by one thread. See gemm_tile.cc for the loops.
//
//  1. Every element of C is one chain of fused multiply-adds over k from zero, whatever the rectangle, so any
//  cut of C into
//     rectangles gives the same bits. TermOrder says which chain.
//  2. A rectangle's columns lie in one B that all of its rows share; its rows may run over several products
//  in a row.
//  3. Scratch is of fixed size: k is cut into slabs, and the chain continues from where the last slab left
//  it.
#ifndef JEVONS_KERNELS_CPU_GEMM_TILE_H_
#define JEVONS_KERNELS_CPU_GEMM_TILE_H_

#include <algorithm>
#include <cstdint>
#include <span>

#include "kernels/base/partition.h"
#include "kernels/ops/gemm.h"

namespace jevons::cpu {

constexpr int64_t kSlabDepth = 512;  // 32-bit words of k per packed slab of B: 512 terms, or 1024 in pairs
constexpr int64_t kTileCols = 256;   // columns of a rectangle: slab 512 * 256 * 4 = 512 KiB, half of an L2 of 1 MiB
constexpr int64_t kTileRows = 1024;  // rows of a rectangle
constexpr int64_t kStripRows = 48;   // rows of A packed at once: a multiple of the rows of the micro-kernel
constexpr int64_t kMaxLanes = 16;    // FP32 lanes of the widest vectors

// kAscending: k = 0, 1, 2, 3, ...; FP32 or BF16 operands. kPairs: k = 1, 0, 3, 2, ..., denormals taken as
// zero: the order of the instruction vdpbf16ps; BF16 operands.
enum class TermOrder { kAscending, kPairs };

// One rectangle: rows [rows.begin, rows.end) of the products stacked on one another, columns [cols.begin,
// cols.end).
struct GemmTile {
  std::span<const GemmDesc> descs;  // same b, b_form and k in all
  Range rows, cols;                 // at most kTileRows, kTileCols
};

// Calls run(desc, rows of desc) for each product that the rectangle touches.
template <typename Run>
void ForEachProduct(const GemmTile& tile, const Run& run) {
  int64_t begin = 0;  // the product's first row among the rows of all
  for (const GemmDesc& desc : tile.descs) {
    const Range rows{std::max<int64_t>(tile.rows.begin - begin, 0), std::min(tile.rows.end - begin, desc.m())};
    if (!rows.empty()) run(desc, rows);
    begin += desc.m();
  }
}

// One thread's scratch, 64-byte aligned.
struct GemmScratch {
  float* slab;                        // [kSlabDepth, kTileCols] of B in panels
  float* strip;                       // [kStripRows, kSlabDepth] of A
  float* state;                       // [kTileRows, kTileCols] unfinished sums
  static GemmScratch OfThisThread();  // allocated at the thread's first product, then kept
};

using TileFunction = void (*)(const GemmTile& tile, const GemmScratch& scratch);

struct TileKernel {
  const char* target;  // Highway's name of the instruction set
  TileFunction ascending;
  TileFunction pairs;  // nullptr if the instruction set cannot have it; the CPU must have avx512_bf16
};

// The kernel for the best instruction set of this CPU, or nullptr if that has no fused multiply-add.
const TileKernel* BestTileKernel();

}  // namespace jevons::cpu

#endif  // JEVONS_KERNELS_CPU_GEMM_TILE_H_
