// Products of FP8 codes through oneDNN, a block of 128 terms at a time. Compiled once per instruction set for
// what surrounds the product: decoding, scaling, adding.
#include <cstdlib>
#include <memory>

#include "kernels/cpu/fp8_gemm.h"
#include "kernels/cpu/gemm_impl.h"

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)  // no code is made for them: no fused multiply-add
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/fp8_gemm_pieces.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/fp8_gemm-inl.h"

#ifndef JEVONS_KERNELS_CPU_FP8_GEMM_PIECES_BUFFERS
#define JEVONS_KERNELS_CPU_FP8_GEMM_PIECES_BUFFERS
namespace jevons::cpu {

// One thread's block of operands in BF16 and its product.
struct PieceBuffers {
  bf16 a[kTileRows * kTileSize];      // [rows, 128]
  bf16 b[kTileCols * kTileSize];      // [cols, 128], or [128, cols] if B is plain
  float sums[kTileRows * kTileCols];  // [rows, kTileCols]
  static PieceBuffers& OfThisThread();
};

}  // namespace jevons::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
Fp8TileFunction PieceFunction() { return nullptr; }
#else

namespace {

// Rows [row, row + rows) and columns [col, col + cols) of codes as BF16, rows `pitch` apart.
void DecodeBlock(const Tensor& codes, int64_t row, int64_t rows, int64_t col, int64_t cols, bf16* to,
                 int64_t pitch) {
  const hn::Repartition<uint16_t, D> d16;
  for (int64_t i = 0; i < rows; ++i, to += pitch) {
    const uint8_t* from = codes.row<uint8_t>(row + i) + col;
    int64_t j = 0;
    for (; j + 2 * kLanes <= cols; j += 2 * kLanes) hn::StoreU(LoadBf16Bits(d16, from + j), d16, &to[j].bits);
    for (; j < cols; ++j) to[j].bits = kBf16OfE4M3.bits[from[j]];
  }
}

// sums += product * (a_scales * b_scales), or = in the first block, for `rows` rows of one product from `row`
// on.
void AddScaled(const Fp8GemmDesc& desc, Range rows, Range cols, int64_t block, const float* product,
               float* sums) {
  const D d;
  const ScaleView a_scales = desc.a_scales();
  alignas(64) float b_scales[kTileCols] = {};
  SpreadScales(desc.b_scales(), cols, block, 1, b_scales, kTileCols);
  for (int64_t i = rows.begin; i < rows.end; ++i, product += kTileCols, sums += kTileCols) {
    const V a_scale = hn::Set(d, a_scales(i, block));
    for (int64_t j = 0; j < cols.size(); j += kLanes) {
      const V scale = hn::Mul(a_scale, hn::LoadU(d, b_scales + j));
      const V before = block == 0 ? hn::Zero(d) : hn::LoadU(d, sums + j);
      hn::StoreU(hn::Add(before, hn::Mul(hn::LoadU(d, product + j), scale)), d, sums + j);
    }
  }
}

// The unscaled product of the block of `terms` codes from `begin` on: buffers.sums.
void MultiplyBlock(const Fp8Products& products, const GemmTile& tile, int64_t begin, int64_t terms,
                   PieceBuffers& buffers, const GemmScratch& scratch) {
  const GemmDesc& shared = tile.descs.front();
  const int64_t rows = tile.rows.size(), cols = tile.cols.size();
  const bool plain = shared.b_form == Form::kPlain;
  if (plain) {
    DecodeBlock(shared.b, begin, terms, tile.cols.begin, cols, buffers.b, cols);
  } else {
    DecodeBlock(shared.b, tile.cols.begin, cols, begin, terms, buffers.b, terms);
  }
  bf16* a = buffers.a;
  ForEachProduct(tile, [&](const GemmDesc& product, Range range) {
    DecodeBlock(products.Of(product).a.codes, range.begin, range.size(), begin, terms, a, terms);
    a += range.size() * terms;
  });
  GemmDesc piece{.a = Tensor::Of(buffers.a, {rows, terms}),
                 .b = Tensor::Of(buffers.b, plain ? Shape{terms, cols} : Shape{cols, terms}),
                 .c = Tensor::Of(buffers.sums, {rows, cols}),
                 .b_form = shared.b_form};
  piece.c.pitch = kTileCols;
  RunOneDnnTile({{&piece, 1}, {0, rows}, {0, cols}}, scratch);
}

// C's sums grow in scratch.state, which a product of a single block does not need.
void RunTile(const Fp8Products& products, const GemmTile& tile, const GemmScratch& scratch) {
  PieceBuffers& buffers = PieceBuffers::OfThisThread();
  const int64_t k = tile.descs.front().k();
  for (int64_t begin = 0; begin < k; begin += kTileSize) {
    const int64_t terms = std::min(kTileSize, k - begin);
    MultiplyBlock(products, tile, begin, terms, buffers, scratch);
    int64_t offset = 0;
    ForEachProduct(tile, [&](const GemmDesc& product, Range rows) {
      const Fp8GemmDesc& desc = products.Of(product);
      float* sums = scratch.state + offset;
      AddScaled(desc, rows, tile.cols, begin / kTileSize, buffers.sums + offset, sums);
      offset += rows.size() * kTileCols;
      if (begin + terms == k) WriteRectangle(desc, rows, tile.cols, sums);
    });
  }
}

}  // namespace

Fp8TileFunction PieceFunction() { return RunTile; }

#endif  // a target with vectors

}  // namespace HWY_NAMESPACE
}  // namespace jevons::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {

PieceBuffers& PieceBuffers::OfThisThread() {
  struct Free {
    void operator()(PieceBuffers* p) const { std::free(p); }
  };
  thread_local const std::unique_ptr<PieceBuffers, Free> buffers(
      static_cast<PieceBuffers*>(std::aligned_alloc(64, sizeof(PieceBuffers))));
  JEVONS_CHECK(buffers != nullptr, "no memory for a thread's pieces of matrix products");
  return *buffers;
}

HWY_EXPORT(PieceFunction);
void RunFp8Pieces(std::span<const Fp8GemmDesc> descs) {
  RunFp8Products(descs, HWY_DYNAMIC_DISPATCH(PieceFunction)());
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
