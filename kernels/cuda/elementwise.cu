// Copy, add, fill, random numbers, AdamW: each element by itself, once through memory.
#include "kernels/base/philox.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/fixed_point.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ref/adamw.h"

namespace jevons::cuda {
namespace {

template <typename A, typename B>
__global__ void CopyKernel(RowGrid grid, View<const A> src, View<B> dst, int64_t cols) {
  constexpr int kWidth = kWidthOf<A, B>;
  ForPacks<4>(
      grid, [&](int64_t r, int64_t p) { return LoadRaw<kWidth>(src.row(r) + p * kWidth, cols - p * kWidth, src.vector); },
      [&](int64_t r, int64_t p, const RawPack<A, kWidth>& raw) {
        Store(raw.Widened(), dst.row(r) + p * kWidth, cols - p * kWidth, dst.vector);
      });
}

// Bytes from place to place, as words of as many bytes as both addresses allow.
struct PartJob {
  const char* from;
  char* to;
  int64_t bytes;
  int word;
};
constexpr int kCopiedPacks = 8;                                 // words of a thread
constexpr int64_t kCopiedWords = kBlockThreads * kCopiedPacks;  // of a block

template <typename Word>
__device__ __forceinline__ void CopyWords(const PartJob& job, int64_t block) {
  const Word* from = reinterpret_cast<const Word*>(job.from);
  Word* to = reinterpret_cast<Word*>(job.to);
  const int64_t words = job.bytes / static_cast<int64_t>(sizeof(Word));
  const auto at = [&](int j) { return block * kCopiedWords + j * kBlockThreads + int64_t{threadIdx.x}; };
  Word word[kCopiedPacks];
#pragma unroll
  for (int j = 0; j < kCopiedPacks; ++j)
    if (at(j) < words) word[j] = from[at(j)];
#pragma unroll
  for (int j = 0; j < kCopiedPacks; ++j)
    if (at(j) < words) to[at(j)] = word[j];
  const int64_t rest = words * static_cast<int64_t>(sizeof(Word)) + threadIdx.x;
  if (block == 0 && rest < job.bytes) job.to[rest] = job.from[rest];
}

template <int kCapacity>
__global__ void __launch_bounds__(kBlockThreads) CopyPartsKernel(const __grid_constant__ JobTable<PartJob, kCapacity> table) {
  const int index = table.IndexOf(blockIdx.x);
  const PartJob& job = table.jobs[index];
  const int64_t block = blockIdx.x - table.first[index];
  switch (job.word) {
    case 16: return CopyWords<uint4>(job, block);
    case 8: return CopyWords<uint2>(job, block);
    case 4: return CopyWords<uint32_t>(job, block);
    case 2: return CopyWords<uint16_t>(job, block);
    default: return CopyWords<uint8_t>(job, block);
  }
}

template <typename S, int kWidth>
struct Terms {
  RawPack<S, kWidth> a, b;
};

template <typename S>
__global__ void AddKernel(RowGrid grid, View<const S> a, View<const S> b, View<S> out, int64_t cols) {
  constexpr int kWidth = kWidthOf<S>;
  ForPacks<4>(
      grid,
      [&](int64_t r, int64_t p) -> Terms<S, kWidth> {
        const int64_t c = p * kWidth;
        return {LoadRaw<kWidth>(a.row(r) + c, cols - c, a.vector), LoadRaw<kWidth>(b.row(r) + c, cols - c, b.vector)};
      },
      [&](int64_t r, int64_t p, const Terms<S, kWidth>& terms) {
        Pack<kWidth> sum = terms.a.Widened();
        const Pack<kWidth> other = terms.b.Widened();
#pragma unroll
        for (int i = 0; i < kWidth; ++i) sum.v[i] += other.v[i];
        Store(sum, out.row(r) + p * kWidth, cols - p * kWidth, out.vector);
      });
}

__global__ void FillKernel(RowGrid grid, float value, View<float> dst, int64_t cols) {
  constexpr int kWidth = kWidthOf<float>;
  Pack<kWidth> pack;
#pragma unroll
  for (float& v : pack.v) v = value;
  ForPacks(grid, [&](int64_t r, int64_t p) { Store(pack, dst.row(r) + p * kWidth, cols - p * kWidth, dst.vector); });
}

__global__ void FillNormalKernel(RowGrid grid, uint64_t seed, uint64_t purpose, int64_t offset, double std, View<float> dst,
                                 int64_t n) {
  constexpr int kWidth = kWidthOf<float>;
  ForPacks(grid, [&](int64_t, int64_t p) {
    const int64_t c = p * kWidth;
    Pack<kWidth> pack;
    for (int i = 0; i < kWidth; ++i)
      pack.v[i] = static_cast<float>(std * RandomNormal(seed, purpose, static_cast<uint64_t>(offset + c + i)));
    Store(pack, dst.data + c, n - c, dst.vector);
  });
}

constexpr int kAdamWWidth = kWidthOf<float>;
constexpr int64_t kAdamWElements = kBlockThreads * RowGrid::kPacks * kAdamWWidth;  // of a block

// Moments are S, gradients G: FP32 or integers in fixed point.
template <typename S, typename G>
struct AdamWJob {
  float* master;
  const G* grad;
  S *m, *v;
  bf16* compute;
  int64_t n;
  float keep;
  bool vector;  // all of them
};

template <typename S, typename G, int kCapacity>
__global__ void __launch_bounds__(kBlockThreads)
    AdamWKernel(const __grid_constant__ JobTable<AdamWJob<S, G>, kCapacity> table, ref::AdamWFactors factors, double grad_unit) {
  constexpr int kWidth = kAdamWWidth;
  const int index = table.IndexOf(blockIdx.x);
  const AdamWJob<S, G>& job = table.jobs[index];
  const int64_t begin = (blockIdx.x - table.first[index]) * kAdamWElements;
  for (int j = 0; j < RowGrid::kPacks; ++j) {
    const int64_t c = begin + (j * kBlockThreads + int64_t{threadIdx.x}) * kWidth, n = job.n - c;
    if (n <= 0) return;
    Pack<kWidth> w = Load<kWidth>(job.master + c, n, job.vector);
    const Pack<kWidth> g = LoadNumbers<kWidth>(job.grad + c, grad_unit, n, job.vector);
    Pack<kWidth> first = Load<kWidth>(job.m + c, n, job.vector), second = Load<kWidth>(job.v + c, n, job.vector);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) ref::AdamW(factors, job.keep, g.v[i], w.v[i], first.v[i], second.v[i]);
    Store(w, job.master + c, n, job.vector);
    Store(first, job.m + c, n, job.vector);
    Store(second, job.v + c, n, job.vector);
    if (job.compute != nullptr) Store(w, job.compute + c, n, job.vector);
  }
}

template <typename S, typename G>
AdamWJob<S, G> JobOf(const AdamWSlice& s, float keep) {
  const auto vector = [](const Tensor& t) { return CanVector(Flat(t, true), kAdamWWidth); };
  return {.master = s.master.as<float>(),
          .grad = s.grad.as<G>(),
          .m = s.m.as<S>(),
          .v = s.v.as<S>(),
          .compute = s.compute ? s.compute.as<bf16>() : nullptr,
          .n = s.master.size(),
          .keep = keep,
          .vector = vector(s.master) && vector(s.grad) && vector(s.m) && vector(s.v) && (!s.compute || vector(s.compute))};
}

}  // namespace

void Copy(const OpContext& ctx, const Tensor& src, const Tensor& dst) {
  const bool flat = src.contiguous() && dst.contiguous();
  const Tensor from = Flat(src, flat), to = Flat(dst, flat);
  ForReal(src.dtype, [&](auto a) {
    ForReal(dst.dtype, [&](auto b) {
      using A = decltype(a);
      using B = decltype(b);
      constexpr int kWidth = kWidthOf<A, B>;
      LaunchRows(ctx, CopyKernel<A, B>, to.rows(), CeilDiv(to.cols(), kWidth), ViewOf<const A>(from, kWidth),
                 ViewOf<B>(to, kWidth), to.cols());
    });
  });
}

void CopyParts(const OpContext& ctx, std::span<const CopiedPart> parts) {
  std::vector<SizedJob<PartJob>> jobs;
  for (const auto& [from, to, bytes] : parts) {
    const int word = WordOf(reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to));
    jobs.push_back(
        {{static_cast<const char*>(from), static_cast<char*>(to), bytes, word}, CeilDiv(CeilDiv(bytes, word), kCopiedWords)});
  }
  LaunchJobs(ctx, jobs, kBlockThreads, [](auto capacity) { return CopyPartsKernel<capacity.value>; });
}

void Add(const OpContext& ctx, const Tensor& a, const Tensor& b, const Tensor& out) {
  const bool flat = a.contiguous() && b.contiguous() && out.contiguous();
  const Tensor x = Flat(a, flat), y = Flat(b, flat), to = Flat(out, flat);
  ForReal(out.dtype, [&](auto s) {
    using S = decltype(s);
    constexpr int kWidth = kWidthOf<S>;
    LaunchRows(ctx, AddKernel<S>, to.rows(), CeilDiv(to.cols(), kWidth), ViewOf<const S>(x, kWidth), ViewOf<const S>(y, kWidth),
               ViewOf<S>(to, kWidth), to.cols());
  });
}

void Fill(const OpContext& ctx, float value, const Tensor& dst) {
  constexpr int kWidth = kWidthOf<float>;
  const Tensor to = Flat(dst, dst.contiguous());
  LaunchRows(ctx, FillKernel, to.rows(), CeilDiv(to.cols(), kWidth), value, ViewOf<float>(to, kWidth), to.cols());
}

void FillNormal(const OpContext& ctx, uint64_t seed, uint64_t purpose, int64_t offset, float std, const Tensor& dst) {
  constexpr int kWidth = kWidthOf<float>;
  LaunchRows(ctx, FillNormalKernel, 1, CeilDiv(dst.size(), kWidth), seed, purpose, offset, double{std},
             ViewOf<float>(Flat(dst, true), kWidth), dst.size());
}

void AdamW(const OpContext& ctx, const AdamWDesc& d, std::span<const AdamWSlice> slices) {
  const ref::AdamWFactors factors = ref::MakeAdamWFactors(d.learning_rate, d.beta1, d.beta2, d.eps, d.grad_scale, d.step);
  const auto launch = [&](auto s, auto g) {
    using S = decltype(s);
    using G = decltype(g);
    std::vector<SizedJob<AdamWJob<S, G>>> jobs;
    for (const AdamWSlice& slice : slices)
      jobs.push_back(
          {JobOf<S, G>(slice, ref::AdamWKeep(d.learning_rate, slice.decay)), CeilDiv(slice.master.size(), kAdamWElements)});
    LaunchJobs(
        ctx, jobs, kBlockThreads, [](auto capacity) { return AdamWKernel<S, G, capacity.value>; }, factors, d.grad_unit);
  };
  ForReal(slices[0].m.dtype, [&](auto s) { slices[0].grad.dtype == DType::kI64 ? launch(s, int64_t()) : launch(s, float()); });
}

}  // namespace jevons::cuda
