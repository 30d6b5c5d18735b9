// The loops of one rectangle of C, compiled once per instruction set:
//
//   for each slab of k:                    at most kSlabDepth words deep
//     pack B's slab into panels            kPanel columns wide, streamed from L2 by each micro-kernel
//     for each strip of A's rows:          packed only where it does not lie as words already
//       for each kRows rows, each panel:   the micro-kernel: kRows x kPanel sums in registers
#include "kernels/cpu/gemm_tile.h"

#include <algorithm>
#include <cstdlib>
#include <memory>

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)  // no code is made for them: no fused multiply-add
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm_tile.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/gemm_micro-inl.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
const TileKernel* Kernel() { return nullptr; }
#else

static_assert(kStripRows % kRows == 0 && kTileCols % kPanel == 0 && kMaxLanes % kLanes == 0);

int64_t RoundUpToLanes(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// One slab of one product's operands, on its way through the loops.
template <typename Words>
struct SlabLoop {
  const GemmDesc& desc;
  int64_t begin, terms;  // the slab is k = [begin, begin + terms)
  bool first, last;      // slab of k
  Range cols;            // of C
  const GemmScratch& scratch;

  int64_t depth() const { return WordsIn<Words>(terms); }

  void PackB() const {
    using In = typename Words::Element;
    const In* b = static_cast<const In*>(desc.b.data);
    const int64_t pitch = desc.b.pitch;
    float* to = scratch.slab;
    for (int64_t j = cols.begin; j < cols.end; j += kPanel, to += kPanel * depth()) {
      const int64_t n = std::min(kPanel, cols.end - j), width = RoundUpToLanes(n);
      if (desc.b_form == Form::kPlain) {
        PackPlain<Words>(b + begin * pitch + j, pitch, terms, n, width, to);
      } else {
        PackTransposed<Words>(b + j * pitch + begin, pitch, terms, n, width, to);
      }
    }
  }

  // Sets args.a to the words of A's rows [row, row + rows).
  void PackA(int64_t row, int64_t rows, MicroArgs& args) const {
    using In = typename Words::Element;
    const In* a = static_cast<const In*>(desc.a.data);
    const int64_t pitch = desc.a.pitch;
    args.a = scratch.strip;
    if (desc.a_form == Form::kTransposed) {
      a += begin * pitch + row;
      args.a_pitch = kStripRows;
      for (int64_t w = 0; w < depth(); ++w) {
        const int64_t l = w * Words::kTerms;
        Words::StackRows(a + l * pitch, pitch, terms - l, rows, scratch.strip + w * kStripRows);
      }
    } else if (a += row * pitch + begin; Words::InPlace(desc.a, desc.k())) {
      args.a = reinterpret_cast<const float*>(a);
      args.a_pitch = pitch / Words::kTerms;
    } else {
      args.a_pitch = kSlabDepth;
      for (int64_t i = 0; i < rows; ++i) PackRow<Words>(a + i * pitch, terms, scratch.strip + i * kSlabDepth);
    }
  }

  // All panels of `rows` <= kRows rows from `row` on, whose words are at args.a. Sums that are not yet C's
  // are kept at `state`, rows kTileCols apart; without another slab to come the same few lines of cache do.
  template <typename Out>
  void RunRows(MicroArgs args, int64_t row, int64_t rows, float* state) const {
    const MicroTable& table = MicroTableOf<Words>(desc.a_form);
    Out* c = static_cast<Out*>(desc.c.data) + row * desc.c.pitch;
    args.b = scratch.slab;
    for (int64_t j = cols.begin; j < cols.end; j += kPanel, args.b += kPanel * depth()) {
      const int64_t n = std::min(kPanel, cols.end - j), width = RoundUpToLanes(n);
      const bool direct = std::is_same_v<Out, float> && desc.mode == WriteMode::kOverwrite && n == width;
      args.b_pitch = width;
      args.sums = direct ? reinterpret_cast<float*>(c + j) : first && last ? state : state + (j - cols.begin);
      args.sums_pitch = direct ? desc.c.pitch : kTileCols;
      table[rows - 1][width / kLanes - 1](args);
      if (!direct && last) WriteOut(args.sums, args.sums_pitch, rows, n, desc.mode, c + j, desc.c.pitch);
    }
  }

  void RunProduct(Range rows, float* state) const {
    MicroArgs args{};
    args.depth = depth();
    args.first = first;
    for (int64_t row = rows.begin; row < rows.end; row += kStripRows) {
      const int64_t strip_rows = std::min(kStripRows, rows.end - row);
      PackA(row, strip_rows, args);
      for (int64_t i = 0; i < strip_rows; i += kRows) {
        const int64_t count = std::min(kRows, strip_rows - i);
        float* const at = first && last ? state : state + (row + i - rows.begin) * kTileCols;
        if (desc.c.dtype == DType::kF32) {
          RunRows<float>(args, row + i, count, at);
        } else {
          RunRows<bf16>(args, row + i, count, at);
        }
        args.a += kRows * (desc.a_form == Form::kPlain ? args.a_pitch : 1);
      }
    }
  }
};

template <typename Words>
void RunTile(const GemmTile& tile, const GemmScratch& scratch) {
  constexpr int64_t kSlabTerms = kSlabDepth * Words::kTerms;
  const int64_t k = tile.descs.front().k();
  for (int64_t l = 0; l == 0 || l < k; l += kSlabTerms) {
    bool packed = false;
    float* state = scratch.state;
    ForEachProduct(tile, [&](const GemmDesc& desc, Range rows) {
      const SlabLoop<Words> loop{desc, l, std::min(kSlabTerms, k - l), l == 0, l + kSlabTerms >= k, tile.cols, scratch};
      if (!packed) loop.PackB();
      packed = true;
      loop.RunProduct(rows, state);
      state += rows.size() * kTileCols;
    });
  }
}

void RunAscending(const GemmTile& tile, const GemmScratch& scratch) {
  (tile.descs.front().a.dtype == DType::kF32 ? RunTile<FmaWords<float> > : RunTile<FmaWords<bf16> >)(tile, scratch);
}

const TileKernel* Kernel() {
#if HWY_TARGET <= HWY_AVX3  // or better
  constexpr TileFunction kPairs = RunTile<DotWords>;
#else
  constexpr TileFunction kPairs = nullptr;
#endif
  static const TileKernel kKernel{hwy::TargetName(HWY_TARGET), RunAscending, kPairs};
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
  JEVONS_CHECK(buffer != nullptr, "no memory for a thread's scratch of matrix products");
  return {buffer.get(), buffer.get() + kSlab, buffer.get() + kSlab + kStrip};
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
