// Attention by its definition (kernels/ref/attention.h), in tiles of 32 queries by 32 keys, with FP32 arithmetic on the plain units.
// The forward keeps a running maximum and sum per row; the backward computes the scores again from lse, once for dq and once for
// the gradients of keys and values, so that no two blocks add to the same number.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/scratch.h"

namespace jevons::cuda {
namespace {

constexpr int kTile = 32;                      // queries, and keys, of a tile
constexpr int kOfRow = kBlockThreads / kTile;  // threads that share a row of a tile: 8 neighbours
constexpr int kEach = kTile / kOfRow;          // scores of a thread: 4
constexpr int kScorePitch = kTile + 1;

template <typename S>
struct Rows {
  S* data;
  int64_t pitch;
  __device__ __forceinline__ S* operator()(int64_t t) const { return data + t * pitch; }
};
template <typename S>
Rows<S> RowsOf(const Tensor& t) {
  return {t.as<S>(), t.pitch};
}

template <typename S>
struct Problem {
  Rows<S> q, kv, k_rope, o;
  Rows<float> lse;
  const int32_t* document_start;   // or null
  int64_t sequence_length, tiles;  // tiles of a sequence
  int heads, nope, rope, value;
  float scale;

  __host__ __device__ int key_dim() const { return nope + rope; }
  __device__ __forceinline__ int64_t FirstVisible(int64_t t) const {
    return t / sequence_length * sequence_length + (document_start != nullptr ? document_start[t] : 0);
  }
};

template <typename S>
Problem<S> ProblemOf(const AttentionDesc& d) {
  return {.q = RowsOf<S>(d.q),
          .kv = RowsOf<S>(d.kv),
          .k_rope = RowsOf<S>(d.k_rope),
          .o = RowsOf<S>(d.o),
          .lse = RowsOf<float>(d.lse),
          .document_start = d.document_start ? d.document_start.as<int32_t>() : nullptr,
          .sequence_length = d.sequence_length,
          .tiles = CeilDiv(d.sequence_length, kTile),
          .heads = static_cast<int>(d.heads),
          .nope = static_cast<int>(d.nope_dim),
          .rope = static_cast<int>(d.rope_dim),
          .value = static_cast<int>(d.value_dim),
          .scale = d.scale};
}

// The tile and head of this block.
template <typename S>
struct Place {
  int64_t begin, end, tile;  // of the sequence, in rows; the first row of the tile
  int head;
  __device__ explicit Place(const Problem<S>& p) {
    head = static_cast<int>(blockIdx.x % static_cast<unsigned>(p.heads));
    const int64_t i = blockIdx.x / static_cast<unsigned>(p.heads);
    begin = i / p.tiles * p.sequence_length;
    end = begin + p.sequence_length;
    tile = begin + i % p.tiles * kTile;
  }
};

// A tile of rows in shared memory, `dim` numbers each; rows past the end of a sequence are zero.
struct Block {
  float* data;
  int dim;
  __host__ __device__ static constexpr int Floats(int dim) { return kTile * (dim + 1); }
  __device__ __forceinline__ float* row(int r) const { return data + r * (dim + 1); }

  // at(t, i): element i of row t.
  template <class At>
  __device__ __forceinline__ void Load(int64_t first, int64_t end, const At& at) const {
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < kTile * dim; i += kBlockThreads)
      row(i / dim)[i % dim] = first + i / dim < end ? at(first + i / dim, i % dim) : 0.0f;
  }
  __device__ __forceinline__ void Zero() const {
    for (int i = static_cast<int>(threadIdx.x); i < Floats(dim); i += kBlockThreads) data[i] = 0;
  }
  template <class Put>
  __device__ __forceinline__ void Store(int64_t first, int64_t end, const Put& put) const {
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < kTile * dim; i += kBlockThreads)
      if (first + i / dim < end) put(first + i / dim, i % dim, row(i / dim)[i % dim]);
  }
};

// Cuts the block's shared memory into pieces.
struct Room {
  float* next = DynamicShared<float>();
  __device__ __forceinline__ Block Take(int dim) {
    const Block block = {next, dim};
    next += Block::Floats(dim);
    return block;
  }
};

template <typename S>
__device__ __forceinline__ void LoadQueries(const Problem<S>& p, const Place<S>& at, int64_t first, const Block& q) {
  const int dim = p.key_dim();
  q.Load(first, at.end, [&](int64_t t, int i) { return static_cast<float>(p.q(t)[at.head * dim + i]); });
}
template <typename S>
__device__ __forceinline__ void LoadKeys(const Problem<S>& p, const Place<S>& at, int64_t first, const Block& k, const Block& v) {
  const int head = at.head * (p.nope + p.value);
  k.Load(first, at.end,
         [&](int64_t t, int i) { return static_cast<float>(i < p.nope ? p.kv(t)[head + i] : p.k_rope(t)[i - p.nope]); });
  v.Load(first, at.end, [&](int64_t t, int i) { return static_cast<float>(p.kv(t)[head + p.nope + i]); });
}

__device__ __forceinline__ float Dot(const float* a, const float* b, int n) {
  float sum = 0;
#pragma unroll 4
  for (int i = 0; i < n; ++i) sum = fmaf(a[i], b[i], sum);
  return sum;
}

// The first key that some query of the tile sees. Every thread gets it.
template <typename S>
__device__ __forceinline__ int64_t FirstKey(const Problem<S>& p, const Place<S>& at, int64_t first) {
  int64_t least = first;
  for (int64_t t = first; t < first + kTile && t < at.end; ++t) least = min(least, p.FirstVisible(t));
  return least;
}

// What a thread knows of its row: of kOfRow threads, each has every kOfRow-th key.
struct RowOfTile {
  int row, part;
  int64_t t, visible;  // visible: the first; t: the last. Rows past the end of the sequence see nothing.
  __device__ __forceinline__ bool Sees(int64_t key) const { return key >= visible && key <= t; }
  __device__ __forceinline__ bool SeesSome(int64_t first) const { return first <= t && first + kTile > visible; }
};
template <typename S>
__device__ __forceinline__ RowOfTile MyRow(const Problem<S>& p, const Place<S>& at, int64_t first) {
  RowOfTile mine;
  mine.row = static_cast<int>(threadIdx.x) / kOfRow;
  mine.part = static_cast<int>(threadIdx.x) % kOfRow;
  mine.t = first + mine.row;
  if (mine.t >= at.end) mine.t = -1;
  mine.visible = mine.t >= 0 ? p.FirstVisible(mine.t) : 0;
  return mine;
}

template <class Join>
__device__ __forceinline__ float OverRow(float v, const Join& join) {
#pragma unroll
  for (int step = kOfRow / 2; step > 0; step /= 2) v = join(v, __shfl_xor_sync(kAllLanes, v, step));
  return v;
}

template <typename S>
__global__ void __launch_bounds__(kBlockThreads) ForwardKernel(Problem<S> p) {
  const Place<S> at(p);
  Room room;
  const Block q = room.Take(p.key_dim()), k = room.Take(p.key_dim()), v = room.Take(p.value), o = room.Take(p.value),
              weights = room.Take(kTile);
  LoadQueries(p, at, at.tile, q);
  o.Zero();
  const RowOfTile mine = MyRow(p, at, at.tile);
  float largest = -INFINITY, sum = 0;
  const int64_t first_key = at.begin + (FirstKey(p, at, at.tile) - at.begin) / kTile * kTile;
  for (int64_t key = first_key; key <= at.tile; key += kTile) {
    __syncthreads();
    LoadKeys(p, at, key, k, v);
    __syncthreads();
    float score[kEach], above = largest;
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int c = mine.part + j * kOfRow;
      score[j] = mine.Sees(key + c) ? Dot(q.row(mine.row), k.row(c), p.key_dim()) * p.scale : -INFINITY;
      above = fmaxf(above, score[j]);
    }
    above = OverRow(above, [](float a, float b) { return fmaxf(a, b); });
    const bool some = mine.SeesSome(key);
    const float shrink = some ? expf(largest - above) : 1.0f;
    float added = 0;
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int c = mine.part + j * kOfRow;
      const float weight = mine.Sees(key + c) ? expf(score[j] - above) : 0.0f;
      weights.row(mine.row)[c] = weight;
      added += weight;
    }
    added = OverRow(added, [](float a, float b) { return a + b; });
    sum = sum * shrink + added;
    if (some) largest = above;
    __syncwarp();
    for (int i = mine.part; i < p.value; i += kOfRow) {
      float out = o.row(mine.row)[i] * shrink;
      for (int c = 0; c < kTile; ++c)
        if (mine.Sees(key + c)) out = fmaf(weights.row(mine.row)[c], v.row(c)[i], out);
      o.row(mine.row)[i] = out;
    }
  }
  if (mine.t < 0) return;
  for (int i = mine.part; i < p.value; i += kOfRow) p.o(mine.t)[at.head * p.value + i] = S(o.row(mine.row)[i] / sum);
  if (mine.part == 0) p.lse(mine.t)[at.head] = largest + logf(sum);
}

template <typename S>
struct Grads {
  Rows<S> d_o, dq, dkv;
  const float* delta;  // [T, heads]: sum of d_o * o over a head
  float* dk_rope;      // [heads of the group, T, rope]
  int64_t rows;
  int first_head;
};

template <typename S>
__global__ void DeltaKernel(Problem<S> p, Rows<S> d_o, int64_t total, float* delta) {
  const int64_t i = int64_t{blockIdx.x} * kBlockThreads + threadIdx.x;
  if (i >= total) return;
  const int64_t t = i / p.heads, column = i % p.heads * p.value;
  float sum = 0;
  for (int j = 0; j < p.value; ++j)
    sum = fmaf(static_cast<float>(d_o(t)[column + j]), static_cast<float>(p.o(t)[column + j]), sum);
  delta[i] = sum;
}

// The weights of this thread's row, and the gradients of its scores. What a row does not see has neither.
template <typename S>
__device__ __forceinline__ void Scores(const Problem<S>& p, const Grads<S>& g, int head, const RowOfTile& mine, int64_t key,
                                       const Block& q, const Block& k, const Block& v, const Block& d_o, float* weights,
                                       float* d_scores) {
  const float lse = mine.t >= 0 ? p.lse(mine.t)[head] : 0, delta = mine.t >= 0 ? g.delta[mine.t * p.heads + head] : 0;
#pragma unroll
  for (int j = 0; j < kEach; ++j) {
    const int c = mine.part + j * kOfRow;
    float weight = 0, d_score = 0;
    if (mine.Sees(key + c)) {
      weight = expf(Dot(q.row(mine.row), k.row(c), p.key_dim()) * p.scale - lse);
      d_score = weight * (Dot(d_o.row(mine.row), v.row(c), p.value) - delta) * p.scale;
    }
    weights[mine.row * kScorePitch + c] = weight;
    d_scores[mine.row * kScorePitch + c] = d_score;
  }
}

template <typename S>
__device__ __forceinline__ void LoadOutputGrads(const Problem<S>& p, const Place<S>& at, const Grads<S>& g, int64_t first,
                                                const Block& d_o) {
  d_o.Load(first, at.end, [&](int64_t t, int i) { return static_cast<float>(g.d_o(t)[at.head * p.value + i]); });
}

template <typename S>
__global__ void __launch_bounds__(kBlockThreads) QueryGradKernel(Problem<S> p, Grads<S> g) {
  const Place<S> at(p);
  Room room;
  const int dim = p.key_dim();
  const Block q = room.Take(dim), k = room.Take(dim), dq = room.Take(dim), v = room.Take(p.value), d_o = room.Take(p.value),
              weights = room.Take(kTile), d_scores = room.Take(kTile);
  LoadQueries(p, at, at.tile, q);
  LoadOutputGrads(p, at, g, at.tile, d_o);
  dq.Zero();
  const RowOfTile mine = MyRow(p, at, at.tile);
  const int64_t first_key = at.begin + (FirstKey(p, at, at.tile) - at.begin) / kTile * kTile;
  for (int64_t key = first_key; key <= at.tile; key += kTile) {
    __syncthreads();
    LoadKeys(p, at, key, k, v);
    __syncthreads();
    Scores(p, g, at.head, mine, key, q, k, v, d_o, weights.data, d_scores.data);
    __syncwarp();
    for (int i = mine.part; i < dim; i += kOfRow) {
      float sum = dq.row(mine.row)[i];
      for (int c = 0; c < kTile; ++c)
        if (mine.Sees(key + c)) sum = fmaf(d_scores.row(mine.row)[c], k.row(c)[i], sum);
      dq.row(mine.row)[i] = sum;
    }
  }
  __syncthreads();
  dq.Store(at.tile, at.end, [&](int64_t t, int i, float value) { g.dq(t)[at.head * dim + i] = S(value); });
}

template <typename S>
__global__ void __launch_bounds__(kBlockThreads) KeyGradKernel(Problem<S> p, Grads<S> g, int heads) {
  Problem<S> part = p;
  part.heads = heads;  // of this launch, from g.first_head on
  Place<S> at(part);
  const int head_in_group = at.head;
  at.head += g.first_head;
  Room room;
  const int dim = p.key_dim();
  const Block q = room.Take(dim), k = room.Take(dim), dk = room.Take(dim), v = room.Take(p.value), d_o = room.Take(p.value),
              dv = room.Take(p.value), weights = room.Take(kTile), d_scores = room.Take(kTile);
  LoadKeys(p, at, at.tile, k, v);
  dk.Zero();
  dv.Zero();
  const int c = static_cast<int>(threadIdx.x) / kOfRow, lane_part = static_cast<int>(threadIdx.x) % kOfRow;
  for (int64_t first = at.tile; first < at.end; first += kTile) {
    if (FirstKey(p, at, first) >= at.tile + kTile) continue;  // these queries see none of the keys
    __syncthreads();
    LoadQueries(p, at, first, q);
    LoadOutputGrads(p, at, g, first, d_o);
    __syncthreads();
    Scores(p, g, at.head, MyRow(p, at, first), at.tile, q, k, v, d_o, weights.data, d_scores.data);
    __syncthreads();
    // Now a thread's row is one of keys.
    for (int i = lane_part; i < dim; i += kOfRow) {
      float sum = dk.row(c)[i];
#pragma unroll 8
      for (int r = 0; r < kTile; ++r) sum = fmaf(d_scores.row(r)[c], q.row(r)[i], sum);
      dk.row(c)[i] = sum;
    }
    for (int i = lane_part; i < p.value; i += kOfRow) {
      float sum = dv.row(c)[i];
#pragma unroll 8
      for (int r = 0; r < kTile; ++r) sum = fmaf(weights.row(r)[c], d_o.row(r)[i], sum);
      dv.row(c)[i] = sum;
    }
  }
  __syncthreads();
  const int head = at.head * (p.nope + p.value);
  dk.Store(at.tile, at.end, [&](int64_t t, int i, float value) {
    if (i < p.nope) {
      g.dkv(t)[head + i] = S(value);
    } else {
      g.dk_rope[(head_in_group * g.rows + t) * p.rope + i - p.nope] = value;
    }
  });
  dv.Store(at.tile, at.end, [&](int64_t t, int i, float value) { g.dkv(t)[head + p.nope + i] = S(value); });
}

// sums[t, i] (+)= the heads of a group, in order; the last group's go to dk_rope.
template <typename S>
__global__ void RopeGradKernel(const float* parts, int heads, bool first, bool last, int64_t rows, int rope, float* sums,
                               Rows<S> dk_rope) {
  const int64_t i = int64_t{blockIdx.x} * kBlockThreads + threadIdx.x;
  if (i >= rows * rope) return;
  float sum = first ? 0.0f : sums[i];
  for (int h = 0; h < heads; ++h) sum += parts[h * rows * rope + i];
  if (last) {
    dk_rope(i / rope)[i % rope] = S(sum);
  } else {
    sums[i] = sum;
  }
}

// Bytes of shared memory for so many blocks of keys, of values and of scores.
int64_t SharedBytes(const AttentionDesc& d, int keys, int values, int scores) {
  const int64_t floats = keys * Block::Floats(static_cast<int>(d.nope_dim + d.rope_dim)) +
                         values * Block::Floats(static_cast<int>(d.value_dim)) + scores * Block::Floats(kTile);
  JEVONS_CHECK(floats * 4 <= 227 << 10, "heads of %lld + %lld and %lld are too large for this kernel",
               static_cast<long long>(d.nope_dim), static_cast<long long>(d.rope_dim), static_cast<long long>(d.value_dim));
  return floats * 4;
}

template <typename S>
void Backward(const OpContext& ctx, const AttentionDesc& d, const AttentionGrad& grad) {
  ArenaScope scope(*ctx.scratch);
  const int64_t rows = d.q.rows(), total = rows * d.heads, rope_size = rows * d.rope_dim;
  const Problem<S> p = ProblemOf<S>(d);
  const int64_t tiles = rows / d.sequence_length * p.tiles;
  const auto [group, delta, parts, sums] = PlainBackwardRoom(ctx, d);
  Grads<S> g = {.d_o = RowsOf<S>(grad.d_o),
                .dq = RowsOf<S>(grad.dq),
                .dkv = RowsOf<S>(grad.dkv),
                .delta = delta,
                .dk_rope = parts,
                .rows = rows,
                .first_head = 0};
  Launch(ctx, DeltaKernel<S>, CeilDiv(total, kBlockThreads), kBlockThreads, 0, p, g.d_o, total, delta);
  Launch(ctx, QueryGradKernel<S>, tiles * d.heads, kBlockThreads, SharedBytes(d, 3, 2, 2), p, g);
  for (; g.first_head < d.heads; g.first_head += static_cast<int>(group)) {
    const int heads = static_cast<int>(std::min<int64_t>(group, d.heads - g.first_head));
    Launch(ctx, KeyGradKernel<S>, tiles * heads, kBlockThreads, SharedBytes(d, 3, 3, 2), p, g, heads);
    if (rope_size == 0) continue;
    Launch(ctx, RopeGradKernel<S>, CeilDiv(rope_size, kBlockThreads), kBlockThreads, 0, parts, heads, g.first_head == 0,
           g.first_head + heads == d.heads, rows, p.rope, sums, RowsOf<S>(grad.dk_rope));
  }
}

}  // namespace

void PlainAttention(const OpContext& ctx, const AttentionDesc& d) {
  ForReal(d.q.dtype, [&](auto s) {
    using S = decltype(s);
    const Problem<S> p = ProblemOf<S>(d);
    Launch(ctx, ForwardKernel<S>, d.q.rows() / d.sequence_length * p.tiles * d.heads, kBlockThreads, SharedBytes(d, 2, 2, 1), p);
  });
}

void PlainAttentionBackward(const OpContext& ctx, const AttentionDesc& d, const AttentionGrad& grad) {
  ForReal(d.q.dtype, [&](auto s) { Backward<decltype(s)>(ctx, d, grad); });
}

}  // namespace jevons::cuda
