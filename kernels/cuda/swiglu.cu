// SwiGLU with the routing weight: once through memory. The backward has a block for a row, whose threads join their terms of
// dweight.
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/ref/swiglu.h"

namespace jevons::cuda {
namespace {

// Gate and up as two matrices; `inner` columns each.
template <typename S>
struct GateUp {
  View<S> gate, up;
};
template <typename S>
GateUp<S> GateUpOf(const Tensor& gate_up, int64_t inner, int width) {
  return {ViewOf<S>(gate_up.Columns(0, inner), width), ViewOf<S>(gate_up.Columns(inner, inner), width)};
}

template <typename S, int kWidth>
struct RawPair {
  RawPack<S, kWidth> gate, up;
};

template <typename S>
__global__ void ForwardKernel(RowGrid grid, GateUp<const S> in, const float* weight, View<S> y, int64_t inner) {
  constexpr int kWidth = kWidthOf<S>;
  ForPacks<4>(
      grid,
      [&](int64_t row, int64_t p) -> RawPair<S, kWidth> {
        const int64_t c = p * kWidth;
        return {LoadRaw<kWidth>(in.gate.row(row) + c, inner - c, in.gate.vector),
                LoadRaw<kWidth>(in.up.row(row) + c, inner - c, in.up.vector)};
      },
      [&](int64_t row, int64_t p, const RawPair<S, kWidth>& raw) {
        const float w = weight != nullptr ? weight[row] : 1.0f;
        const Pack<kWidth> gate = raw.gate.Widened(), up = raw.up.Widened();
        Pack<kWidth> out;
#pragma unroll
        for (int i = 0; i < kWidth; ++i) out.v[i] = ref::SwiGluElement(gate.v[i], up.v[i], w);
        Store(out, y.row(row) + p * kWidth, inner - p * kWidth, y.vector);
      });
}

template <typename S>
__global__ void __launch_bounds__(512)
    BackwardKernel(View<const S> dy, GateUp<const S> in, const float* weight, GateUp<S> out, float* dweight, int64_t inner) {
  constexpr int kWidth = kWidthOf<S>;
  __shared__ BlockRoom room;
  const int64_t row = blockIdx.x;
  const float w = weight != nullptr ? weight[row] : 1.0f;
  float dw = 0;
  for (int64_t c = int64_t{threadIdx.x} * kWidth; c < inner; c += int64_t{blockDim.x} * kWidth) {
    const int64_t n = inner - c;
    const Pack<kWidth> d = Load<kWidth>(dy.row(row) + c, n, dy.vector);
    Pack<kWidth> gate = Load<kWidth>(in.gate.row(row) + c, n, in.gate.vector);
    Pack<kWidth> up = Load<kWidth>(in.up.row(row) + c, n, in.up.vector);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const ref::SwiGluElementGrad<float> grad = ref::SwiGluElementBackward(d.v[i], gate.v[i], up.v[i], w);
      gate.v[i] = grad.dgate;
      up.v[i] = grad.dup;
      dw += grad.dweight;  // elements beyond the row are zero, and so are their terms
    }
    Store(gate, out.gate.row(row) + c, n, out.gate.vector);
    Store(up, out.up.row(row) + c, n, out.up.vector);
  }
  if (dweight == nullptr) return;
  const float sum = BlockSum(dw, room);
  if (threadIdx.x == 0) dweight[row] = sum;
}

}  // namespace

void SwiGlu(const OpContext& ctx, const Tensor& gate_up, const Tensor& weight, const Tensor& y) {
  ForReal(y.dtype, [&](auto s) {
    using S = decltype(s);
    constexpr int kWidth = kWidthOf<S>;
    LaunchRows(ctx, ForwardKernel<S>, y.rows(), CeilDiv(y.cols(), kWidth), GateUpOf<const S>(gate_up, y.cols(), kWidth),
               weight ? weight.as<float>() : nullptr, ViewOf<S>(y, kWidth), y.cols());
  });
}

void SwiGluBackward(const OpContext& ctx, const SwiGluGrad& g) {
  const int64_t inner = g.dy.cols();
  ForReal(g.dy.dtype, [&](auto s) {
    using S = decltype(s);
    constexpr int kWidth = kWidthOf<S>;
    const int threads = RowThreads(CeilDiv(inner, kWidth), 2, 512);
    Launch(ctx, BackwardKernel<S>, g.dy.rows(), dim3(static_cast<unsigned>(threads)), 0, ViewOf<const S>(g.dy, kWidth),
           GateUpOf<const S>(g.gate_up, inner, kWidth), g.weight ? g.weight.as<float>() : nullptr,
           GateUpOf<S>(g.dgate_up, inner, kWidth), g.dweight ? g.dweight.as<float>() : nullptr, inner);
  });
}

}  // namespace jevons::cuda
