// Products on the tiles of AMX: packing, the loop over k, and the rectangle of C around it; compiled once per instruction set, with
// tiles where that has AVX-512.
//
// A tile of A is 16 rows by 16 words, one of B 16 words by 16 columns, one of C 16 x 16 sums in FP32. A word holds two neighbouring
// terms of k. One instruction continues the sums of a tile by 32 terms:
//
//   even = fma(a[0], b[0], 0), fma(a[2], b[2], even), ...;  odd the same over a[1], a[3], ...;  c = c + (even + odd)
//
// each operation rounded to nearest, denormals taken and given as zero. k is cut into such steps from 0 on and the last is filled up
// with zeros, as are rows and columns; hence an element's bits depend on its own operands and on k alone.
#if defined(JEVONS_KERNELS_CPU_AMX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef JEVONS_KERNELS_CPU_AMX_INL_H_
#undef JEVONS_KERNELS_CPU_AMX_INL_H_
#else
#define JEVONS_KERNELS_CPU_AMX_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/gemm_micro-inl.h"
#include "kernels/cpu/gemm_tile.h"

#undef JEVONS_TARGET_HAS_TILES
#define JEVONS_TARGET_HAS_TILES (HWY_ARCH_X86_64 && HWY_TARGET <= HWY_AVX3)

#if JEVONS_TARGET_HAS_TILES
HWY_BEFORE_NAMESPACE();
namespace jevons::cpu {
namespace HWY_NAMESPACE {

constexpr int64_t kTileLines = 16;              // rows of A or columns of B in a tile
constexpr int64_t kTileWords = 16;              // words of k in a tile
constexpr int64_t kTileTerms = 2 * kTileWords;  // terms of k in a tile: a step
constexpr int64_t kTileFloats = kTileLines * kTileWords;
constexpr int64_t kBlockLines = 2 * kTileLines;  // rows and columns of C that four tiles hold
// Terms packed at once. A's strip of 32 rows then takes 32 KiB, so that it stays in L1 while B's columns pass from L2.
constexpr int64_t kTileSlabTerms = 512;
constexpr int64_t kTileSlabSteps = kTileSlabTerms / kTileTerms;
static_assert(kTileSlabSteps * kTileFloats * (kTileCols / kTileLines) <= kSlabDepth * kTileCols);  // fits GemmScratch::slab
static_assert(kTileSlabSteps * kTileFloats * 2 <= kStripRows * kSlabDepth);                        // and ::strip
static_assert(kTileCols % kBlockLines == 0);

// The instructions. Those of <immintrin.h> do not tell GCC that they read memory, so that a store may be moved behind them.
template <int kTile>
HWY_INLINE void LoadTile(const float* p, int64_t pitch_bytes) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(pitch_bytes), "i"(kTile) : "memory");
}
template <int kTile>
HWY_INLINE void StoreTile(float* p, int64_t pitch_bytes) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(pitch_bytes), "i"(kTile) : "memory");
}
template <int kTile>
HWY_INLINE void ZeroTile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
template <int kC, int kA, int kB>
HWY_INLINE void MultiplyTiles() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
}

// While this lives the thread's eight tiles have 16 rows of 64 bytes. Released afterwards: tiles in use make each switch of the
// thread save 8 KiB.
class TileScope {
 public:
  TileScope() {
    struct alignas(64) Config {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    static constexpr Config kConfig;
    static_assert(sizeof(Config) == 64);
    asm volatile("ldtilecfg %0" : : "m"(kConfig));
  }
  ~TileScope() { asm volatile("tilerelease"); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

// Packed operands of a block of C, each in one or two tiles of lines and `steps` along k: a[(tile * tiles_apart + step) * kTileFloats].
struct TileOperands {
  const float* a;
  const float* b;
  int64_t tiles_apart;  // steps of the slab
  int64_t steps;
};

// sums[i,j] continued over `steps` for 16 kM rows and 16 kN columns; from zero if `first`. Tiles 0-3 hold C, 4 and 5 A, 6 and 7 B.
template <int kM, int kN>
void MultiplyBlock(const TileOperands& x, float* sums, int64_t pitch, bool first) {
  constexpr int64_t kRow = kTileWords * sizeof(float);
  const int64_t pitch_bytes = pitch * static_cast<int64_t>(sizeof(float));
  float* const lower = sums + kTileLines * pitch;
  if (first) {
    ZeroTile<0>();
    if (kN > 1) ZeroTile<1>();
    if (kM > 1) ZeroTile<2>();
    if (kM > 1 && kN > 1) ZeroTile<3>();
  } else {
    LoadTile<0>(sums, pitch_bytes);
    if (kN > 1) LoadTile<1>(sums + kTileLines, pitch_bytes);
    if (kM > 1) LoadTile<2>(lower, pitch_bytes);
    if (kM > 1 && kN > 1) LoadTile<3>(lower + kTileLines, pitch_bytes);
  }
  const float* a = x.a;
  const float* b = x.b;
  const int64_t next_tile = x.tiles_apart * kTileFloats;
  for (int64_t step = 0; step < x.steps; ++step, a += kTileFloats, b += kTileFloats) {
    LoadTile<6>(b, kRow);
    LoadTile<4>(a, kRow);
    MultiplyTiles<0, 4, 6>();
    if (kN > 1) {
      LoadTile<7>(b + next_tile, kRow);
      MultiplyTiles<1, 4, 7>();
    }
    if (kM > 1) {
      LoadTile<5>(a + next_tile, kRow);
      MultiplyTiles<2, 5, 6>();
    }
    if (kM > 1 && kN > 1) MultiplyTiles<3, 5, 7>();
  }
  StoreTile<0>(sums, pitch_bytes);
  if (kN > 1) StoreTile<1>(sums + kTileLines, pitch_bytes);
  if (kM > 1) StoreTile<2>(lower, pitch_bytes);
  if (kM > 1 && kN > 1) StoreTile<3>(lower + kTileLines, pitch_bytes);
}

// The same with the number of rows and columns, up to 32, known as the loops run.
inline void MultiplyBlock(int64_t m, int64_t n, const TileOperands& x, float* sums, int64_t pitch, bool first) {
  const auto multiply = m > kTileLines ? (n > kTileLines ? MultiplyBlock<2, 2> : MultiplyBlock<2, 1>)
                                       : (n > kTileLines ? MultiplyBlock<1, 2> : MultiplyBlock<1, 1>);
  multiply(x, sums, pitch, first);
}

enum class Side { kA, kB };

// Operands as they lie in memory: `lines` are rows of A or columns of B, each of `terms` of k.
template <typename Element>
struct Lines {
  const Element* data;
  int64_t pitch;
  bool terms_contiguous;  // data[line * pitch + term], else data[term * pitch + line]
  const Element* At(int64_t line, int64_t term) const {
    return data + (terms_contiguous ? line * pitch + term : term * pitch + line);
  }
};

// One whole tile: to[line * 16 + word] for A, to[word * 16 + line] for B.
template <typename Words, Side kSide>
void PackWholeTile(const Lines<typename Words::Element>& from, float* to) {
  const D d;
  if (from.terms_contiguous && kSide == Side::kA) {
    for (int64_t i = 0; i < kTileLines; ++i) hn::StoreU(Words::Load(d, from.data + i * from.pitch), d, to + i * kTileWords);
  } else if (from.terms_contiguous) {
    TransposeSquare<Words>(from.data, from.pitch, to, kTileLines);
  } else {
    alignas(64) float turned[kTileFloats];
    float* const stacked = kSide == Side::kA ? turned : to;
    for (int64_t w = 0; w < kTileWords; ++w) {
      Words::StackRows(from.data + 2 * w * from.pitch, from.pitch, 2, kTileLines, stacked + w * kTileLines);
    }
    if (kSide == Side::kA) TransposeSquare<FmaWords<float>>(turned, kTileLines, to, kTileWords);
  }
}

// One tile of which only `lines` by `terms` are there; the rest is zero.
template <typename Words, Side kSide>
void PackPartOfTile(const Lines<typename Words::Element>& from, int64_t lines, int64_t terms, float* to) {
  using Element = typename Words::Element;
  alignas(64) Element filled[kTileLines * kTileTerms] = {};
  const int64_t width = from.terms_contiguous ? kTileTerms : kTileLines;
  const int64_t rows = from.terms_contiguous ? lines : terms, cols = from.terms_contiguous ? terms : lines;
  for (int64_t i = 0; i < rows; ++i) std::copy_n(from.data + i * from.pitch, cols, filled + i * width);
  PackWholeTile<Words, kSide>({filled, width, from.terms_contiguous}, to);
}

// Tiles of `lines` by `terms`, filled up with zeros: to[(tile * steps + step) * kTileFloats].
template <typename Words, Side kSide>
void PackTiles(const Lines<typename Words::Element>& from, int64_t lines, int64_t terms, float* to) {
  using Element = typename Words::Element;
  const int64_t steps = (terms + kTileTerms - 1) / kTileTerms;
  for (int64_t line = 0; line < lines; line += kTileLines) {
    for (int64_t step = 0; step < steps; ++step, to += kTileFloats) {
      const int64_t term = step * kTileTerms;
      const Lines<Element> tile{from.At(line, term), from.pitch, from.terms_contiguous};
      if (lines - line >= kTileLines && terms - term >= kTileTerms) {
        PackWholeTile<Words, kSide>(tile, to);
      } else {
        PackPartOfTile<Words, kSide>(tile, std::min(kTileLines, lines - line), std::min(kTileTerms, terms - term), to);
      }
    }
  }
}

// The rows of C of one product in a rectangle, for one slab of k. Product: operands and the sums of a block of C:
//   product.BeginStrip(rows)                              before the blocks of up to 32 rows
//   product.Multiply(m, n, column, operands, sums, pitch, first)
//                                                         m x n sums (m, n <= 32, columns `column` on of the rectangle) continued;
//                                                         may write all 32 x 32
template <typename Words, typename Product>
struct TileSlab {
  using Element = typename Words::Element;

  const GemmDesc& desc;
  int64_t begin, terms;  // the slab is k = [begin, begin + terms)
  bool first, last;      // slab of k
  Range cols;            // of C
  const GemmScratch& scratch;

  int64_t steps() const { return (terms + kTileTerms - 1) / kTileTerms; }

  void PackB() const {
    const Lines<Element> b{static_cast<const Element*>(desc.b.data), desc.b.pitch, desc.b_form == Form::kTransposed};
    PackTiles<Words, Side::kB>({b.At(cols.begin, begin), b.pitch, b.terms_contiguous}, cols.size(), terms, scratch.slab);
  }

  // Sums that are not yet C's are kept at `state`, rows kTileCols apart.
  void Run(Product& product, Range rows, float* state) const {
    const Lines<Element> a{static_cast<const Element*>(desc.a.data), desc.a.pitch, desc.a_form == Form::kPlain};
    for (int64_t row = rows.begin; row < rows.end; row += kBlockLines, state += kBlockLines * kTileCols) {
      const int64_t m = std::min(kBlockLines, rows.end - row);
      PackTiles<Words, Side::kA>({a.At(row, begin), a.pitch, a.terms_contiguous}, m, terms, scratch.strip);
      product.BeginStrip({row, row + m});
      for (int64_t j = 0; j < cols.size(); j += kBlockLines) {
        const int64_t n = std::min(kBlockLines, cols.size() - j);
        const TileOperands operands{scratch.strip, scratch.slab + j * steps() * kTileWords, steps(), steps()};
        const Tensor c = desc.c.Rows(row, m).Columns(cols.begin + j, n);
        if (c.dtype == DType::kF32) {
          RunBlock<float>(product, operands, j, c, state + j);
        } else {
          RunBlock<bf16>(product, operands, j, c, state + j);
        }
      }
    }
  }

 private:
  // Whole tiles of sums grow where they will lie: in C, if it takes them as they are, or in the state. Others would overwrite what
  // stands beside them there, and grow in a block of their own.
  template <typename Out>
  void RunBlock(Product& product, const TileOperands& operands, int64_t column, const Tensor& c, float* state) const {
    const int64_t m = c.rows(), n = c.cols();
    const bool whole = m % kTileLines == 0 && n % kTileLines == 0;
    Out* const to = c.as<Out>();
    if (std::is_same_v<Out, float> && desc.mode == WriteMode::kOverwrite && whole) {
      return product.Multiply(m, n, column, operands, reinterpret_cast<float*>(to), c.pitch, first);
    }
    alignas(64) float block[kBlockLines * kBlockLines];
    const bool in_state = whole && !(first && last);
    float* const sums = in_state ? state : block;
    const int64_t pitch = in_state ? kTileCols : kBlockLines;
    if (!in_state && !first) CopyRows(state, kTileCols, m, n, block, kBlockLines);
    product.Multiply(m, n, column, operands, sums, pitch, first);
    if (last) {
      WriteOut(sums, pitch, m, n, desc.mode, to, c.pitch);
    } else if (!in_state) {
      CopyRows(block, kBlockLines, m, n, state, kTileCols);
    }
  }

  static void CopyRows(const float* from, int64_t from_pitch, int64_t rows, int64_t cols, float* to, int64_t to_pitch) {
    for (int64_t i = 0; i < rows; ++i) std::copy_n(from + i * from_pitch, cols, to + i * to_pitch);
  }
};

// A rectangle of C. make_product(desc, begin, terms, first) gives the Product of a slab.
template <typename Words, typename MakeProduct>
void RunRectangleOnTiles(const GemmTile& tile, const GemmScratch& scratch, const MakeProduct& make_product) {
  const TileScope tiles;
  const int64_t k = tile.descs.front().k();
  for (int64_t l = 0; l == 0 || l < k; l += kTileSlabTerms) {
    bool packed = false;
    float* state = scratch.state;
    ForEachProduct(tile, [&](const GemmDesc& desc, Range rows) {
      auto product = make_product(desc, Range{l, std::min(l + kTileSlabTerms, k)});
      const TileSlab<Words, decltype(product)> slab{
          desc, l, std::min(kTileSlabTerms, k - l), l == 0, l + kTileSlabTerms >= k, tile.cols, scratch};
      if (!packed) slab.PackB();
      packed = true;
      slab.Run(product, rows, state);
      state += rows.size() * kTileCols;
    });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace jevons::cpu
HWY_AFTER_NAMESPACE();
#endif  // JEVONS_TARGET_HAS_TILES

#endif  // JEVONS_KERNELS_CPU_AMX_INL_H_
