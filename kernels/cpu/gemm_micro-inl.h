// The micro-kernel of the CPU's own GEMM and the rounding of its sums, compiled once per instruction set.
#if defined(JEVONS_KERNELS_CPU_GEMM_MICRO_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef JEVONS_KERNELS_CPU_GEMM_MICRO_INL_H_
#undef JEVONS_KERNELS_CPU_GEMM_MICRO_INL_H_
#else
#define JEVONS_KERNELS_CPU_GEMM_MICRO_INL_H_
#endif

#include <array>
#include <utility>

#include "kernels/cpu/gemm_pack-inl.h"
#include "kernels/ops/gemm.h"

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
HWY_BEFORE_NAMESPACE();
namespace jevons::cpu {
namespace HWY_NAMESPACE {

// Sums in registers: 6 x 64 with 32 vector registers (24 sums, 4 of B, 1 of A), 6 x 16 with AVX2's 16 (12, 2,
// 1).
constexpr int64_t kRows = 6;
constexpr int64_t kVectors = HWY_TARGET == HWY_AVX2 ? 2 : 4;
constexpr int64_t kPanel = kVectors * kLanes;

// Operands in words. A's word (i,l) is a[i*a_pitch + l], or a[l*a_pitch + i] if transposed; B's (l,j) is
// b[l*b_pitch + j].
struct MicroArgs {
  const float* a;
  int64_t a_pitch;
  const float* b;
  int64_t b_pitch;
  int64_t depth;
  float* sums;  // [kM, kN * kLanes]
  int64_t sums_pitch;
  bool first;  // start from zero instead of from sums
};

// sums[i,j] continued over `depth` words, for kM rows and kN vectors of columns.
template <typename Words, Form kForm, int64_t kM, int64_t kN>
void MicroKernel(const MicroArgs& args) {
  const D d;
  V sum[kM][kN];
#pragma GCC unroll 8
  for (int64_t i = 0; i < kM; ++i) {
#pragma GCC unroll 8
    for (int64_t j = 0; j < kN; ++j) {
      sum[i][j] = args.first ? hn::Zero(d) : hn::LoadU(d, args.sums + i * args.sums_pitch + j * kLanes);
    }
  }
  const float* HWY_RESTRICT a = args.a;
  const float* HWY_RESTRICT b = args.b;
  const int64_t a_row = kForm == Form::kPlain ? args.a_pitch : 1;
  const int64_t a_step = kForm == Form::kPlain ? 1 : args.a_pitch;
  for (int64_t l = 0; l < args.depth; ++l, a += a_step, b += args.b_pitch) {
    V bv[kN];
#pragma GCC unroll 8
    for (int64_t j = 0; j < kN; ++j) bv[j] = hn::LoadU(d, b + j * kLanes);
#pragma GCC unroll 8
    for (int64_t i = 0; i < kM; ++i) {
      const V av = hn::Set(d, a[i * a_row]);
#pragma GCC unroll 8
      for (int64_t j = 0; j < kN; ++j) sum[i][j] = Words::MulAdd(av, bv[j], sum[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int64_t i = 0; i < kM; ++i) {
#pragma GCC unroll 8
    for (int64_t j = 0; j < kN; ++j) hn::StoreU(sum[i][j], d, args.sums + i * args.sums_pitch + j * kLanes);
  }
}

using MicroFunction = void (*)(const MicroArgs&);
using MicroTable = std::array<std::array<MicroFunction, kVectors>, kRows>;  // [rows - 1][vectors - 1]

template <typename Words, Form kForm>
constexpr MicroTable MakeMicroTable() {
  MicroTable table{};
  [&]<size_t... kIndex>(std::index_sequence<kIndex...>) {
    ((table[kIndex / kVectors][kIndex % kVectors] = &MicroKernel<Words, kForm, kIndex / kVectors + 1, kIndex % kVectors + 1>),
     ...);
  }
  (std::make_index_sequence<kRows * kVectors>());
  return table;
}

// The table for operands A lying in `form` after packing. BF16 and FP32 elements make the same one-term
// words.
template <typename Words>
const MicroTable& MicroTableOf(Form form) {
  using Shared = std::conditional_t<Words::kTerms == 1, FmaWords<float>, Words>;
  static constexpr MicroTable kPlain = MakeMicroTable<Shared, Form::kPlain>();
  static constexpr MicroTable kTransposed = MakeMicroTable<Shared, Form::kTransposed>();
  return form == Form::kPlain ? kPlain : kTransposed;
}

HWY_INLINE void StoreRounded(D d, V value, float* p) { hn::StoreU(value, d, p); }
HWY_INLINE void StoreRounded(D d, V value, bf16* p) {  // the rounding of bf16(float), on vectors
  const hn::RebindToSigned<D> di;
  const hn::Rebind<uint16_t, D> d16;
  const auto half = hn::Set(di, 0xFFFF);
  const auto u = hn::BitCast(di, value);
  const auto upper = hn::And(hn::ShiftRight<16>(u), half);
  const auto bias = hn::Add(hn::And(upper, hn::Set(di, 1)), hn::Set(di, 0x7FFF));
  const auto rounded = hn::And(hn::ShiftRight<16>(hn::Add(u, bias)), half);
  const auto is_nan = hn::Gt(hn::And(u, hn::Set(di, 0x7FFFFFFF)), hn::Set(di, 0x7F800000));
  const auto bits = hn::IfThenElse(is_nan, hn::Or(upper, hn::Set(di, 0x40)), rounded);
  hn::StoreU(hn::DemoteTo(d16, bits), d16, reinterpret_cast<uint16_t*>(p));
}

// c = sums or c + sums, rounded once.
template <typename Out>
void WriteOut(const float* sums, int64_t sums_pitch, int64_t rows, int64_t cols, WriteMode mode, Out* c, int64_t pitch) {
  const D d;
  for (int64_t i = 0; i < rows; ++i, sums += sums_pitch, c += pitch) {
    int64_t j = 0;
    for (; j + kLanes <= cols; j += kLanes) {
      const V sum = hn::LoadU(d, sums + j);
      StoreRounded(d, mode == WriteMode::kAdd ? hn::Add(LoadAsF32(d, c + j), sum) : sum, c + j);
    }
    for (; j < cols; ++j) c[j] = Out(mode == WriteMode::kAdd ? static_cast<float>(c[j]) + sums[j] : sums[j]);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace jevons::cpu
HWY_AFTER_NAMESPACE();
#endif  // a target with vectors

#endif  // JEVONS_KERNELS_CPU_GEMM_MICRO_INL_H_
