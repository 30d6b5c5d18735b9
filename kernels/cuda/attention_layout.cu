#include "kernels/cuda/attention_layout.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"

namespace jevons::cuda {
namespace {

constexpr int kWidth = kWidthOf<bf16>;  // elements of a word: 8

struct Rows {
  bf16* data;
  int64_t pitch;
};
Rows RowsOf(const Tensor& t) { return {t.as<bf16>(), t.pitch}; }

struct Heads {
  int64_t first, count, kv_dim;
  int nope, rope;
  __host__ __device__ int words() const { return (nope + rope) / kWidth; }
};
Heads HeadsOf(const AttentionDesc& d, const HeadGroup& group) {
  return {.first = group.first,
          .count = group.count,
          .kv_dim = d.nope_dim + d.value_dim,
          .nope = static_cast<int>(d.nope_dim),
          .rope = static_cast<int>(d.rope_dim)};
}

// A word of a key: row t, head h of the group, elements from i on.
struct KeyWord {
  int64_t t, h;
  int i;
  __device__ KeyWord(int64_t at, const Heads& heads)
      : t(at / heads.words() / heads.count),
        h(at / heads.words() % heads.count),
        i(static_cast<int>(at % heads.words()) * kWidth) {}
};

__global__ void AssembleKernel(Heads heads, Rows kv, Rows k_rope, Rows keys, int64_t total) {
  const int64_t at = int64_t{blockIdx.x} * kBlockThreads + threadIdx.x;
  if (at >= total) return;
  const KeyWord w(at, heads);
  const bf16* from = w.i < heads.nope ? kv.data + w.t * kv.pitch + (heads.first + w.h) * heads.kv_dim + w.i
                                      : k_rope.data + w.t * k_rope.pitch + w.i - heads.nope;
  StoreWords(LoadWords<4>(from), keys.data + w.t * keys.pitch + w.h * (heads.nope + heads.rope) + w.i);
}

__global__ void SplitKernel(Heads heads, Rows d_keys, Rows dkv, int64_t total) {
  const int64_t at = int64_t{blockIdx.x} * kBlockThreads + threadIdx.x;
  if (at >= total) return;
  const int words = heads.nope / kWidth;
  const int64_t t = at / words / heads.count, h = at / words % heads.count, i = at % words * kWidth;
  const bf16* from = d_keys.data + t * d_keys.pitch + h * (heads.nope + heads.rope) + i;
  StoreWords(LoadWords<4>(from), dkv.data + t * dkv.pitch + (heads.first + h) * heads.kv_dim + i);
}

// A thread has eight columns of a row, of all the group's heads.
__global__ void SumRopeKernel(Heads heads, Rows d_keys, bool first, bool last, float* sums, Rows dk_rope, int64_t total) {
  const int64_t at = int64_t{blockIdx.x} * kBlockThreads + threadIdx.x;
  if (at >= total) return;
  const int words = heads.rope / kWidth;
  const int64_t t = at / words, i = at % words * kWidth;
  float* sum_at = sums + t * heads.rope + i;
  Pack<kWidth> sum = {};
  if (!first) sum = Load<kWidth>(sum_at, kWidth, true);
  const bf16* from = d_keys.data + t * d_keys.pitch + heads.nope + i;
  for (int64_t h = 0; h < heads.count; ++h) {
    const Pack<kWidth> part = Load<kWidth>(from + h * (heads.nope + heads.rope), kWidth, true);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) sum.v[j] += part.v[j];
  }
  if (last) {
    Store(sum, dk_rope.data + t * dk_rope.pitch + i, kWidth, true);
  } else {
    Store(sum, sum_at, kWidth, true);
  }
}

// A thread has one number; neighbours are neighbouring positions of a head.
__global__ void StatsKernel(float* lse, int64_t pitch, int64_t heads, int64_t length, float* head_major, bool to_rows,
                            int64_t total) {
  const int64_t at = int64_t{blockIdx.x} * kBlockThreads + threadIdx.x;
  if (at >= total) return;
  const int64_t position = at % length, h = at / length % heads, sequence = at / length / heads;
  float& row = lse[(sequence * length + position) * pitch + h];
  if (to_rows) {
    row = head_major[at];
  } else {
    head_major[at] = row;
  }
}

struct TableOut {
  int64_t documents, above, longest, most, pitches[DocumentTable::kMostPitches];
  int count;
  int32_t* lengths;
  int64_t* offsets;
  int64_t offset_pitch;

  __device__ void Put(int64_t document, int64_t first_row, int64_t length) const {
    if (document < documents) lengths[document] = static_cast<int32_t>(length);
    for (int i = 0; i < count; ++i) offsets[i * offset_pitch + document] = first_row * pitches[i];
  }
};

// One block: a thread counts the documents that end in its stretch of rows, then knows their numbers.
__global__ void __launch_bounds__(kBlockThreads)
    DocumentsKernel(const int32_t* start, int64_t rows, int64_t sequence_length, TableOut out) {
  __shared__ int64_t counts[kBlockThreads + 1];
  const int64_t each = CeilDiv(rows, kBlockThreads), begin = min(rows, each * threadIdx.x), end = min(rows, begin + each);
  // The length of the document that ends with row t if it is one of the table's, else 0.
  const auto ending = [&](int64_t t) {
    if (t + 1 < rows && start[t + 1] != (t + 1) % sequence_length) return int64_t{0};
    const int64_t length = t % sequence_length - start[t] + 1;
    if (length > out.most) __trap();  // a longer one than the host said
    return length > out.above && length <= out.longest ? length : 0;
  };
  int64_t mine = 0;
  for (int64_t t = begin; t < end; ++t) mine += ending(t) > 0;
  counts[threadIdx.x + 1] = mine;
  __syncthreads();
  if (threadIdx.x == 0) {
    counts[0] = 0;
    for (int i = 1; i <= kBlockThreads; ++i) counts[i] += counts[i - 1];
    if (counts[kBlockThreads] > out.documents) __trap();  // more documents than the host said
  }
  __syncthreads();
  int64_t number = counts[threadIdx.x];
  for (int64_t t = begin; t < end; ++t)
    if (const int64_t length = ending(t); length > 0) out.Put(number++, t + 1 - length, length);
  for (int64_t d = counts[kBlockThreads] + threadIdx.x; d <= out.documents; d += kBlockThreads) out.Put(d, rows, 0);
}

}  // namespace

void AssembleKeys(const OpContext& ctx, const AttentionDesc& desc, const HeadGroup& group, const Tensor& keys) {
  const Heads heads = HeadsOf(desc, group);
  const int64_t total = keys.rows() * heads.count * heads.words();
  Launch(ctx, AssembleKernel, CeilDiv(total, kBlockThreads), kBlockThreads, 0, heads, RowsOf(desc.kv), RowsOf(desc.k_rope),
         RowsOf(keys), total);
}

void SplitKeyGrads(const OpContext& ctx, const AttentionDesc& desc, const HeadGroup& group, const Tensor& d_keys,
                   const AttentionGrad& grad, const Tensor& sums) {
  const Heads heads = HeadsOf(desc, group);
  const int64_t rows = d_keys.rows(), words = rows * heads.count * (heads.nope / kWidth), ropes = rows * (heads.rope / kWidth);
  if (words > 0)
    Launch(ctx, SplitKernel, CeilDiv(words, kBlockThreads), kBlockThreads, 0, heads, RowsOf(d_keys), RowsOf(grad.dkv), words);
  if (ropes > 0)
    Launch(ctx, SumRopeKernel, CeilDiv(ropes, kBlockThreads), kBlockThreads, 0, heads, RowsOf(d_keys), group.first == 0,
           group.first + group.count == desc.heads, sums.as<float>(), RowsOf(grad.dk_rope), ropes);
}

void MoveStats(const OpContext& ctx, const Tensor& lse, int64_t sequence_length, const Tensor& head_major, StatsTo to) {
  const int64_t total = lse.size();
  Launch(ctx, StatsKernel, CeilDiv(total, kBlockThreads), kBlockThreads, 0, lse.as<float>(), lse.pitch, lse.cols(),
         sequence_length, head_major.as<float>(), to == StatsTo::kRows, total);
}

void FillDocuments(const OpContext& ctx, const AttentionDesc& desc, const DocumentTable& table) {
  TableOut out = {.documents = table.documents,
                  .above = table.above,
                  .longest = table.longest,
                  .most = desc.longest_document,
                  .pitches = {},
                  .count = table.count,
                  .lengths = table.lengths.as<int32_t>(),
                  .offsets = table.offsets.as<int64_t>(),
                  .offset_pitch = table.offsets.pitch};
  std::copy_n(table.pitches, table.count, out.pitches);
  Launch(ctx, DocumentsKernel, 1, kBlockThreads, 0, desc.document_start.as<int32_t>(), desc.q.rows(), desc.sequence_length, out);
}

}  // namespace jevons::cuda
