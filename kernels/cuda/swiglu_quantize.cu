#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/swiglu_quantize.h"
#include "kernels/ops/expect.h"
#include "kernels/ref/swiglu.h"

namespace jevons::cuda {
namespace {

template <typename S>
struct GateUpPack {
  RawPack<S, kCodes> gate, up;
};

template <class F, typename S>
__global__ void SwiGluQuantizeKernel(RowGrid grid, View<const S> gate, View<const S> up, const float* weight,
                                     int64_t inner, CodesOut out) {
  Lost lost;
  ForPacksOfWarps<2>(
      grid, inner,
      [&](int64_t row, int64_t p, int64_t there) -> GateUpPack<S> {
        const int64_t c = p * kCodes;
        return {LoadRaw<kCodes>(gate.row(row) + c, there - c, gate.vector),
                LoadRaw<kCodes>(up.row(row) + c, there - c, up.vector)};
      },
      [&](int64_t row, int64_t p, int64_t there, const GateUpPack<S>& raw) {
        const float w = weight != nullptr && there > 0 ? weight[row] : 1.0f;
        const Pack<kCodes> g = raw.gate.Widened(), u = raw.up.Widened();
        Pack<kCodes> y;
#pragma unroll
        for (int i = 0; i < kCodes; ++i)  // nothing lies beyond a row, whatever its weight
          y.v[i] = p * kCodes + i < there ? ref::SwiGluElement(g.v[i], u.v[i], w) : 0.0f;
        QuantizeRowPack<F>(RoundedTo<S>(y), row, p, there, out, lost);
      });
  AddLost(lost, out.lost, blockIdx.x == 0);
}

}  // namespace

void SwiGluQuantize(const OpContext& ctx, const SwiGluQuantizeDesc& d) {
  const int64_t rows = d.gate_up.rows(), inner = d.gate_up.cols() / 2;
  ExpectReal("gate_up", d.gate_up);
  ExpectMatrix("gate_up", d.gate_up, d.gate_up.dtype, rows, 2 * inner);
  if (d.weight) ExpectVector("weight", d.weight, DType::kF32, rows);
  JEVONS_CHECK(d.format != NumberFormat::kE5M6, "codes of one byte");
  ExpectMatrix("codes", d.codes, DType::kU8, rows, inner);
  ExpectMatrix("scales", d.scales, DType::kF32, rows, TilesOf(inner));
  if (rows == 0 || inner == 0) return;
  const CodesOut out = CodesOutOf(d.codes, d.scales, d.scale_kind, {d.stats, rows * inner});
  ForReal(d.gate_up.dtype, [&](auto s) {
    using S = decltype(s);
    ForByteFormat(d.format, [&](auto f) {
      LaunchRows(ctx, SwiGluQuantizeKernel<decltype(f), S>, rows, TilesOf(inner) * kTileLanes,
                 ViewOf<const S>(d.gate_up.Columns(0, inner), kCodes),
                 ViewOf<const S>(d.gate_up.Columns(inner, inner), kCodes),
                 d.weight ? d.weight.as<float>() : nullptr, inner, out);
    });
  });
}

}  // namespace jevons::cuda
