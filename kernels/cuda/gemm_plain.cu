// Products by the definition (kernels/ref/gemm.h, kernels/ref/fp8_gemm.h), in tiles of 64 x 64: what every other implementation is
// compared with on the device, and what serves a product that they refuse.
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/fp8/tensor_core.h"

namespace jevons::cuda {
namespace {

constexpr int kSide = 64, kTerms = 16;  // of a tile; terms at a time
constexpr int kThreadsSide = 16;        // threads of a block: 16 x 16
constexpr int kEach = kSide / kThreadsSide;
static_assert(kThreadsSide * kThreadsSide == kBlockThreads && kTileSize % kTerms == 0);

// Lines (rows of op(A), columns of op(B)) of terms along k.
template <typename In>
struct Lines {
  const In* data;
  int64_t line_stride, term_stride, lines, terms;

  // Zero beyond.
  __device__ __forceinline__ float operator()(int64_t line, int64_t term) const {
    if (line >= lines || term >= terms) return 0;
    const In value = data[line * line_stride + term * term_stride];
    if constexpr (sizeof(In) == 1) {
      return Decode<E4M3>(value);
    } else {
      return static_cast<float>(value);
    }
  }

  // Loads [64 lines][16 terms] so that neighbouring threads read neighbouring addresses.
  __device__ __forceinline__ void Load(int64_t line0, int64_t term0, float (*to)[kSide + 1]) const {
    for (int i = static_cast<int>(threadIdx.x); i < kSide * kTerms; i += kBlockThreads) {
      const int line = term_stride == 1 ? i / kTerms : i % kSide, term = term_stride == 1 ? i % kTerms : i / kSide;
      to[term][line] = (*this)(line0 + line, term0 + term);
    }
  }
};

struct Scales {
  ScaleView a, b;
};

template <typename Out>
struct Sums {
  Out* data;
  int64_t pitch;
  bool add;

  __device__ __forceinline__ void Put(int64_t i, int64_t j, float sum) const {
    Out& out = data[i * pitch + j];
    out = Out(add ? static_cast<float>(out) + sum : sum);
  }
};

template <typename In, typename Out>
__global__ void __launch_bounds__(kBlockThreads) PlainKernel(Lines<In> a, Lines<In> b, Scales scales, Sums<Out> c) {
  constexpr bool kScaled = sizeof(In) == 1;
  __shared__ float a_terms[kTerms][kSide + 1], b_terms[kTerms][kSide + 1];
  const int64_t tiles = CeilDiv(b.lines, kSide), i0 = blockIdx.x / tiles * kSide, j0 = blockIdx.x % tiles * kSide;
  const int y = static_cast<int>(threadIdx.x) / kThreadsSide, x = static_cast<int>(threadIdx.x) % kThreadsSide;
  float sum[kEach][kEach] = {}, scaled[kEach][kEach] = {};
  for (int64_t k0 = 0; k0 < a.terms; k0 += kTerms) {
    __syncthreads();
    a.Load(i0, k0, a_terms);
    b.Load(j0, k0, b_terms);
    __syncthreads();
    const int terms = static_cast<int>(a.terms - k0 < kTerms ? a.terms - k0 : kTerms);
    for (int t = 0; t < terms; ++t) {
#pragma unroll
      for (int i = 0; i < kEach; ++i)
#pragma unroll
        for (int j = 0; j < kEach; ++j)
          sum[i][j] = fmaf(a_terms[t][y + i * kThreadsSide], b_terms[t][x + j * kThreadsSide], sum[i][j]);
    }
    if constexpr (kScaled) {
      if ((k0 + kTerms) % kTileSize == 0 || k0 + kTerms >= a.terms) {
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
#pragma unroll
          for (int j = 0; j < kEach; ++j) {
            const int64_t row = i0 + y + i * kThreadsSide, col = j0 + x + j * kThreadsSide, block = k0 / kTileSize;
            if (row < a.lines && col < b.lines)
              scaled[i][j] = scaled[i][j] + sum[i][j] * (scales.a(row, block) * scales.b(col, block));
            sum[i][j] = 0;
          }
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int64_t row = i0 + y + i * kThreadsSide, col = j0 + x + j * kThreadsSide;
      if (row < a.lines && col < b.lines) c.Put(row, col, kScaled ? scaled[i][j] : sum[i][j]);
    }
  }
}

// A sum that never leaves the tensor core, by the model of it: one thread per element.
template <typename Out>
__global__ void __launch_bounds__(kBlockThreads) ChainKernel(Lines<uint8_t> a, Lines<uint8_t> b, Scales scales, Sums<Out> c) {
  const int64_t at = int64_t{blockIdx.x} * kBlockThreads + threadIdx.x;
  if (at >= a.lines * b.lines) return;
  const int64_t row = at / b.lines, col = at % b.lines;
  float acc = 0;
  for (int64_t begin = 0; begin < a.terms; begin += kTileSize) {
    const int64_t end = begin + kTileSize < a.terms ? begin + kTileSize : a.terms;
    const float scale = scales.a(row, begin / kTileSize) * scales.b(col, begin / kTileSize);
    float sum = acc / scale;
    for (int64_t l = begin; l < end; l += TensorCore::kProducts) {
      const int64_t n = end - l < TensorCore::kProducts ? end - l : TensorCore::kProducts;
      uint8_t x[TensorCore::kProducts], y[TensorCore::kProducts];
      for (int64_t t = 0; t < n; ++t) {
        x[t] = a.data[row * a.line_stride + (l + t) * a.term_stride];
        y[t] = b.data[col * b.line_stride + (l + t) * b.term_stride];
      }
      sum = TensorCoreStep<E4M3, E4M3>(x, y, n, sum);
    }
    acc = sum * scale;
  }
  c.Put(row, col, acc);
}

// a: [lines, terms] if `along`, else [terms, lines].
template <typename In>
Lines<In> LinesOf(const Tensor& t, bool along) {
  return along ? Lines<In>{t.as<In>(), t.pitch, 1, t.rows(), t.cols()} : Lines<In>{t.as<In>(), 1, t.pitch, t.cols(), t.rows()};
}

template <typename Out, class Desc>
Sums<Out> SumsOf(const Desc& d) {
  return {d.c.template as<Out>(), d.c.pitch, d.mode == WriteMode::kAdd};
}

int64_t Tiles(int64_t m, int64_t n) { return CeilDiv(m, kSide) * CeilDiv(n, kSide); }

}  // namespace

void PlainGemm(const OpContext& ctx, const GemmDesc& d) {
  ForReal(d.a.dtype, [&](auto in) {
    ForReal(d.c.dtype, [&](auto out) {
      using In = decltype(in);
      using Out = decltype(out);
      Launch(ctx, PlainKernel<In, Out>, Tiles(d.m(), d.n()), kBlockThreads, 0, LinesOf<In>(d.a, d.a_form == Form::kPlain),
             LinesOf<In>(d.b, d.b_form == Form::kTransposed), Scales{}, SumsOf<Out>(d));
    });
  });
}

void PlainFp8Gemm(const OpContext& ctx, const Fp8GemmDesc& d) {
  const Lines<uint8_t> a = LinesOf<uint8_t>(d.a.codes, true), b = LinesOf<uint8_t>(d.b.codes, d.b_form == Form::kTransposed);
  const Scales scales = {d.a_scales(), d.b_scales()};
  ForReal(d.c.dtype, [&](auto out) {
    using Out = decltype(out);
    if (d.promote) {
      Launch(ctx, PlainKernel<uint8_t, Out>, Tiles(d.m(), d.n()), kBlockThreads, 0, a, b, scales, SumsOf<Out>(d));
    } else {
      Launch(ctx, ChainKernel<Out>, CeilDiv(d.m() * d.n(), kBlockThreads), kBlockThreads, 0, a, b, scales, SumsOf<Out>(d));
    }
  });
}

}  // namespace jevons::cuda
