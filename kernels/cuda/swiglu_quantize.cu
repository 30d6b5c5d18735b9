// SwiGLU with the routing weight and the quantisation of its result: once through memory.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/fp8.cuh"
#include "kernels/ref/swiglu.h"

namespace jevons::cuda {
namespace {

template <typename S>
struct GateUpPack {
  RawPack<S, kCodes> gate, up;
};

template <typename S>
__global__ void SwiGluQuantizeKernel(RowGrid grid, View<const S> gate, View<const S> up, const float* weight, int64_t inner,
                                     CodesOut out) {
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
        QuantizeRowPack<E4M3>(RoundedTo<S>(y), row, p, there, out, lost);
      });
  AddLost(lost, out.lost, blockIdx.x == 0);
}

}  // namespace

void SwiGluQuantize(const OpContext& ctx, const SwiGluQuantizeDesc& d) {
  const int64_t rows = d.codes.rows(), inner = d.codes.cols();
  const CodesOut out = CodesOutOf(d.codes, d.scales, d.scale_kind, {d.stats, rows * inner});
  ForReal(d.gate_up.dtype, [&](auto s) {
    using S = decltype(s);
    LaunchRows(ctx, SwiGluQuantizeKernel<S>, rows, TilesOf(inner) * kTileLanes,
               ViewOf<const S>(d.gate_up.Columns(0, inner), kCodes), ViewOf<const S>(d.gate_up.Columns(inner, inner), kCodes),
               d.weight ? d.weight.as<float>() : nullptr, inner, out);
  });
}

}  // namespace jevons::cuda
