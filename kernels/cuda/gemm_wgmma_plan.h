// The arithmetic of the kernel in gemm_wgmma.cu that needs no GPU: its tiles, shared memory, descriptors and the order in which
// tiles are computed. The same on host and device, so that the host tests it.
#ifndef JEVONS_KERNELS_CUDA_GEMM_WGMMA_PLAN_H_
#define JEVONS_KERNELS_CUDA_GEMM_WGMMA_PLAN_H_

#include <cstdint>
#include <numeric>
#include <span>

#include "kernels/base/philox.h"  // JEVONS_HOST_DEVICE

namespace jevons::cuda {

// A block of threads computes 128 x `width` sums, 128 terms at a time: the length of a scaled tile of FP8 codes, and of the 128 bytes
// by which shared memory is swizzled. Two blocks, a cluster, compute neighbouring columns from the same rows of A.
struct WgmmaTile {
  static constexpr int kRows = 128, kTerms = 128, kCluster = 2;
  static constexpr int kMathThreads = 256,
                       kThreads = 384;  // two warpgroups of 64 rows each; a third, of which one thread loads
  static constexpr int kRowsOfGroup = kRows / 2, kRowsOfWarp = 16;
  static constexpr int kProducts = 32;  // terms of one wgmma

  static JEVONS_HOST_DEVICE constexpr int Sums(int width) { return kRowsOfGroup * width / 128; }  // of a thread
};

// The widths that there are kernels for. A thread has a product and a sum for 64 x width elements of 128 threads: at 256 they alone
// would be more than the registers that a thread can have.
inline constexpr int kWgmmaWidths[] = {192, 128, 64};

// Cycles of a block for 128 terms of its tile. Two warpgroups read 64 rows of A each and all of B, the copy engine writes both, all
// at 128 bytes a cycle; tensor cores multiply 4,096 pairs a cycle. Of the hardware's description, not measured.
JEVONS_HOST_DEVICE constexpr int64_t CyclesOfTile(int64_t width) {
  const int64_t memory = (128 + 2 * width) + (128 + width), products = 128 * width * 128 / 4096;
  return memory > products ? memory : products;
}

struct WgmmaSides {
  int64_t m, n;
};
JEVONS_HOST_DEVICE constexpr int64_t PairsOfTiles(const WgmmaSides& s, int64_t width) {
  const int64_t pair = width * WgmmaTile::kCluster;
  return (s.m + WgmmaTile::kRows - 1) / WgmmaTile::kRows * ((s.n + pair - 1) / pair);
}
// The width at which products of one k, launched together, are done first: wide tiles read shared memory less often for their
// products, narrow ones leave fewer clusters without work in the last round.
inline int WidthFor(std::span<const WgmmaSides> products, int64_t clusters) {
  int best = 0;
  int64_t least = 0;
  for (const int width : kWgmmaWidths) {
    int64_t pairs = 0;
    for (const WgmmaSides& s : products) pairs += PairsOfTiles(s, width);
    const int64_t cycles = (pairs + clusters - 1) / clusters * CyclesOfTile(width);
    if (best != 0 && cycles >= least) continue;
    best = width;
    least = cycles;
  }
  return best;
}

// Shared memory: boxes of C on their way out, stages of A and B, then the scales of B's columns, then a full and an empty barrier for
// each stage, then numbers of tiles, with a barrier each. As many stages as there is room for.
//
// A box is 128 bytes of each of a warp's sixteen rows of C; a warp has as many as hold them in BF16, so that nobody waits for one
// tile's before the next tile's are there. In FP32 each is filled twice.
//
// A cluster is dealt its next tile while it loads one, after some of that one's stages. The number takes the place of the one dealt
// kNumbers tiles before, of which the last reader has gone on: a tile has one stage or more, and to fill a stage is to know that
// the one kStages before it has been consumed, by warps that read their tile's number before it.
template <int kWidth>
struct WgmmaShared {
  static constexpr int kAlignment = 1024;        // of the whole, for the swizzle
  static constexpr int kMostBytes = 227 * 1024;  // of a Hopper block
  static constexpr int kABytes = WgmmaTile::kRows * WgmmaTile::kTerms, kBBytes = kWidth * WgmmaTile::kTerms;
  static constexpr int kScaleBytes = kWidth * 4;
  static constexpr int kBoxes = kWidth / 64, kBoxBytes = WgmmaTile::kRowsOfWarp * 128;
  static constexpr int kOperands = WgmmaTile::kMathThreads / 32 * kBoxes * kBoxBytes;  // where the stages begin
  static constexpr int kStages =
      (kMostBytes - kAlignment - kOperands - (8 + 4)) / (kABytes + kBBytes + kScaleBytes + 2 * 8 + (8 + 4));
  static constexpr int kNumbers = kStages + 1;
  static constexpr int kScales = kOperands + kStages * (kABytes + kBBytes), kBarriers = kScales + kStages * kScaleBytes;
  static constexpr int kNumberBarriers = kBarriers + kStages * 2 * 8, kTileNumbers = kNumberBarriers + kNumbers * 8;
  static constexpr int kBytes = kTileNumbers + kNumbers * 4;

  static JEVONS_HOST_DEVICE constexpr int Box(int warp, int i) { return (warp * kBoxes + i) * kBoxBytes; }
  static JEVONS_HOST_DEVICE constexpr int A(int stage) { return kOperands + stage * (kABytes + kBBytes); }
  static JEVONS_HOST_DEVICE constexpr int B(int stage) { return A(stage) + kABytes; }
  static JEVONS_HOST_DEVICE constexpr int Scales(int stage) { return kScales + stage * kScaleBytes; }
  static JEVONS_HOST_DEVICE constexpr int Full(int stage) { return kBarriers + stage * 8; }
  static JEVONS_HOST_DEVICE constexpr int Empty(int stage) { return kBarriers + (kStages + stage) * 8; }
  static JEVONS_HOST_DEVICE constexpr int Dealt(int number) { return kNumberBarriers + number * 8; }
  static JEVONS_HOST_DEVICE constexpr int TileNumber(int number) { return kTileNumbers + number * 4; }

  // The block of k at whose loading a cluster is dealt its next tile: a round through the ring before the last, so that the number
  // has come when it is needed, and no sooner than that, so that others may have the tile if this one takes long.
  static JEVONS_HOST_DEVICE constexpr int DealingBlock(int k_blocks) { return k_blocks > kStages ? k_blocks - kStages : 0; }

  static_assert(kBytes + kAlignment <= kMostBytes && kABytes % kAlignment == 0 && kBBytes % kAlignment == 0 &&
                kBoxBytes % kAlignment == 0);
};

// Where blocks of 128 columns of B share a scale: a tile may begin in one and end in the next. Its columns go in chunks that lie in
// one block whatever the tile.
template <int kWidth>
struct WgmmaChunks {
  static constexpr int kColumns = std::gcd(kWidth, 128), kCount = kWidth / kColumns;
  static constexpr bool kCross = 128 % kWidth != 0 && kWidth % 128 != 0;
};

// Where TMA's 128-byte swizzle puts a byte of a row of 128: the sixteen-byte chunks of eight rows are permuted, so that the same
// chunk of eight rows lies in all banks.
JEVONS_HOST_DEVICE constexpr int SwizzledByte(int row, int byte) {
  return row * 128 + ((byte / 16) ^ (row % 8)) * 16 + byte % 16;
}

// wgmma's descriptor of a matrix in shared memory whose rows of 128 bytes run along k, swizzled as above (PTX ISA, "Matrix
// Descriptor Format"): start address, distance of groups of eight rows (1024), both in sixteen bytes, and the swizzling mode.
// The distance along k is not used with it and says 1.
JEVONS_HOST_DEVICE constexpr uint64_t MatrixDescriptor(uint32_t shared_address) {
  constexpr uint64_t kAlongK = 1, kEightRows = 1024 / 16, kSwizzle128 = 1;
  return uint64_t{(shared_address & 0x3FFFF) / 16} | kAlongK << 16 | kEightRows << 32 | kSwizzle128 << 62;
}
// What the descriptor of the next 32 terms adds: the swizzle is of addresses, so the start alone moves.
inline constexpr uint64_t kNextTerms = WgmmaTile::kProducts / 16;

// The place in a ring of so many buffers. A barrier's parity is that of the round through the ring.
template <int kPlaces>
struct RingPlace {
  int at = 0;
  uint32_t parity = 0;
  JEVONS_HOST_DEVICE constexpr void Next() {
    if (++at < kPlaces) return;
    at = 0;
    parity ^= 1;
  }
};

struct TilePlace {
  int row, pair;  // of tiles; a pair is 128 x 2 widths
};
// Tiles go down eight rows, then to the next pair of columns: the 66 clusters of an H100 work on about 1024 rows and 8 pairs at a
// time, which keeps what they read from memory small.
JEVONS_HOST_DEVICE constexpr TilePlace PlaceOf(int index, int rows, int pairs) {
  constexpr int kTall = 8;
  const int band = index / (kTall * pairs), in_band = index - band * kTall * pairs;
  const int left = rows - band * kTall, tall = left < kTall ? left : kTall;
  return {band * kTall + in_band % tall, in_band / tall};
}

// The sums of a thread: number i lies in this row of its warpgroup's 64 and this column of the tile.
JEVONS_HOST_DEVICE constexpr int RowOfSum(int thread, int i) { return thread / 32 % 4 * 16 + thread % 32 / 4 + i / 2 % 2 * 8; }
JEVONS_HOST_DEVICE constexpr int ColumnOfSum(int thread, int i) { return i / 4 * 8 + thread % 4 * 2 + i % 2; }

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_GEMM_WGMMA_PLAN_H_
