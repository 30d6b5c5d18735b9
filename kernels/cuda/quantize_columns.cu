// Quantisation by columns, and by blocks with the codes both ways: a block of threads takes a panel of 128 x 128 numbers. A thread has
// eight rows of eight columns in registers; the largest magnitudes meet in shared memory, and the codes too, to be written
// transposed: 128 neighbouring bytes for each column. Every number is read once, every code written once.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/quantize_columns.h"

namespace jevons::cuda {
namespace {

constexpr int kPanel = static_cast<int>(kTileSize);  // rows and columns
constexpr int kAcross = kPanel / kCodes;             // threads across a panel, eight columns each
constexpr int kDown = kBlockThreads / kAcross;       // threads down, eight rows each
constexpr int kRows = kPanel / kDown;
static_assert(kRows == 8 && kCodes == 8, "a thread's rows of one column are a chunk of eight codes");

// Where the numbers come from. Get(r, c, n): the numbers from (r, c) on, of which n exist.
template <typename S>
struct Numbers {
  View<const S> x;
  using Raw = RawPack<S, kCodes>;
  __device__ __forceinline__ Raw Get(int64_t r, int64_t c, int64_t n) const { return LoadRaw<kCodes>(x.row(r) + c, n, x.vector); }
};
// From codes in 1x128 tiles.
template <class F>
struct ScaledCodes {
  View<const uint8_t> codes;
  View<const float> scales;
  using Raw = RawPack<float, kCodes>;
  __device__ __forceinline__ Raw Get(int64_t r, int64_t c, int64_t n) const {
    Raw raw = {};
    if (n <= 0) return raw;
    CodePack<F> pack;
    pack.Load(codes.row(r), c / kCodes, c + n, codes.vector);
    const Pack<kCodes> numbers = pack.Decoded(scales.row(r)[c / kTileSize]);
#pragma unroll
    for (int i = 0; i < kCodes; ++i) raw.words.w[i] = i < n ? __float_as_uint(numbers.v[i]) : 0u;
    return raw;
  }
};

struct PanelsOut {
  View<uint8_t> codes;  // [cols, rows]
  float* scales;        // [tiles of rows, cols]
  int64_t scale_pitch;
  int64_t rows, cols, across;  // of the matrix; panels across
  ScaleKind kind;
  LossCounter lost;
};

struct PanelRoom {
  alignas(16) uint32_t amax[kDown][kPanel];
  float scale[kPanel], inverse[kPanel];
  alignas(16) uint64_t chunks[kPanel * kDown];
};

// A chunk: the codes of one column of the thread's rows.
template <class F, typename Raw>
__device__ __forceinline__ uint64_t EncodeColumn(const Raw (&raw)[kRows], int column, float inverse, bool finite, bool count,
                                                 Lost& lost) {
  Pack<kCodes> numbers;
#pragma unroll
  for (int k = 0; k < kRows; ++k) numbers.v[k] = raw[k].Widened().v[column];
  CodePack<F> codes;
  codes.Encode(numbers, inverse, finite, count, lost);
  return uint64_t{codes.words.w[1]} << 32 | codes.words.w[0];
}

// room.scale = the scales of the panel's columns; whether all numbers are finite.
template <class F, typename Raw>
__device__ __forceinline__ bool FindScales(const Raw (&raw)[kRows], int tx, int ty, ScaleKind kind, PanelRoom& room) {
  const auto reduce = [&](auto magnitude) {  // returns the largest magnitude of column threadIdx.x
    uint32_t amax[kCodes] = {};
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      const Pack<kCodes> numbers = raw[k].Widened();
#pragma unroll
      for (int i = 0; i < kCodes; ++i) amax[i] = max(amax[i], magnitude(numbers.v[i]));
    }
#pragma unroll
    for (int i = 0; i < kCodes; i += 4)
      *reinterpret_cast<uint4*>(&room.amax[ty][tx * kCodes + i]) = make_uint4(amax[i], amax[i + 1], amax[i + 2], amax[i + 3]);
    __syncthreads();
    uint32_t largest = 0;
    if (threadIdx.x < kPanel) {
#pragma unroll
      for (int d = 0; d < kDown; ++d) largest = max(largest, room.amax[d][threadIdx.x]);
    }
    return largest;
  };
  uint32_t amax = reduce([](float v) { return __float_as_uint(v) & 0x7FFFFFFFu; });
  const bool finite = __syncthreads_or(amax >= kInfinityBits) == 0;
  if (!finite) {
    amax = reduce([](float v) {
      const uint32_t bits = __float_as_uint(v) & 0x7FFFFFFFu;
      return bits < kInfinityBits ? bits : 0u;
    });
  }
  if (threadIdx.x < kPanel) {
    const float scale = ScaleOf<F>(__uint_as_float(amax), kind);
    room.scale[threadIdx.x] = scale;
    room.inverse[threadIdx.x] = 1.0f / scale;
  }
  __syncthreads();
  return finite;
}

// The chunks of the panel at (row, col) to the columns of the transposed codes [cols, rows].
__device__ __forceinline__ void WriteChunks(const uint64_t (&chunks)[kPanel * kDown], const View<uint8_t>& out, int64_t rows,
                                            int64_t cols, int64_t row, int64_t col) {
  for (int i = static_cast<int>(threadIdx.x); i < kPanel * kDown; i += kBlockThreads) {
    const int c = i / kDown, chunk = i % kDown;
    const int64_t r = row + chunk * kRows, n = rows - r;
    if (col + c >= cols || n <= 0) continue;
    const uint64_t codes = chunks[ChunkPlace(c, chunk)];
    uint8_t* to = out.row(col + c) + r;
    if (out.vector && n >= kRows) {
      *reinterpret_cast<uint64_t*>(to) = codes;
      continue;
    }
    for (int k = 0; k < kRows && k < n; ++k) to[k] = static_cast<uint8_t>(codes >> 8 * k);
  }
}

// Panel `panel` of the matrix, in row-major order.
template <class F, class Source>
__device__ __forceinline__ void QuantizePanel(const Source& source, const PanelsOut& out, unsigned panel) {
  __shared__ PanelRoom room;
  const int tx = static_cast<int>(threadIdx.x) % kAcross, ty = static_cast<int>(threadIdx.x) / kAcross;
  const int64_t tile = panel / out.across, row = tile * kPanel, col = panel % out.across * kPanel;
  const int64_t c = col + tx * kCodes;
  typename Source::Raw raw[kRows];
#pragma unroll
  for (int k = 0; k < kRows; ++k) {
    const int64_t r = row + ty * kRows + k;
    raw[k] = source.Get(r, c, r < out.rows ? out.cols - c : 0);
  }
  const bool finite = FindScales<F>(raw, tx, ty, out.kind, room);
  if (threadIdx.x < kPanel && col + threadIdx.x < out.cols)
    out.scales[tile * out.scale_pitch + col + threadIdx.x] = room.scale[threadIdx.x];
  Lost lost;
#pragma unroll
  for (int i = 0; i < kCodes; ++i) {
    const int column = tx * kCodes + i;
    room.chunks[ChunkPlace(column, ty)] = EncodeColumn<F>(raw, i, room.inverse[column], finite, out.lost.stats != nullptr, lost);
  }
  __syncthreads();
  WriteChunks(room.chunks, out.codes, out.rows, out.cols, row, col);
  AddLost(lost, out.lost, panel == 0);
}

template <class F, class Source>
__global__ void __launch_bounds__(kBlockThreads, 2) PanelKernel(Source source, PanelsOut out) {
  QuantizePanel<F>(source, out, blockIdx.x);
}

template <class F>
struct RequantizeJob {
  ScaledCodes<F> source;
  PanelsOut out;
};

template <class F, int kCapacity>
__global__ void __launch_bounds__(kBlockThreads, 2)
    RequantizeKernel(const __grid_constant__ JobTable<RequantizeJob<F>, kCapacity> table) {
  const int index = table.IndexOf(blockIdx.x);
  QuantizePanel<F>(table.jobs[index].source, table.jobs[index].out, blockIdx.x - table.first[index]);
}

// A weight in blocks, its codes and scales both as it lies and turned.
template <typename S>
struct WeightJob {
  View<const S> x;
  View<uint8_t> codes, turned;
  View<float> scales, turned_scales;
  int64_t rows, cols;
};

template <typename S, int kCapacity>
__global__ void __launch_bounds__(kBlockThreads, 2)
    WeightsKernel(const __grid_constant__ JobTable<WeightJob<S>, kCapacity> table, QuantStats* stats) {
  using F = E4M3;
  __shared__ uint32_t maxima[kBlockThreads / 32];
  alignas(16) __shared__ uint64_t chunks[kPanel * kDown];
  const int index = table.IndexOf(blockIdx.x);
  const WeightJob<S>& w = table.jobs[index];
  const unsigned panel = blockIdx.x - table.first[index];
  const int tx = static_cast<int>(threadIdx.x) % kAcross, ty = static_cast<int>(threadIdx.x) / kAcross;
  const int64_t across = TilesOf(w.cols), tile_r = panel / across, tile_c = panel % across;
  const int64_t c = tile_c * kPanel + tx * kCodes, first = tile_r * kPanel + ty * kRows;
  const Numbers<S> source = {w.x};
  RawPack<S, kCodes> raw[kRows];
#pragma unroll
  for (int k = 0; k < kRows; ++k) raw[k] = source.Get(first + k, c, first + k < w.rows ? w.cols - c : 0);
  const BlockScale scale = BlockScaleOf<F>(raw, ScaleKind::kFp32, maxima);
  if (threadIdx.x == 0) w.scales.row(tile_r)[tile_c] = w.turned_scales.row(tile_c)[tile_r] = scale.scale;
  Lost lost;
  CodePack<F> codes[kRows];
#pragma unroll
  for (int k = 0; k < kRows; ++k) {
    codes[k].Encode(raw[k].Widened(), scale.inverse, scale.finite, stats != nullptr, lost);
    if (first + k < w.rows) codes[k].Store(w.codes.row(first + k), c / kCodes, w.cols, w.codes.vector);
  }
#pragma unroll
  for (int i = 0; i < kCodes; ++i) {
    uint64_t chunk = 0;
#pragma unroll
    for (int k = 0; k < kRows; ++k) chunk |= uint64_t{codes[k].code(i)} << 8 * k;
    chunks[ChunkPlace(tx * kCodes + i, ty)] = chunk;
  }
  __syncthreads();
  WriteChunks(chunks, w.turned, w.rows, w.cols, tile_r * kPanel, tile_c * kPanel);
  AddLost(lost, {stats, w.rows * w.cols}, panel == 0);
}

PanelsOut OutOf(int64_t rows, int64_t cols, const Tensor& codes, const Tensor& scales, ScaleKind kind, QuantStats* stats) {
  return {.codes = ViewOf<uint8_t>(codes, kCodes),
          .scales = scales.as<float>(),
          .scale_pitch = scales.pitch,
          .rows = rows,
          .cols = cols,
          .across = TilesOf(cols),
          .kind = kind,
          .lost = {stats, rows * cols}};
}
int64_t PanelsOf(const PanelsOut& out) { return TilesOf(out.rows) * out.across; }

template <class F>
RequantizeJob<F> JobOf(const RequantizeDesc& d) {
  return {.source = {ViewOf<const uint8_t>(d.codes, kCodes), ViewOf<const float>(d.scales, 1)},
          .out = OutOf(d.codes.rows(), d.codes.cols(), d.out_codes, d.out_scales, d.scale_kind, d.stats)};
}

}  // namespace

void QuantizeColumns(const OpContext& ctx, const QuantizeDesc& d) {
  const PanelsOut out = OutOf(d.x.rows(), d.x.cols(), d.codes, d.scales, d.scale_kind, d.stats);
  ForReal(d.x.dtype, [&](auto s) {
    using Source = Numbers<decltype(s)>;
    const Source numbers = {ViewOf<const decltype(s)>(d.x, kCodes)};
    ForByteFormat(d.format, [&](auto f) {
      Launch(ctx, PanelKernel<decltype(f), Source>, PanelsOf(out), dim3(kBlockThreads), 0, numbers, out);
    });
  });
}

void RequantizeTransposed(const OpContext& ctx, std::span<const RequantizeDesc> descs) {
  for (NumberFormat format : {NumberFormat::kE4M3, NumberFormat::kE5M2}) {
    ForByteFormat(format, [&](auto f) {
      using F = decltype(f);
      std::vector<SizedJob<RequantizeJob<F>>> jobs;
      for (const RequantizeDesc& d : descs) {
        if (d.format != format) continue;
        const RequantizeJob<F> job = JobOf<F>(d);
        jobs.push_back({job, PanelsOf(job.out)});
      }
      LaunchJobs(ctx, jobs, kBlockThreads, [](auto capacity) { return RequantizeKernel<F, capacity.value>; });
    });
  }
}

void QuantizeWeights(const OpContext& ctx, std::span<const QuantizeWeightDesc> descs, QuantStats* stats) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    ForReal(dtype, [&](auto s) {
      using S = decltype(s);
      std::vector<SizedJob<WeightJob<S>>> jobs;
      for (const auto& [value, weight] : descs) {
        if (value.dtype != dtype) continue;
        jobs.push_back({{.x = ViewOf<const S>(value, kCodes),
                         .codes = ViewOf<uint8_t>(weight.plain.codes, kCodes),
                         .turned = ViewOf<uint8_t>(weight.turned.codes, kCodes),
                         .scales = ViewOf<float>(weight.plain.scales, 1),
                         .turned_scales = ViewOf<float>(weight.turned.scales, 1),
                         .rows = value.rows(),
                         .cols = value.cols()},
                        TilesOf(value.rows()) * TilesOf(value.cols())});
      }
      LaunchJobs(
          ctx, jobs, kBlockThreads, [](auto capacity) { return WeightsKernel<S, capacity.value>; }, stats);
    });
  }
}

}  // namespace jevons::cuda
