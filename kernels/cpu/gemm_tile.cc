// The loops of one rectangle of C, compiled once per instruction set:
//
//   for each slab of k:                    at most kSlabDepth deep
//     pack B's slab into panels            kVectors vectors wide, FP32, streamed from L2 by each micro-kernel
//     for each strip of A's rows:          packed only if BF16 or transposed
//       for each kRows rows, each panel:   the micro-kernel: kRows x kVectors sums in registers
#include "kernels/cpu/gemm_tile.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <utility>

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)  // they have no fused multiply-add
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm_tile.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/gemm_pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
const TileKernel* Kernel() { return nullptr; }
#else

// Sums in registers: 6 x 64 with 32 vector registers (24 sums, 4 of B, 1 of A), 6 x 16 with AVX2's 16 (12, 2, 1).
constexpr int64_t kRows = 6;
constexpr int64_t kVectors = HWY_TARGET == HWY_AVX2 ? 2 : 4;
constexpr int64_t kPanel = kVectors * kLanes;
static_assert(kStripRows % kRows == 0 && kTileCols % kPanel == 0 && kLanes <= kMaxVectorLanes);

// The micro-kernel: sums[i, j] for kM rows and kN vectors of columns, continued over `depth` terms. A's element (i,l) is
// a[i*a_pitch + l], or a[l*a_pitch + i] if transposed; B's is b[l*b_pitch + j].
struct MicroArgs {
  const float* a;
  int64_t a_pitch;
  const float* b;
  int64_t b_pitch;
  int64_t depth;
  float* sums;
  int64_t sums_pitch;
  bool first;  // start from zero instead of from sums
};

template <Form kForm, int64_t kM, int64_t kN>
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
      for (int64_t j = 0; j < kN; ++j) sum[i][j] = hn::MulAdd(av, bv[j], sum[i][j]);
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

template <Form kForm>
constexpr MicroTable MakeMicroTable() {
  MicroTable table{};
  [&]<size_t... kIndex>(std::index_sequence<kIndex...>) {
    ((table[kIndex / kVectors][kIndex % kVectors] =
          &MicroKernel<kForm, kIndex / kVectors + 1, kIndex % kVectors + 1>),
     ...);
  }(std::make_index_sequence<kRows * kVectors>());
  return table;
}
constexpr MicroTable kMicroTables[2] = {MakeMicroTable<Form::kPlain>(), MakeMicroTable<Form::kTransposed>()};

HWY_INLINE void StoreRounded(D d, V value, float* p) { hn::StoreU(value, d, p); }
HWY_INLINE void StoreRounded(D d, V value, bf16* p) {  // the rounding of bf16(float), on vectors
  const hn::RebindToSigned<D> di;
  const hn::Rebind<uint16_t, D> d16;
  const auto u = hn::BitCast(di, value);
  const auto upper = hn::And(hn::ShiftRight<16>(u), hn::Set(di, 0xFFFF));
  const auto even = hn::And(upper, hn::Set(di, 1));
  const auto rounded = hn::And(hn::ShiftRight<16>(hn::Add(u, hn::Add(even, hn::Set(di, 0x7FFF)))), hn::Set(di, 0xFFFF));
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

// The slab of B in front of the micro-kernels: panel p at data + p * panel_stride, rows pitch apart.
struct SlabView {
  const float* data;
  int64_t panel_stride, pitch;  // pitch 0: the panel's own width
};

struct Slab {
  int64_t begin, depth;  // of k
  bool first, last;
};

int64_t RoundUpToLanes(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

template <typename In>
void PackB(const GemmDesc& desc, const Slab& slab, Range cols, float* to) {
  for (int64_t j = cols.begin; j < cols.end; j += kPanel, to += kPanel * slab.depth) {
    const int64_t n = std::min(kPanel, cols.end - j), width = RoundUpToLanes(n);
    const In* b = static_cast<const In*>(desc.b.data);
    if (desc.b_form == Form::kPlain) {
      PackPlain(b + slab.begin * desc.b.pitch + j, desc.b.pitch, slab.depth, n, width, to);
    } else {
      PackTransposed(b + j * desc.b.pitch + slab.begin, desc.b.pitch, slab.depth, n, width, to);
    }
  }
}

// A's rows [row, row + rows) over the slab, as FP32 in `form`; packed unless it lies so already.
struct StripView {
  const float* data;
  int64_t pitch;
};

template <typename In>
StripView PackA(const GemmDesc& desc, const Slab& slab, int64_t row, int64_t rows, float* to) {
  const In* a = static_cast<const In*>(desc.a.data);
  if (desc.a_form == Form::kTransposed) {
    a += slab.begin * desc.a.pitch + row;
    for (int64_t l = 0; l < slab.depth; ++l) CopyRow(a + l * desc.a.pitch, rows, to + l * kStripRows);
    return {to, kStripRows};
  }
  a += row * desc.a.pitch + slab.begin;
  if constexpr (std::is_same_v<In, float>) {
    return {a, desc.a.pitch};
  } else {
    for (int64_t i = 0; i < rows; ++i) CopyRow(a + i * desc.a.pitch, slab.depth, to + i * kSlabDepth);
    return {to, kSlabDepth};
  }
}

// Up to kRows rows [row, row + rows) of one product, all panels. `state` holds their sums between slabs.
template <typename Out>
void RunRows(const GemmDesc& desc, const Slab& slab, const SlabView& b, MicroArgs args, int64_t row, int64_t rows,
             Range cols, float* state) {
  const bool one_slab = slab.first && slab.last;
  Out* c = static_cast<Out*>(desc.c.data) + row * desc.c.pitch;
  for (int64_t j = cols.begin, p = 0; j < cols.end; j += kPanel, ++p) {
    const int64_t n = std::min(kPanel, cols.end - j), width = RoundUpToLanes(n);
    const bool direct = std::is_same_v<Out, float> && desc.mode == WriteMode::kOverwrite && n == width;
    args.b = b.data + p * b.panel_stride;
    args.b_pitch = b.pitch != 0 ? b.pitch : width;
    if (direct) {
      args.sums = reinterpret_cast<float*>(c + j);
      args.sums_pitch = desc.c.pitch;
    } else {
      args.sums = one_slab ? state : state + (j - cols.begin);
      args.sums_pitch = one_slab ? kPanel : kTileCols;
    }
    kMicroTables[desc.a_form == Form::kTransposed][rows - 1][width / kLanes - 1](args);
    if (!direct && slab.last) WriteOut(args.sums, args.sums_pitch, rows, n, desc.mode, c + j, desc.c.pitch);
  }
}

// Rows `rows` of one product; its first row's sums are at `state` between slabs.
template <typename In, typename Out>
void RunProduct(const GemmDesc& desc, const Slab& slab, const SlabView& b, Range rows, Range cols, float* strip,
                float* state) {
  const bool one_slab = slab.first && slab.last;
  for (int64_t row = rows.begin; row < rows.end; row += kStripRows) {
    const int64_t strip_rows = std::min(kStripRows, rows.end - row);
    const StripView a = PackA<In>(desc, slab, row, strip_rows, strip);
    for (int64_t i = 0; i < strip_rows; i += kRows) {
      MicroArgs args;
      args.a = a.data + i * (desc.a_form == Form::kPlain ? a.pitch : 1);
      args.a_pitch = a.pitch;
      args.depth = slab.depth;
      args.first = slab.first;
      float* row_state = one_slab ? state : state + (row + i - rows.begin) * kTileCols;
      RunRows<Out>(desc, slab, b, args, row + i, std::min(kRows, strip_rows - i), cols, row_state);
    }
  }
}

template <typename In>
void RunTileOf(const GemmTile& tile, const GemmScratch& scratch) {
  const GemmDesc& front = tile.descs.front();
  const int64_t k = front.k();
  for (int64_t l = 0; l == 0 || l < k; l += kSlabDepth) {
    const Slab slab{l, std::min(kSlabDepth, k - l), l == 0, l + kSlabDepth >= k};
    PackB<In>(front, slab, tile.cols, scratch.slab);
    const SlabView b{scratch.slab, kPanel * slab.depth, 0};
    int64_t product_begin = 0;
    for (const GemmDesc& desc : tile.descs) {
      const Range rows{std::max<int64_t>(tile.rows.begin - product_begin, 0),
                       std::min(tile.rows.end - product_begin, desc.m())};
      float* state = scratch.state;
      if (!(slab.first && slab.last)) state += (product_begin + rows.begin - tile.rows.begin) * kTileCols;
      product_begin += desc.m();
      if (rows.empty()) continue;
      const auto run = desc.c.dtype == DType::kF32 ? RunProduct<In, float> : RunProduct<In, bf16>;
      run(desc, slab, b, rows, tile.cols, scratch.strip, state);
    }
  }
}

void RunTile(const GemmTile& tile, const GemmScratch& scratch) {
  (tile.descs.front().a.dtype == DType::kF32 ? RunTileOf<float> : RunTileOf<bf16>)(tile, scratch);
}

const TileKernel* Kernel() {
  static const TileKernel kKernel{hwy::TargetName(HWY_TARGET), RunTile};
  return &kKernel;
}

#endif  // a target with vectors

}  // namespace HWY_NAMESPACE
}  // namespace jevons::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {

HWY_EXPORT(Kernel);
const TileKernel* BestTileKernel() { return HWY_DYNAMIC_DISPATCH(Kernel)(); }

GemmScratch GemmScratch::OfThisThread() {
  constexpr int64_t kSlab = kSlabDepth * kTileCols, kStrip = kStripRows * kSlabDepth, kState = kTileRows * kTileCols;
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  thread_local const std::unique_ptr<float, Free> buffer(
      static_cast<float*>(std::aligned_alloc(64, (kSlab + kStrip + kState) * sizeof(float))));
  return {buffer.get(), buffer.get() + kSlab, buffer.get() + kSlab + kStrip};
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
