// SwiGLU and quantisation of its result, a strip of a row at a time: in between it stays in the nearest cache.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/swiglu_quantize.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/quantize_columns.h"
#include "kernels/cpu/quantize_strip-inl.h"
#include "kernels/cpu/swiglu-inl.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

template <bool kCount, typename S>
void ActivateRows(const SwiGluQuantizeDesc& d, Range rows, QuantStats& stats) {
  constexpr int64_t kWidth = kTilesPerStrip * kTileSize;
  const int64_t inner = d.codes.cols();
  S activated[kWidth], room[kTileSize];
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const float w = d.weight ? d.weight.as<float>()[r] : 1.0f;
    for (int64_t c = 0; c < inner; c += kWidth) {
      const int64_t n = std::min(kWidth, inner - c);
      const S* gate = d.gate_up.row<S>(r) + c;
      SwiGluRow(gate, gate + inner, w, n, activated);
      const Strip<S> strip{.rows = 1,
                           .cols = n,
                           .x = activated,
                           .pitch = kWidth,
                           .codes = d.codes.row<uint8_t>(r) + c,
                           .code_pitch = d.codes.pitch,
                           .scales = d.scales.row<float>(r) + c / kTileSize,
                           .kind = d.scale_kind,
                           .next = 0,
                           .room = room};
      QuantizeStrip<E4M3, kCount>(strip, stats);
    }
  }
}

void Activate(const SwiGluQuantizeDesc& d, Range rows, QuantStats& stats) {
  const bool count = d.stats != nullptr;
  if (d.gate_up.dtype == DType::kBF16)
    return count ? ActivateRows<true, bf16>(d, rows, stats) : ActivateRows<false, bf16>(d, rows, stats);
  return count ? ActivateRows<true, float>(d, rows, stats) : ActivateRows<false, float>(d, rows, stats);
}

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

HWY_EXPORT(Activate);

}  // namespace

void SwiGluQuantize(const OpContext&, const SwiGluQuantizeDesc& d) {
  const auto activate = &HWY_DYNAMIC_DISPATCH(Activate);
  ParallelCounts(d.codes.rows(), d.gate_up.size(), d.stats, [&](Range rows, QuantStats& stats) { activate(d, rows, stats); });
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
