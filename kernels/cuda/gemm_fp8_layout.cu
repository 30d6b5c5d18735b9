#include "kernels/cuda/gemm_fp8_layout.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"

namespace jevons::cuda {
namespace {

constexpr int kWord = static_cast<int>(kCodeAlignment);            // codes that a thread moves at a time
constexpr int kSide = 128;                                         // of a transposed tile
constexpr int kTileWords = kSide * kSide / kWord / kBlockThreads;  // of a thread: 4
constexpr int kTilePitch = kSide + 4;  // bytes: a column's bytes lie in different banks from their neighbours' 4 columns on

struct Codes {
  const uint8_t* data;
  int64_t pitch, rows, cols;
  bool vector;

  // Sixteen codes of row r from column c on; zeros beyond.
  __device__ __forceinline__ Words<4> Load(int64_t r, int64_t c) const {
    Words<4> words = {};
    if (r >= rows || c >= cols) return words;
    const uint8_t* from = data + r * pitch + c;
    if (vector && c + kWord <= cols) return LoadWords<4>(from);
#pragma unroll
    for (int i = 0; i < kWord; ++i)
      if (c + i < cols) words.w[i / 4] |= uint32_t{from[i]} << 8 * (i % 4);
    return words;
  }
};

Codes CodesOf(const Tensor& t) { return {t.as<uint8_t>(), t.pitch, t.rows(), t.cols(), CanVector(t, kWord)}; }

// out: [lines, words * 16], aligned, no gaps.
__global__ void PadKernel(Codes x, uint8_t* out, int64_t words, int64_t total) {
  const int64_t i = int64_t{blockIdx.x} * kBlockThreads + threadIdx.x;
  if (i < total) StoreWords(x.Load(i / words, i % words * kWord), out + i * kWord);
}

// A tile of 128 x 128 codes passes through shared memory: rows go in by words, columns come out by words. out: [lines, pitch],
// aligned.
__global__ void __launch_bounds__(kBlockThreads)
    TransposeKernel(Codes x, int64_t tiles_c, uint8_t* out, int64_t pitch, int64_t lines) {
  __shared__ uint32_t tile[kSide * kTilePitch / 4];
  const int64_t tile_r = blockIdx.x / tiles_c, tile_c = blockIdx.x % tiles_c, r0 = tile_r * kSide, c0 = tile_c * kSide;
  Words<4> loaded[kTileWords];
#pragma unroll
  for (int j = 0; j < kTileWords; ++j) {
    const int w = static_cast<int>(threadIdx.x) + j * kBlockThreads;
    loaded[j] = x.Load(r0 + w / (kSide / kWord), c0 + w % (kSide / kWord) * kWord);
  }
#pragma unroll
  for (int j = 0; j < kTileWords; ++j) {
    const int w = static_cast<int>(threadIdx.x) + j * kBlockThreads;
#pragma unroll
    for (int i = 0; i < 4; ++i) tile[w / (kSide / kWord) * (kTilePitch / 4) + w % (kSide / kWord) * 4 + i] = loaded[j].w[i];
  }
  __syncthreads();
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(tile);
#pragma unroll
  for (int j = 0; j < kTileWords; ++j) {
    const int w = static_cast<int>(threadIdx.x) + j * kBlockThreads;
    const int c = w % kSide, r = w / kSide * kWord;  // neighbours read neighbouring columns
    Words<4> words = {};
#pragma unroll
    for (int i = 0; i < kWord; ++i) words.w[i / 4] |= uint32_t{bytes[(r + i) * kTilePitch + c]} << 8 * (i % 4);
    if (c0 + c < lines && r0 + r < pitch) StoreWords(words, out + (c0 + c) * pitch + r0 + r);
  }
}

// out[outer][inner], where one index is the line and the other the block of k.
__global__ void ScalesKernel(ScaleView scales, bool lines_inside, int64_t lines, int64_t blocks, int64_t inner, int64_t total,
                             float* out) {
  const int64_t i = int64_t{blockIdx.x} * kBlockThreads + threadIdx.x;
  if (i >= total) return;
  const int64_t line = lines_inside ? i % inner : i / inner, block = lines_inside ? i / inner : i % inner;
  out[i] = line < lines && block < blocks ? scales(line, block) : 1.0f;
}

}  // namespace

void FillPaddedCodes(const OpContext& ctx, const Tensor& x, const Tensor& out) {
  const int64_t words = out.pitch / kWord, total = out.rows() * words;
  Launch(ctx, PadKernel, CeilDiv(total, kBlockThreads), kBlockThreads, 0, CodesOf(x), out.as<uint8_t>(), words, total);
}

void FillTransposedCodes(const OpContext& ctx, const Tensor& x, const Tensor& out) {
  const int64_t tiles_c = CeilDiv(out.rows(), kSide);
  Launch(ctx, TransposeKernel, CeilDiv(out.pitch, kSide) * tiles_c, kBlockThreads, 0, CodesOf(x), tiles_c, out.as<uint8_t>(),
         out.pitch, out.rows());
}

void FillScales(const OpContext& ctx, const ScaleView& scales, bool lines_inside, int64_t lines, int64_t blocks,
                const Tensor& out) {
  Launch(ctx, ScalesKernel, CeilDiv(out.size(), kBlockThreads), kBlockThreads, 0, scales, lines_inside, lines, blocks, out.cols(),
         out.size(), out.as<float>());
}

}  // namespace jevons::cuda
