// How the rows of a matrix are dealt to blocks and threads. Plain arithmetic, the same on host and device, so that the host
// tests what the kernels do.
//
// A thread's unit is a pack: some neighbouring elements of a row, 16 bytes where memory allows. Rows are cut into chunks; a
// block is threads_x by threads_y, one row for each y, and a thread takes kPacks packs of its chunk, threads_x apart, so that
// neighbouring threads touch neighbouring memory and several loads are under way at once. Short rows share a block.
#ifndef JEVONS_KERNELS_CUDA_GRID_H_
#define JEVONS_KERNELS_CUDA_GRID_H_

#include <cstdint>

#include "kernels/base/philox.h"  // JEVONS_HOST_DEVICE

namespace jevons::cuda {

inline constexpr int kBlockThreads = 256;

JEVONS_HOST_DEVICE constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The smallest power of two >= n, at least `low` and at most `high`, both powers of two.
constexpr int64_t PowerOfTwo(int64_t n, int64_t low, int64_t high) {
  int64_t power = low;
  while (power < n && power < high) power *= 2;
  return power;
}

struct RowGrid {
  static constexpr int kPacks = 4;  // of a thread

  int64_t rows = 0, packs = 0;  // packs of a row
  int threads_x = 1, threads_y = 1;
  int64_t chunks = 0;  // of a row

  constexpr int64_t blocks() const { return CeilDiv(rows, threads_y) * chunks; }

  // The row of a thread (it may be >= rows), and its pack j = 0..kPacks-1 (it may be >= packs).
  JEVONS_HOST_DEVICE constexpr int64_t RowOf(int64_t block, int y) const { return block / chunks * threads_y + y; }
  JEVONS_HOST_DEVICE constexpr int64_t PackOf(int64_t block, int x, int j) const {
    return (block % chunks * kPacks + j) * threads_x + x;
  }
};

// rows and packs: positive. A row is spread over at least a warp if it has that many packs, and otherwise over as many threads
// as leave each four packs.
constexpr RowGrid PlanRows(int64_t rows, int64_t packs) {
  RowGrid grid;
  grid.rows = rows;
  grid.packs = packs;
  const int64_t spread = PowerOfTwo(packs, 1, 32);
  grid.threads_x = static_cast<int>(PowerOfTwo(CeilDiv(packs, RowGrid::kPacks), spread, kBlockThreads));
  grid.threads_y = kBlockThreads / grid.threads_x;
  grid.chunks = CeilDiv(packs, int64_t{grid.threads_x} * RowGrid::kPacks);
  return grid;
}

// The largest power of two up to 16 that divides every address and distance whose bits are or-ed into `bits`.
constexpr int WordOf(uint64_t bits) {
  const uint64_t low = (bits | 16) & (~(bits | 16) + 1);
  return static_cast<int>(low < 16 ? low : 16);
}

// Threads of the one block that serves a row of so many packs: whole warps, about `each` packs for a thread.
constexpr int RowThreads(int64_t packs, int each, int most) {
  const int64_t threads = CeilDiv(CeilDiv(packs, each), 32) * 32;
  return static_cast<int>(threads < 32 ? 32 : threads > most ? most : threads);
}

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_GRID_H_
