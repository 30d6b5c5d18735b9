// Quantisation by rows and by blocks, and back. By rows: sixteen lanes have a tile, eight numbers each. By blocks: a block of
// threads keeps its 128 x 128 numbers in registers. Every number is read once.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/quantize_columns.h"

namespace jevons::cuda {
namespace {

constexpr int kBlockRows = static_cast<int>(kTileSize) * kTileLanes / kBlockThreads;  // rows of a block that a thread has

template <class F, typename S>
__global__ void RowsKernel(RowGrid grid, View<const S> x, int64_t cols, CodesOut out) {
  using Raw = RawPack<S, kCodes>;
  Lost lost;
  ForPacksOfWarps<4>(
      grid, cols,
      [&](int64_t r, int64_t p, int64_t there) { return LoadRaw<kCodes>(x.row(r) + p * kCodes, there - p * kCodes, x.vector); },
      [&](int64_t r, int64_t p, int64_t there, const Raw& raw) { QuantizeRowPack<F>(raw.Widened(), r, p, there, out, lost); });
  AddLost(lost, out.lost, blockIdx.x == 0);
}

template <class F, typename S>
__global__ void __launch_bounds__(kBlockThreads)
    BlocksKernel(View<const S> x, int64_t rows, int64_t cols, int64_t across, CodesOut out) {
  __shared__ uint32_t room[kBlockThreads / 32];
  const int64_t i = blockIdx.x / across, j = blockIdx.x % across;
  const int64_t p = j * kTileLanes + threadIdx.x % kTileLanes, first = i * kTileSize + threadIdx.x / kTileLanes;
  const auto row = [&](int k) { return first + k * (kBlockThreads / kTileLanes); };
  RawPack<S, kCodes> raw[kBlockRows];
#pragma unroll
  for (int k = 0; k < kBlockRows; ++k)
    raw[k] = LoadRaw<kCodes>(x.row(row(k)) + p * kCodes, row(k) < rows ? cols - p * kCodes : 0, x.vector);
  const BlockScale scale = BlockScaleOf<F>(raw, out.kind, room);
  Lost lost;
#pragma unroll
  for (int k = 0; k < kBlockRows; ++k) {
    if (row(k) >= rows) continue;
    CodePack<F> codes;
    codes.Encode(raw[k].Widened(), scale.inverse, scale.finite, out.lost.stats != nullptr, lost);
    codes.Store(out.codes.row(row(k)), p, cols, out.codes.vector);
  }
  if (threadIdx.x == 0) out.scales[i * out.scale_pitch + j] = scale.scale;
  AddLost(lost, out.lost, blockIdx.x == 0);
}

template <class F, typename S>
__global__ void DequantizeKernel(RowGrid grid, View<const uint8_t> codes, View<const float> scales, int64_t height, View<S> x,
                                 int64_t cols) {
  ForPacks<4>(
      grid,
      [&](int64_t r, int64_t p) {
        CodePack<F> pack;
        pack.Load(codes.row(r), p, cols, codes.vector);
        return pack;
      },
      [&](int64_t r, int64_t p, const CodePack<F>& pack) {
        const float scale = scales.row(r / height)[p / kTileLanes];
        Store(pack.Decoded(scale), x.row(r) + p * kCodes, cols - p * kCodes, x.vector);
      });
}

template <class F, typename S>
void QuantizeAs(const OpContext& ctx, const QuantizeDesc& d) {
  const int64_t rows = d.x.rows(), cols = d.x.cols(), across = TilesOf(cols);
  const View<const S> x = ViewOf<const S>(d.x, kCodes);
  const CodesOut out = CodesOutOf(d.codes, d.scales, d.scale_kind, {d.stats, d.x.size()});
  if (d.tiling == Tiling::kRows1x128) {
    LaunchRows(ctx, RowsKernel<F, S>, rows, across * kTileLanes, x, cols, out);
  } else if constexpr (sizeof(typename F::Code) == 1) {
    Launch(ctx, BlocksKernel<F, S>, TilesOf(rows) * across, dim3(kBlockThreads), 0, x, rows, cols, across, out);
  }
}

template <class F>
void DequantizeAs(const OpContext& ctx, const DequantizeDesc& d) {
  ForReal(d.x.dtype, [&](auto s) {
    using S = decltype(s);
    LaunchRows(ctx, DequantizeKernel<F, S>, d.x.rows(), CeilDiv(d.x.cols(), kCodes), ViewOf<const uint8_t>(d.codes, kCodes),
               ViewOf<const float>(d.scales, 1), d.tiling == Tiling::kRows1x128 ? int64_t{1} : kTileSize, ViewOf<S>(d.x, kCodes),
               d.x.cols());
  });
}

}  // namespace

void Quantize(const OpContext& ctx, const QuantizeDesc& d) {
  if (d.tiling == Tiling::kColumns128x1) return QuantizeColumns(ctx, d);
  ForReal(d.x.dtype, [&](auto s) {
    using S = decltype(s);
    if (d.format == NumberFormat::kE5M6) return QuantizeAs<E5M6, S>(ctx, d);
    ForByteFormat(d.format, [&](auto f) { QuantizeAs<decltype(f), S>(ctx, d); });
  });
}

void Dequantize(const OpContext& ctx, const DequantizeDesc& d) {
  if (d.format == NumberFormat::kE5M6) return DequantizeAs<E5M6>(ctx, d);
  ForByteFormat(d.format, [&](auto f) { DequantizeAs<decltype(f)>(ctx, d); });
}

}  // namespace jevons::cuda
