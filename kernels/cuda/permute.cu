// Rows to experts and back, and the embedding: moves of whole rows by index. An index out of range stops the device, as a
// broken invariant.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/fixed_point.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda/sort.h"
#include "kernels/tensor/device.h"

namespace jevons::cuda {
namespace {

constexpr int kRowsAtOnce = 8;  // of one sum, loaded together and then added in order

__device__ __forceinline__ int64_t Checked(int64_t index, int64_t limit) {
  if (index < 0 || index >= limit) __trap();
  return index;
}

__device__ __forceinline__ int64_t TokenOf(int32_t pair, int32_t slots) {
  return pair < 0 ? -1 : int64_t{static_cast<uint32_t>(pair) / static_cast<uint32_t>(slots)};
}

// Rows of words; pitches in words.
template <typename Word>
__global__ void GatherKernel(RowGrid grid, const Word* x, int64_t x_rows, int64_t x_pitch, const int32_t* pair_of, int32_t slots,
                             Word* y, int64_t y_pitch) {
  const int64_t to = grid.RowOf(blockIdx.x, static_cast<int>(threadIdx.y));
  if (to >= grid.rows) return;
  const Word* from = x + Checked(TokenOf(pair_of[to], slots), x_rows) * x_pitch;
  ForPacks<4>(
      grid, [&](int64_t, int64_t c) { return from[c]; },
      [&](int64_t row, int64_t c, const Word& word) { y[row * y_pitch + c] = word; });
}

template <typename Word>
void Gather(const OpContext& ctx, const Tensor& x, const Tensor& pair_of, int64_t slots, const Tensor& y) {
  constexpr int64_t kBytes = sizeof(Word);
  const int64_t size = SizeOf(y.dtype);
  LaunchRows(ctx, GatherKernel<Word>, y.rows(), y.cols() * size / kBytes, static_cast<const Word*>(x.data), x.rows(),
             x.pitch * size / kBytes, pair_of.as<int32_t>(), static_cast<int32_t>(slots), static_cast<Word*>(y.data),
             y.pitch * size / kBytes);
}

// The rows of sum t: rows [t * slots, (t + 1) * slots), or where there are offsets [offsets[t], offsets[t + 1]).
template <typename A, typename B>
__global__ void SumRowsKernel(RowGrid grid, View<const A> y, int64_t y_rows, const int32_t* row_of, const int32_t* offsets,
                              int64_t slots, View<B> out, bool add, int64_t cols) {
  constexpr int kWidth = kWidthOf<A, B>;
  ForPacks(grid, [&](int64_t t, int64_t p) {
    const int64_t c = p * kWidth, n = cols - c;
    const int64_t begin = offsets == nullptr ? t * slots : offsets[t];
    const int64_t terms_here = offsets == nullptr ? slots : offsets[t + 1] - begin;
    const int32_t* rows = row_of + begin;
    Pack<kWidth> sum;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum.v[i] = 0;
    for (int64_t k = 0; k < terms_here; k += kRowsAtOnce) {
      int64_t from[kRowsAtOnce];
#pragma unroll
      for (int j = 0; j < kRowsAtOnce; ++j) from[j] = k + j < terms_here ? Checked(rows[k + j], y_rows) : -1;
      RawPack<A, kWidth> terms[kRowsAtOnce];
#pragma unroll
      for (int j = 0; j < kRowsAtOnce; ++j)
        if (from[j] >= 0) terms[j] = LoadRaw<kWidth>(y.row(from[j]) + c, n, y.vector);
#pragma unroll
      for (int j = 0; j < kRowsAtOnce; ++j) {
        if (from[j] < 0) continue;
        const Pack<kWidth> term = terms[j].Widened();
#pragma unroll
        for (int i = 0; i < kWidth; ++i) sum.v[i] = k + j == 0 ? term.v[i] : sum.v[i] + term.v[i];
      }
    }
    if (add) {
      const Pack<kWidth> before = Load<kWidth>(out.row(t) + c, n, out.vector);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum.v[i] = before.v[i] + sum.v[i];
    }
    Store(sum, out.row(t) + c, n, out.vector);
  });
}

void SumListed(const OpContext& ctx, const Tensor& y, const int32_t* row_of, const int32_t* offsets, int64_t slots,
               const Tensor& out, WriteMode mode) {
  ForReal(y.dtype, [&](auto a) {
    ForReal(out.dtype, [&](auto b) {
      using A = decltype(a);
      using B = decltype(b);
      constexpr int kWidth = kWidthOf<A, B>;
      LaunchRows(ctx, SumRowsKernel<A, B>, out.rows(), CeilDiv(out.cols(), kWidth), ViewOf<const A>(y, kWidth), y.rows(), row_of,
                 offsets, slots, ViewOf<B>(out, kWidth), mode == WriteMode::kAdd, out.cols());
    });
  });
}

// The row of each slot in the order of its token's groups, stably; of each group the last as its complement.
__global__ void OrderByGroupKernel(const int32_t* indices, const int32_t* row_of, int64_t rows, int64_t pairs, int64_t slots,
                                   int32_t experts_per_group, int32_t* order) {
  const int64_t pair = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (pair >= pairs) return;
  const int64_t first = pair - pair % slots;
  const auto group = [&](int64_t p) {
    return static_cast<int32_t>(Checked(indices[p], int64_t{INT32_MAX} + 1)) / experts_per_group;
  };
  const int32_t own = group(pair);
  int64_t place = first;
  bool last = true;
  for (int64_t p = first; p < first + slots; ++p) {
    const int32_t other = group(p);
    if (other < own || (other == own && p < pair)) ++place;
    if (other == own && p > pair) last = false;
  }
  const auto row = static_cast<int32_t>(Checked(row_of[pair], rows));
  order[place] = last ? ~row : row;
}

template <typename A, typename B>
__global__ void SumGroupsKernel(RowGrid grid, View<const A> y, const int32_t* order, int64_t slots, View<B> out, bool add,
                                int64_t cols) {
  constexpr int kWidth = kWidthOf<A, B>;
  ForPacks(grid, [&](int64_t t, int64_t p) {
    const int64_t c = p * kWidth, n = cols - c;
    const int32_t* rows = order + t * slots;
    Pack<kWidth> of_group, sum;
    bool group_begins = true, sum_begins = true;
    for (int64_t k = 0; k < slots; k += kRowsAtOnce) {
      int32_t row[kRowsAtOnce];
      RawPack<A, kWidth> terms[kRowsAtOnce];
#pragma unroll
      for (int j = 0; j < kRowsAtOnce; ++j) row[j] = k + j < slots ? rows[k + j] : 0;
#pragma unroll
      for (int j = 0; j < kRowsAtOnce; ++j)
        if (k + j < slots) terms[j] = LoadRaw<kWidth>(y.row(row[j] < 0 ? ~row[j] : row[j]) + c, n, y.vector);
#pragma unroll
      for (int j = 0; j < kRowsAtOnce; ++j) {
        if (k + j >= slots) continue;
        const Pack<kWidth> term = terms[j].Widened();
#pragma unroll
        for (int i = 0; i < kWidth; ++i) of_group.v[i] = group_begins ? term.v[i] : of_group.v[i] + term.v[i];
        group_begins = row[j] < 0;
        if (!group_begins) continue;
        const Pack<kWidth> rounded = RoundedTo<A>(of_group);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) sum.v[i] = sum_begins ? rounded.v[i] : sum.v[i] + rounded.v[i];
        sum_begins = false;
      }
    }
    if (add) {
      const Pack<kWidth> before = Load<kWidth>(out.row(t) + c, n, out.vector);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum.v[i] = before.v[i] + sum.v[i];
    }
    Store(sum, out.row(t) + c, n, out.vector);
  });
}

// Where SumIdsKernel puts the sum of an id: FP32, or fixed point.
constexpr int kIdsWidth = kWidthOf<float>;
template <typename G>
struct SumOfIds {
  View<float> table;
  bool add;

  __device__ __forceinline__ void Put(Pack<kIdsWidth> sum, int64_t id, int64_t c, int64_t n) const {
    float* to = table.row(id) + c;
    if (add) {
      const Pack<kIdsWidth> before = Load<kIdsWidth>(to, n, table.vector);
#pragma unroll
      for (int i = 0; i < kIdsWidth; ++i) sum.v[i] = before.v[i] + sum.v[i];
    }
    Store(sum, to, n, table.vector);
  }
};
template <>
struct SumOfIds<int64_t> {
  View<int64_t> table;  // zeroed where it is to be overwritten: integers know no -0
  double scale, limit;
  int64_t* flag;

  __device__ __forceinline__ void Put(const Pack<kIdsWidth>& sum, int64_t id, int64_t c, int64_t n) const {
    int64_t* to = table.row(id) + c;
    IntPack<kIdsWidth> total = LoadInts<kIdsWidth>(to, n, table.vector);
    if (!AddFixedPoint(sum, scale, limit, total)) *flag = 1;  // whoever else writes there writes the same
    StoreInts(total, to, n, table.vector);
  }
};

// order: rows of dy sorted by id, stably. The first position of an id sums its rows.
template <typename S, typename G>
__global__ void SumIdsKernel(RowGrid grid, View<const S> dy, const int32_t* ids, const int32_t* order, int64_t rows,
                             SumOfIds<G> out, int64_t vocab, int64_t cols) {
  constexpr int kWidth = kIdsWidth;
  const int64_t at = grid.RowOf(blockIdx.x, static_cast<int>(threadIdx.y));
  if (at >= rows) return;
  const int32_t id = ids[order[at]];
  Checked(id, vocab);
  if (at > 0 && ids[order[at - 1]] == id) return;
  ForPacks(grid, [&](int64_t, int64_t p) {
    const int64_t c = p * kWidth, n = cols - c;
    Pack<kWidth> sum = Load<kWidth>(dy.row(order[at]) + c, n, dy.vector);
    for (int64_t next = at + 1, same = kRowsAtOnce; same == kRowsAtOnce; next += same) {
      RawPack<S, kWidth> terms[kRowsAtOnce];
      same = 0;
#pragma unroll
      for (int j = 0; j < kRowsAtOnce; ++j) {
        const int64_t row = next + j < rows ? order[next + j] : -1;
        if (row < 0 || ids[row] != id) continue;  // and none after it
        terms[j] = LoadRaw<kWidth>(dy.row(row) + c, n, dy.vector);
        same = j + 1;
      }
#pragma unroll
      for (int j = 0; j < kRowsAtOnce; ++j) {
        if (j >= same) continue;
        const Pack<kWidth> term = terms[j].Widened();
#pragma unroll
        for (int i = 0; i < kWidth; ++i) sum.v[i] += term.v[i];
      }
    }
    out.Put(sum, id, c, n);
  });
}

template <typename G>
void SumIds(const OpContext& ctx, const Tensor& dy, const Tensor& ids, const Tensor& dtable, WriteMode mode,
            const SumOfIds<G>& out) {
  const int64_t rows = dy.rows(), vocab = dtable.rows(), cols = dtable.cols();
  if (mode == WriteMode::kOverwrite) Zero(ctx.stream, dtable);
  if (rows == 0) return;
  ArenaScope scope(*ctx.scratch);
  const int32_t* order = SortByKey(ctx, ids.as<int32_t>(), rows, vocab);
  ForReal(dy.dtype, [&](auto s) {
    using S = decltype(s);
    LaunchRows(ctx, SumIdsKernel<S, G>, rows, CeilDiv(cols, kIdsWidth), ViewOf<const S>(dy, kIdsWidth), ids.as<int32_t>(), order,
               rows, out, vocab, cols);
  });
}

}  // namespace

void GatherRows(const OpContext& ctx, const Tensor& x, const Tensor& pair_of, int64_t slots, const Tensor& y) {
  const auto bits = [](const Tensor& t) {
    const int64_t size = SizeOf(t.dtype);
    return reinterpret_cast<uintptr_t>(t.data) | static_cast<uint64_t>(t.pitch * size) | static_cast<uint64_t>(t.cols() * size);
  };
  JEVONS_CHECK(slots <= INT32_MAX, "%lld slots", static_cast<long long>(slots));
  switch (WordOf(bits(x) | bits(y))) {
    case 16: return Gather<uint4>(ctx, x, pair_of, slots, y);
    case 8: return Gather<uint2>(ctx, x, pair_of, slots, y);
    case 4: return Gather<uint32_t>(ctx, x, pair_of, slots, y);
    case 2: return Gather<uint16_t>(ctx, x, pair_of, slots, y);
    default: return Gather<uint8_t>(ctx, x, pair_of, slots, y);
  }
}

void SumRows(const OpContext& ctx, const Tensor& y, const Tensor& row_of, int64_t slots, const Tensor& out, WriteMode mode) {
  SumListed(ctx, y, row_of.as<int32_t>(), nullptr, slots, out, mode);
}

void SumSegments(const OpContext& ctx, const Tensor& y, const Tensor& rows, const Tensor& offsets, const Tensor& out,
                 WriteMode mode) {
  SumListed(ctx, y, rows.as<int32_t>(), offsets.as<int32_t>(), 0, out, mode);
}

void SumRowsByGroup(const OpContext& ctx, const Tensor& y, const Tensor& row_of, const Tensor& indices, int64_t experts_per_group,
                    const Tensor& out, WriteMode mode) {
  ArenaScope scope(*ctx.scratch);
  const int64_t pairs = indices.size(), slots = indices.cols();
  int32_t* order = GroupOrder(ctx, pairs);
  Launch(ctx, OrderByGroupKernel, CeilDiv(pairs, kBlockThreads), dim3(kBlockThreads), 0, indices.as<int32_t>(),
         row_of.as<int32_t>(), y.rows(), pairs, slots, static_cast<int32_t>(experts_per_group), order);
  ForReal(y.dtype, [&](auto a) {
    ForReal(out.dtype, [&](auto b) {
      using A = decltype(a);
      using B = decltype(b);
      constexpr int kWidth = kWidthOf<A, B>;
      LaunchRows(ctx, SumGroupsKernel<A, B>, out.rows(), CeilDiv(out.cols(), kWidth), ViewOf<const A>(y, kWidth), order, slots,
                 ViewOf<B>(out, kWidth), mode == WriteMode::kAdd, out.cols());
    });
  });
}

void SortByExpert(const OpContext& ctx, const Tensor& indices, const Tensor& counts, const Tensor& row_of,
                  const Tensor& pair_of) {
  ArenaScope scope(*ctx.scratch);
  StableSort(ctx, {.keys = indices.as<int32_t>(),
                   .n = indices.size(),
                   .buckets = counts.size(),
                   .order_out = pair_of.as<int32_t>(),
                   .place_out = row_of.as<int32_t>()});
}

void Embedding(const OpContext& ctx, const Tensor& table, const Tensor& ids, const Tensor& y) {
  cuda::GatherRows(ctx, table, ids, 1, y);
}

void EmbeddingBackward(const OpContext& ctx, const Tensor& dy, const Tensor& ids, const Tensor& dtable, WriteMode mode) {
  SumIds<float>(ctx, dy, ids, dtable, mode, {.table = ViewOf<float>(dtable, kIdsWidth), .add = mode == WriteMode::kAdd});
}

void EmbeddingBackward(const OpContext& ctx, const Tensor& dy, const Tensor& ids, const FixedPoint& format, const Tensor& dtable,
                       WriteMode mode, int64_t* flag) {
  SumIds<int64_t>(ctx, dy, ids, dtable, mode,
                  {.table = ViewOf<int64_t>(dtable, kIdsWidth), .scale = 1 / format.unit(), .limit = format.limit, .flag = flag});
}

}  // namespace jevons::cuda
