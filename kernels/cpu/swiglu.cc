#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/swiglu.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/swiglu-inl.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

void Forward(const Tensor& gate_up, const Tensor& weight, const Tensor& y, Range rows) {
  const int64_t inner = y.cols();
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const float w = weight ? weight.as<float>()[r] : 1.0f;
    if (y.dtype == DType::kBF16) {
      SwiGluRow(gate_up.row<bf16>(r), gate_up.row<bf16>(r) + inner, w, inner, y.row<bf16>(r));
    } else {
      SwiGluRow(gate_up.row<float>(r), gate_up.row<float>(r) + inner, w, inner, y.row<float>(r));
    }
  }
}

// Returns the gradient of the row's weight.
template <typename S>
HWY_INLINE float BackwardRow(const S* dy, const S* gate, const S* up, float weight, int64_t inner, S* dgate, S* dup) {
  const VF w = hn::Set(F32(), weight), one = hn::Set(F32(), 1.0f);
  return SumLanes<1>(inner, [&](int64_t i, int64_t n) JEVONS_LANES {
    const VF d = Load(dy + i, n), g = Load(gate + i, n), u = Load(up + i, n);
    const VF s = Sigmoid(g), silu = hn::Mul(g, s), dw = hn::Mul(d, w);
    Store(hn::Mul(dw, silu), dup + i, n);
    const VF slope = hn::Mul(s, hn::MulAdd(g, hn::Sub(one, s), one));  // d silu / d gate
    Store(hn::Mul(hn::Mul(dw, u), slope), dgate + i, n);
    return hn::Mul(hn::Mul(d, silu), u);
  });
}

void Backward(const SwiGluGrad& g, Range rows) {
  const int64_t inner = g.dy.cols();
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const float w = g.weight ? g.weight.as<float>()[r] : 1.0f;
    float dw;
    if (g.dy.dtype == DType::kBF16) {
      const bf16* gate = g.gate_up.row<bf16>(r);
      bf16* dgate = g.dgate_up.row<bf16>(r);
      dw = BackwardRow(g.dy.row<bf16>(r), gate, gate + inner, w, inner, dgate, dgate + inner);
    } else {
      const float* gate = g.gate_up.row<float>(r);
      float* dgate = g.dgate_up.row<float>(r);
      dw = BackwardRow(g.dy.row<float>(r), gate, gate + inner, w, inner, dgate, dgate + inner);
    }
    if (g.dweight) g.dweight.as<float>()[r] = dw;
  }
}

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

HWY_EXPORT(Forward);
HWY_EXPORT(Backward);

}  // namespace

void SwiGlu(const OpContext&, const Tensor& gate_up, const Tensor& weight, const Tensor& y) {
  const auto forward = &HWY_DYNAMIC_DISPATCH(Forward);
  ParallelRanges(y.rows(), gate_up.size(), [&](Range rows) { forward(gate_up, weight, y, rows); });
}

void SwiGluBackward(const OpContext&, const SwiGluGrad& g) {
  const auto backward = &HWY_DYNAMIC_DISPATCH(Backward);
  ParallelRanges(g.dy.rows(), g.gate_up.size(), [&](Range rows) { backward(g, rows); });
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
