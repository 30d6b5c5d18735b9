// Products of FP8 codes on Hopper's tensor cores: many products in one launch, each with shapes and addresses of its own.
//
//   forward, dgrad   scales of A by rows, of B by blocks of 128 x 128
//   wgrad            scales of A and B by lines
//
// The scheme is that of DeepGEMM (github.com/deepseek-ai/DeepGEMM, sm90_fp8_gemm_*): blocks for all processors take tiles as long
// as there are some; one thread lets TMA fill a ring of stages, two warpgroups multiply what has come, and after 128 terms add the
// product, scaled, to sums in their own registers, while the other group keeps the tensor cores busy (promotion, DeepSeek-V3
// report, section 3.3.2). Each block of a cluster fetches half of the rows of A that both need and sends them to both.
//
// TMA reads zeros beyond the end of a matrix and writes what is inside C, so no side needs to be a multiple of anything. An
// element is summed by one thread in the order of k: its bits depend on neither m, n nor the other products.
#include <vector>

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_fp8_layout.h"
#include "kernels/cuda/gemm_wgmma_maps.h"
#include "kernels/cuda/gemm_wgmma_store.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/tensor/device.h"

namespace jevons::cuda {
namespace {

using Tile = WgmmaTile;
template <int kWidth>
using Shared = WgmmaShared<kWidth>;
template <int kWidth>
using Sums = WgmmaSums<kWidth>;

constexpr int kMost = 64;  // products of a launch: they are kernel parameters, of which there may be 32,764 bytes
constexpr int kMathRegisters = 232, kLoadRegisters = 40;
static_assert(Tile::kMathThreads * kMathRegisters + 128 * kLoadRegisters <= 65536);

// What the copy engine moves: boxes of 64 x 128 codes of A [m, k], of a tile's width x 128 of B [n, k], and of 16 rows of 128 bytes of
// C [m, n].
struct Maps {
  CUtensorMap a, b, c;
};

// The scales of a matrix's lines (of 128 lines each, for blocks) along k.
struct LineScales {
  const float* data;
  int64_t line_stride, block_stride;
};

struct Problem : WgmmaOutput {
  LineScales a_scales, b_scales;
  int k_blocks, a_lines;   // a_lines: rows of A that share a scale
  int rows, pairs, first;  // tiles; the number of its first pair of tiles in the launch
  bool boxes;              // C goes out by the copy engine
};

struct Batch {
  Maps maps[kMost];
  Problem problems[kMost];
  int count, tiles;  // tiles: pairs of all problems
  int* dealt;        // on the device: how many of them have been dealt
};
static_assert(sizeof(Batch) <= 32764 - 64);

// Deals tiles to this cluster: whoever comes first. So a cluster that finds its processors taken by another kernel leaves its tiles
// to the others. By one thread of the cluster.
template <int kWidth>
class Dealer {
 public:
  __device__ Dealer(const Batch& batch, uint32_t shared) : dealt_(batch.dealt), shared_(shared) {}
  __device__ __forceinline__ void Deal() {
    const int tile = atomicAdd(dealt_, 1);
    for (uint32_t rank = 0; rank < Tile::kCluster; ++rank)
      Send(tile, shared_ + Shared<kWidth>::TileNumber(place_.at), shared_ + Shared<kWidth>::Dealt(place_.at), rank);
    place_.Next();
  }

 private:
  int* dealt_;
  uint32_t shared_;
  RingPlace<Shared<kWidth>::kNumbers> place_;
};

// The tiles of this cluster, one after the other, as they are dealt.
template <int kWidth>
class Tiles {
 public:
  __device__ Tiles(const Batch& batch, const uint8_t* memory, uint32_t shared)
      : batch_(batch), memory_(memory), shared_(shared) {}
  // The next one; false: all have been dealt, and nobody may ask again.
  __device__ __forceinline__ bool Next() {
    WaitFor(shared_ + Shared<kWidth>::Dealt(place_.at), place_.parity);
    tile_ = *reinterpret_cast<const int*>(memory_ + Shared<kWidth>::TileNumber(place_.at));
    place_.Next();
    while (problem_ + 1 < batch_.count && tile_ >= batch_.problems[problem_ + 1].first) ++problem_;
    return tile_ < batch_.tiles;
  }
  __device__ __forceinline__ const Problem& problem() const { return batch_.problems[problem_]; }
  __device__ __forceinline__ const Maps& maps() const { return batch_.maps[problem_]; }
  // Has the copy engine fetch the maps of the problem after this one.
  __device__ __forceinline__ void PrefetchNext() const {
    if (problem_ + 1 >= batch_.count) return;
    const Maps& next = batch_.maps[problem_ + 1];
    PrefetchMap(&next.a);
    PrefetchMap(&next.b);
    if (batch_.problems[problem_ + 1].boxes) PrefetchMap(&next.c);
  }
  // The first row and column of this block's tile.
  __device__ __forceinline__ void Place(uint32_t rank, int& row, int& col) const {
    const Problem& p = problem();
    const TilePlace place = PlaceOf(tile_ - p.first, p.rows, p.pairs);
    row = place.row * Tile::kRows;
    col = (place.pair * Tile::kCluster + static_cast<int>(rank)) * kWidth;
  }

 private:
  const Batch& batch_;
  const uint8_t* memory_;
  uint32_t shared_;
  RingPlace<Shared<kWidth>::kNumbers> place_;
  int tile_ = 0, problem_ = 0;
};

// One thread: fills the ring for all tiles; that of the first block also deals them.
template <int kWidth, bool kLineScalesB>
__device__ __forceinline__ void LoadTiles(const Batch& batch, const uint8_t* memory, uint32_t shared, uint32_t rank) {
  using Room = Shared<kWidth>;
  constexpr uint32_t kOperands = Room::kABytes + Room::kBBytes;
  constexpr uint16_t kBothBlocks = 3;
  RingPlace<Room::kStages> place;
  Dealer<kWidth> dealer(batch, shared);
  if (rank == 0) dealer.Deal();
  for (Tiles<kWidth> tiles(batch, memory, shared); tiles.Next();) {
    const Problem& p = tiles.problem();
    tiles.PrefetchNext();
    int row, col;
    tiles.Place(rank, row, col);
    const int half = static_cast<int>(rank) * Tile::kRowsOfGroup;
    const int cols = max(0, min(kWidth, p.n - col));
    const uint32_t scale_bytes = kLineScalesB ? static_cast<uint32_t>(cols) * 4 : 0;
    for (int block = 0; block < p.k_blocks; ++block, place.Next()) {
      const uint32_t full = shared + Room::Full(place.at);
      WaitFor(shared + Room::Empty(place.at), place.parity ^ 1);
      ArriveExpecting(full, kOperands + scale_bytes);
      CopyBoxToBlocks(shared + Room::A(place.at) + half * Tile::kTerms, &tiles.maps().a, block * Tile::kTerms, row + half, full,
                      kBothBlocks);
      CopyBox(shared + Room::B(place.at), &tiles.maps().b, block * Tile::kTerms, col, full);
      if (kLineScalesB && scale_bytes > 0)
        CopyRun(shared + Room::Scales(place.at), p.b_scales.data + block * p.b_scales.block_stride + col, scale_bytes, full);
      if (rank == 0 && block == Room::DealingBlock(p.k_blocks)) dealer.Deal();
    }
  }
}

// The scales of this thread's two rows, eight apart, and of the tile's columns where 128 of them share one: read a block of k ahead.
template <int kWidth, bool kLineScalesB>
class Scales {
 public:
  // Rows and columns beyond the matrix take the scales of the last ones: their sums are never stored.
  __device__ __forceinline__ Scales(const Problem& p, int row, int col)
      : a_stride_(p.a_scales.block_stride), b_stride_(p.b_scales.block_stride) {
    low_ = p.a_scales.data + min(row, p.m - 1) / p.a_lines * p.a_scales.line_stride;
    high_ = p.a_scales.data + min(row + 8, p.m - 1) / p.a_lines * p.a_scales.line_stride;
    const int last = (p.n - 1) / kBlock, block = min(col / kBlock, last);
    b_ = p.b_scales.data + block * p.b_scales.line_stride;
    if (!kTwoBlocks) return;
    second_at_ = p.b_scales.data + min(block + 1, last) * p.b_scales.line_stride;
    first_columns_ = kBlock - col % kBlock;
  }
  __device__ __forceinline__ void FetchNext() {
    next_low_ = __ldg(low_);
    next_high_ = __ldg(high_);
    low_ += a_stride_;
    high_ += a_stride_;
    if (kLineScalesB) return;
    next_b_ = __ldg(b_);
    b_ += b_stride_;
    if (!kTwoBlocks) return;
    next_second_ = __ldg(second_at_);
    second_at_ += b_stride_;
  }
  __device__ __forceinline__ void Take() { low = next_low_, high = next_high_, b_scale_ = next_b_, second_ = next_second_; }
  // Of the block in which this chunk of columns lies.
  __device__ __forceinline__ float b(int chunk) const {
    return kTwoBlocks && chunk * WgmmaChunks<kWidth>::kColumns >= first_columns_ ? second_ : b_scale_;
  }

  float low = 0, high = 0;

 private:
  static constexpr int kBlock = static_cast<int>(kTileSize);
  static constexpr bool kTwoBlocks = !kLineScalesB && WgmmaChunks<kWidth>::kCross;
  const float *low_, *high_, *b_, *second_at_ = nullptr;
  int64_t a_stride_, b_stride_;
  int first_columns_ = 0;  // of the tile, that lie in its first block
  float b_scale_ = 0, second_ = 0, next_low_ = 0, next_high_ = 0, next_b_ = 0, next_second_ = 0;
};

// sums += product * (scale of the row * scale of the column), with one rounding per term. `columns`: the scales of this thread's pairs
// of columns, where each has its own.
template <int kWidth, bool kLineScalesB>
__device__ __forceinline__ void Promote(const Sums<kWidth>& product, const Scales<kWidth, kLineScalesB>& scales,
                                        [[maybe_unused]] const float2* columns, Sums<kWidth>& sums) {
#pragma unroll
  for (int i = 0; i < Tile::Sums(kWidth); i += 4) {
    const int chunk = ColumnOfSum(0, i) / WgmmaChunks<kWidth>::kColumns;
    const float2 pair = kLineScalesB ? columns[i] : make_float2(scales.b(chunk), scales.b(chunk));
    const float left = pair.x, right = pair.y;
    sums[i] = __fmaf_rn(product[i], scales.low * left, sums[i]);
    sums[i + 1] = __fmaf_rn(product[i + 1], scales.low * right, sums[i + 1]);
    sums[i + 2] = __fmaf_rn(product[i + 2], scales.high * left, sums[i + 2]);
    sums[i + 3] = __fmaf_rn(product[i + 3], scales.high * right, sums[i + 3]);
  }
}

// Two warpgroups: the products and sums of all tiles.
template <int kWidth, bool kLineScalesB, typename Out>
__device__ __forceinline__ void ComputeTiles(const Batch& batch, uint8_t* memory, uint32_t shared, uint32_t rank) {
  using Room = Shared<kWidth>;
  const int thread = static_cast<int>(threadIdx.x), group = thread / 128, lane = thread % 32;
  const int q = thread % 4;
  RingPlace<Room::kStages> place;
  Sums<kWidth> product;
#pragma unroll
  for (int i = 0; i < Tile::Sums(kWidth); ++i) product[i] = 0;
  for (Tiles<kWidth> tiles(batch, memory, shared); tiles.Next();) {
    const Problem& p = tiles.problem();
    int row, col;
    tiles.Place(rank, row, col);
    row += thread / 32 * Tile::kRowsOfWarp;
    Scales<kWidth, kLineScalesB> scales(p, row + lane / 4, col);
    scales.FetchNext();
    Sums<kWidth> sums = {};
    for (int left = p.k_blocks; left > 0; --left, place.Next()) {
      WaitFor(shared + Room::Full(place.at), place.parity);
      const uint64_t a = MatrixDescriptor(shared + Room::A(place.at) + group * Tile::kRowsOfGroup * Tile::kTerms);
      const uint64_t b = MatrixDescriptor(shared + Room::B(place.at));
      FenceSums(product);
      BeginProducts();
#pragma unroll
      for (int step = 0; step < Tile::kTerms / Tile::kProducts; ++step)
        MultiplyAdd(product, a + step * kNextTerms, b + step * kNextTerms, step > 0);
      CommitProducts();
      scales.Take();
      if (left > 1) scales.FetchNext();
      WaitForProducts();
      FenceSums(product);
      const auto consumed = [&] {
        __syncwarp();
        if (lane < Tile::kCluster) ArriveAt(shared + Room::Empty(place.at), static_cast<uint32_t>(lane));
      };
      if (!kLineScalesB) consumed();
      Promote<kWidth, kLineScalesB>(product, scales, reinterpret_cast<const float2*>(memory + Room::Scales(place.at)) + q, sums);
      if (kLineScalesB) consumed();
    }
    if (p.boxes) {
      StoreBoxes<kWidth, Out>(p, tiles.maps().c, memory, shared, row, col, sums);
    } else {
      StoreRows<kWidth, Out>(p, row + lane / 4, col, sums);
    }
  }
  if (lane == 0) WaitForStores<0>();  // shared memory stays until then
}

template <int kWidth, bool kLineScalesB, typename Out>
__global__ void __launch_bounds__(Tile::kThreads, 1) WgmmaKernel(const __grid_constant__ Batch batch) {
  using Room = Shared<kWidth>;
  uint8_t* memory = DynamicShared<uint8_t>();
  const uint32_t room = SharedAddress(memory), shared = (room + Room::kAlignment - 1) / Room::kAlignment * Room::kAlignment;
  memory += shared - room;
  const uint32_t rank = ClusterRank();
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < Room::kStages; ++stage) {
      InitBarrier(shared + Room::Full(stage), 1);
      InitBarrier(shared + Room::Empty(stage),
                  Tile::kMathThreads / 32 * Tile::kCluster);  // a thread of each warp, from both blocks
    }
    for (int number = 0; number < Room::kNumbers; ++number) InitBarrier(shared + Room::Dealt(number), 1);
    PublishBarriers();
  }
  ClusterSync();
  if (threadIdx.x >= Tile::kMathThreads) {
    GiveRegistersDownTo<kLoadRegisters>();
    if (threadIdx.x == Tile::kMathThreads) LoadTiles<kWidth, kLineScalesB>(batch, memory, shared, rank);
  } else {
    TakeRegistersUpTo<kMathRegisters>();
    ComputeTiles<kWidth, kLineScalesB, Out>(batch, memory, shared, rank);
  }
  ClusterSync();  // a block stays while the other sends to it or arrives at its barriers
}

// ---- host ----

Problem ProblemOf(const Fp8GemmDesc& d, int width) {
  const ScaleView a = d.a_scales(), b = d.b_scales();
  Problem p = {};
  p.a_scales = {a.data, a.line_stride, a.block_stride};
  p.b_scales = {b.data, b.line_stride, b.block_stride};
  p.c = d.c.data;
  p.c_pitch = d.c.pitch;
  p.m = static_cast<int>(d.m());
  p.n = static_cast<int>(d.n());
  p.k_blocks = static_cast<int>(TilesOf(d.k()));
  p.a_lines = static_cast<int>(a.lines);
  p.rows = static_cast<int>(CeilDiv(d.m(), Tile::kRows));
  p.pairs = static_cast<int>(CeilDiv(d.n(), width * Tile::kCluster));
  p.add = d.mode == WriteMode::kAdd;
  p.vector = IsAligned(d.c);
  p.boxes = p.vector && !p.add;
  return p;
}

Maps MapsOf(const Fp8GemmDesc& d, const Tensor& b_codes, int width, bool boxes) {
  Maps maps = {.a = MapOf(d.a.codes, Tile::kRowsOfGroup), .b = MapOf(b_codes, width), .c = {}};
  if (boxes) maps.c = MapOf(d.c, Tile::kRowsOfWarp);
  return maps;
}

int Clusters() { return Multiprocessors() / Tile::kCluster; }

constexpr int64_t kMostTurnedBytes = int64_t{512} << 20;  // of weights turned for one launch: 18 of 7168 x 4096

// The next products of a launch; returns how many.
size_t Fill(const OpContext& ctx, std::span<const Fp8GemmDesc* const> descs, int width, Batch& batch) {
  int64_t turned = 0;
  const Fp8GemmDesc* last = nullptr;
  Tensor codes;
  batch.count = batch.tiles = 0;
  for (const Fp8GemmDesc* d : descs) {
    const bool turns = d->b_form == Form::kPlain;
    if (batch.count == kMost || (turns && batch.count > 0 && turned + d->b.codes.size() > kMostTurnedBytes)) break;
    if (!turns) {
      codes = d->b.codes;
    } else if (last == nullptr || last->b_form != Form::kPlain || last->b.codes.data != d->b.codes.data) {
      codes = TransposedCodes(ctx, d->b.codes, d->n(), d->k());
      turned += codes.bytes();
    }
    last = d;
    Problem& p = batch.problems[batch.count];
    p = ProblemOf(*d, width);
    p.first = batch.tiles;
    batch.tiles += p.rows * p.pairs;
    batch.maps[batch.count++] = MapsOf(*d, codes, width, p.boxes);
  }
  return static_cast<size_t>(batch.count);
}

// Each launch takes the next of the zeros at `dealt`.
template <int kWidth, bool kLineScalesB, typename Out>
void RunAtWidth(const OpContext& ctx, std::span<const Fp8GemmDesc* const> descs, int*& dealt) {
  using Room = Shared<kWidth>;
  while (!descs.empty()) {
    ArenaScope scope(*ctx.scratch);
    Batch batch;
    batch.dealt = dealt++;
    descs = descs.subspan(Fill(ctx, descs, kWidth, batch));
    LaunchCluster(ctx, WgmmaKernel<kWidth, kLineScalesB, Out>, std::min(batch.tiles, Clusters()) * Tile::kCluster, Tile::kCluster,
                  Tile::kThreads, Room::kBytes + Room::kAlignment, batch);
  }
}

template <bool kLineScalesB, typename Out>
void Run(const OpContext& ctx, std::span<const Fp8GemmDesc* const> descs, int width, int*& dealt) {
  if (width == 0) {
    std::vector<WgmmaSides> sides;
    for (const Fp8GemmDesc* d : descs) sides.push_back({d->m(), d->n()});
    width = WidthFor(sides, Clusters());
  }
  const auto run = [&](auto candidate) {
    constexpr int kWidth = kWgmmaWidths[candidate];
    if (width == kWidth) RunAtWidth<kWidth, kLineScalesB, Out>(ctx, descs, dealt);
  };
  run(std::integral_constant<size_t, 0>());
  run(std::integral_constant<size_t, 1>());
  run(std::integral_constant<size_t, 2>());
  static_assert(std::size(kWgmmaWidths) == 3);
}

bool HasLineScales(const Fp8GemmDesc& d) { return d.b.tiling == Tiling::kColumns128x1; }

}  // namespace

bool WgmmaServes(const Fp8GemmDesc& d) {
  constexpr int64_t kMostSide = int64_t{1} << 22, kMostTiles = int64_t{1} << 24;  // far below what numbers of 32 bits hold
  const bool sizes = d.m() < kMostSide && d.n() < kMostSide && d.k() < (int64_t{1} << 30) &&
                     PairsOfTiles({d.m(), d.n()}, std::end(kWgmmaWidths)[-1]) < kMostTiles;
  const bool a = IsAligned(d.a.codes), b = d.b_form == Form::kPlain || IsAligned(d.b.codes);
  const bool b_scales = d.b.tiling == Tiling::kBlocks128x128 || (HasLineScales(d) && IsAligned(d.b.scales) && d.n() % 4 == 0);
  return d.promote && sizes && a && b && b_scales;
}

void WgmmaFp8Gemms(const OpContext& ctx, std::span<const Fp8GemmDesc> descs, int width) {
  std::vector<const Fp8GemmDesc*> kinds[2][2];  // by B's scales and C's type
  for (const Fp8GemmDesc& d : descs) kinds[HasLineScales(d)][d.c.dtype == DType::kF32].push_back(&d);
  // Counters of tiles dealt, for as many launches as there could be: one for each product.
  ArenaScope scope(*ctx.scratch);
  const Tensor counters = ctx.scratch->Allocate("gemm.dealt", DType::kI32, {static_cast<int64_t>(descs.size())});
  Zero(ctx.stream, counters);
  int* dealt = counters.as<int32_t>();
  Run<false, bf16>(ctx, kinds[0][0], width, dealt);
  Run<false, float>(ctx, kinds[0][1], width, dealt);
  Run<true, bf16>(ctx, kinds[1][0], width, dealt);
  Run<true, float>(ctx, kinds[1][1], width, dealt);
}

}  // namespace jevons::cuda
