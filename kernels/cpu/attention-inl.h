// What attention's forward and backward share: one head of one sequence in packed FP32, and small products on
// it. Included once per instruction set.
#include <algorithm>

#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/simd-inl.h"

#if defined(JEVONS_KERNELS_CPU_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef JEVONS_KERNELS_CPU_ATTENTION_INL_H_
#undef JEVONS_KERNELS_CPU_ATTENTION_INL_H_
#else
#define JEVONS_KERNELS_CPU_ATTENTION_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

// A tile of kTileRows x kTileVectors accumulators fills the registers: 24 of 32 with AVX-512, 12 of 16 with
// AVX2.
constexpr int kTileRows = 6;
constexpr int kTileVectors = kLanes >= 16 ? 4 : 2;
constexpr int64_t kPanel = kTileVectors * kLanes;  // keys that lie side by side in a transposed operand

struct Strided {
  const float* data;
  int64_t row, col;  // distances of neighbours, so that a transposed matrix needs no copy
};

// c = (add ? c : 0) + a b for R rows and V vectors of columns: one chain of fused multiply-adds per element,
// k ascending.
template <int R, int V>
HWY_INLINE void Tile(int64_t k, Strided a, const float* b, int64_t b_pitch, float* c, int64_t c_pitch, bool add) {
  VF sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[r][v] = add ? Load(c + r * c_pitch + v * kLanes) : hn::Zero(F32());
  }
  for (int64_t i = 0; i < k; ++i, b += b_pitch, a.data += a.col) {
    VF row[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) row[v] = Load(b + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const VF factor = hn::Set(F32(), a.data[r * a.row]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = hn::MulAdd(factor, row[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) Store(sum[r][v], c + r * c_pitch + v * kLanes);
  }
}

template <int V>
HWY_INLINE void TileColumn(int64_t m, int64_t k, Strided a, const float* b, int64_t b_pitch, float* c, int64_t c_pitch,
                           bool add) {
  for (; m >= kTileRows; m -= kTileRows, a.data += kTileRows * a.row, c += kTileRows * c_pitch)
    Tile<kTileRows, V>(k, a, b, b_pitch, c, c_pitch, add);
  if (m >= 4) {
    Tile<4, V>(k, a, b, b_pitch, c, c_pitch, add);
    m -= 4, a.data += 4 * a.row, c += 4 * c_pitch;
  }
  for (; m > 0; --m, a.data += a.row, c += c_pitch) Tile<1, V>(k, a, b, b_pitch, c, c_pitch, add);
}

// c [m, n] = (add ? c : 0) + a [m, k] b [k, n]; n is a multiple of kLanes.
HWY_NOINLINE void Multiply(int64_t m, int64_t n, int64_t k, Strided a, const float* b, int64_t b_pitch, float* c, int64_t c_pitch,
                           bool add) {
  for (; n >= kPanel; n -= kPanel, b += kPanel, c += kPanel) TileColumn<kTileVectors>(m, k, a, b, b_pitch, c, c_pitch, add);
  if (kTileVectors > 2 && n >= 2 * kLanes) {
    TileColumn<2>(m, k, a, b, b_pitch, c, c_pitch, add);
    n -= 2 * kLanes, b += 2 * kLanes, c += 2 * kLanes;
  }
  for (; n > 0; n -= kLanes, b += kLanes, c += kLanes) TileColumn<1>(m, k, a, b, b_pitch, c, c_pitch, add);
}

// c [m, n] = a [m, k] times the transposed rows `panels` (PackPanels): n keys, rounded up to whole panels.
HWY_INLINE void MultiplyPanels(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_pitch, const float* panels, float* c,
                               int64_t c_pitch) {
  for (int64_t j = 0; j < n; j += kPanel)
    TileColumn<kTileVectors>(m, k, {a, a_pitch, 1}, panels + j * k, kPanel, c + j, c_pitch, false);
}

// Columns [begin, begin + n) of row r, times `factor`, as FP32; and back.
HWY_INLINE void LoadColumns(const Tensor& t, int64_t r, int64_t begin, int64_t n, float factor, float* out) {
  const VF f = hn::Set(F32(), factor);
  if (t.dtype == DType::kBF16) {
    const bf16* in = t.row<bf16>(r) + begin;
    ForLanes(n, [&](int64_t i, int64_t count) JEVONS_LANES { Store(hn::Mul(Load(in + i, count), f), out + i, count); });
  } else {
    const float* in = t.row<float>(r) + begin;
    ForLanes(n, [&](int64_t i, int64_t count) JEVONS_LANES { Store(hn::Mul(Load(in + i, count), f), out + i, count); });
  }
}

HWY_INLINE void StoreColumns(const float* in, float factor, const Tensor& t, int64_t r, int64_t begin, int64_t n) {
  const VF f = hn::Set(F32(), factor);
  if (t.dtype == DType::kBF16) {
    bf16* out = t.row<bf16>(r) + begin;
    ForLanes(n, [&](int64_t i, int64_t count) JEVONS_LANES { Store(hn::Mul(Load(in + i, count), f), out + i, count); });
  } else {
    float* out = t.row<float>(r) + begin;
    ForLanes(n, [&](int64_t i, int64_t count) JEVONS_LANES { Store(hn::Mul(Load(in + i, count), f), out + i, count); });
  }
}

// rows [n, dim] -> panels of kPanel rows side by side: panel p holds [dim, kPanel], rows beyond n as zeros.
HWY_INLINE void PackPanels(const float* rows, int64_t n, int64_t dim, int64_t pitch, float* panels) {
  for (int64_t begin = 0; begin < n; begin += kPanel, panels += dim * kPanel) {
    const int64_t count = std::min<int64_t>(kPanel, n - begin);
    for (int64_t i = 0; i < dim; ++i) {
      for (int64_t j = 0; j < count; ++j) panels[i * kPanel + j] = rows[(begin + j) * pitch + i];
      std::fill(panels + i * kPanel + count, panels + (i + 1) * kPanel, 0.0f);
    }
  }
}

// What a GPU's tensor cores would be given: the value rounded to BF16, where the tensors are BF16.
HWY_INLINE VF AsStored(VF v, bool bf16_mode) { return bf16_mode ? Widen(Narrow(v)) : v; }

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
