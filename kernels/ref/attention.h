// Defines kernels/ops/attention.h: one query row at a time, its visible scores in a row buffer.
#ifndef JEVONS_KERNELS_REF_ATTENTION_H_
#define JEVONS_KERNELS_REF_ATTENTION_H_

#include <algorithm>

#include "kernels/ref/scalar.h"

namespace jevons::ref {

struct AttentionShape {
  int64_t rows = 0, sequence_length = 0, heads = 0, nope = 0, rope = 0, value = 0;
  float scale = 0;
  const int32_t* document_start = nullptr;  // [rows], or null for 0

  int64_t sequence_begin(int64_t t) const { return t / sequence_length * sequence_length; }
  int64_t first_visible(int64_t t) const { return sequence_begin(t) + (document_start ? document_start[t] : 0); }
};

// [rows, heads * (nope + rope)], [rows, heads * (nope + value)], [rows, rope], and so on.
template <typename T>
struct AttentionRow {
  const T *query, *kv, *k_rope;  // query of (t, h); key-value of head h in row 0; rope part of row 0
  const AttentionShape& shape;

  const T* key(int64_t j) const { return kv + j * shape.heads * (shape.nope + shape.value); }
  const T* value(int64_t j) const { return key(j) + shape.nope; }
  T Score(int64_t j) const {
    T dot = 0;
    for (int64_t i = 0; i < shape.nope; ++i) dot += query[i] * key(j)[i];
    for (int64_t i = 0; i < shape.rope; ++i) dot += query[shape.nope + i] * k_rope[j * shape.rope + i];
    return dot * T(shape.scale);
  }
};

template <typename T>
AttentionRow<T> RowOf(const AttentionShape& s, const T* q, const T* kv, const T* k_rope, int64_t t, int64_t h) {
  return {q + (t * s.heads + h) * (s.nope + s.rope), kv + h * (s.nope + s.value), k_rope, s};
}

// o: [rows, heads * value]; lse: [rows, heads]; scores: [sequence_length], a buffer.
template <typename T>
void Attention(const AttentionShape& s, const T* q, const T* kv, const T* k_rope, T* o, T* lse, T* scores) {
  using std::exp, std::log;
  for (int64_t t = 0; t < s.rows; ++t) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const AttentionRow<T> row = RowOf(s, q, kv, k_rope, t, h);
      const int64_t first = s.first_visible(t), n = t + 1 - first;
      auto largest = Real(row.Score(first));
      for (int64_t j = 0; j < n; ++j) {
        scores[j] = row.Score(first + j);
        largest = std::max(largest, Real(scores[j]));
      }
      T sum = 0;
      for (int64_t j = 0; j < n; ++j) sum += scores[j] = exp(scores[j] - T(largest));
      T* out = o + (t * s.heads + h) * s.value;
      std::fill(out, out + s.value, T(0));
      for (int64_t j = 0; j < n; ++j)
        for (int64_t i = 0; i < s.value; ++i) out[i] += scores[j] / sum * row.value(first + j)[i];
      lse[t * s.heads + h] = T(largest) + log(sum);
    }
  }
}

// d_o: as o; dq, dkv, dk_rope: as q, kv, k_rope. Query rows add to the keys in order, and heads to dk_rope in
// order.
template <typename T>
void AttentionBackward(const AttentionShape& s, const T* q, const T* kv, const T* k_rope, const T* o, const T* lse, const T* d_o,
                       T* dq, T* dkv, T* dk_rope) {
  using std::exp;
  const int64_t q_cols = s.heads * (s.nope + s.rope), kv_cols = s.heads * (s.nope + s.value);
  std::fill(dq, dq + s.rows * q_cols, T(0));
  std::fill(dkv, dkv + s.rows * kv_cols, T(0));
  std::fill(dk_rope, dk_rope + s.rows * s.rope, T(0));
  for (int64_t h = 0; h < s.heads; ++h) {
    for (int64_t t = 0; t < s.rows; ++t) {
      const AttentionRow<T> row = RowOf(s, q, kv, k_rope, t, h);
      const T* out = o + (t * s.heads + h) * s.value;
      const T* dout = d_o + (t * s.heads + h) * s.value;
      T* dquery = dq + t * q_cols + h * (s.nope + s.rope);
      T delta = 0;
      for (int64_t i = 0; i < s.value; ++i) delta += dout[i] * out[i];
      for (int64_t j = s.first_visible(t); j <= t; ++j) {
        const T p = exp(row.Score(j) - lse[t * s.heads + h]);
        T* dkey = dkv + j * kv_cols + h * (s.nope + s.value);
        T dp = 0;
        for (int64_t i = 0; i < s.value; ++i) {
          dp += dout[i] * row.value(j)[i];
          dkey[s.nope + i] += p * dout[i];
        }
        const T ds = p * (dp - delta) * T(s.scale);
        for (int64_t i = 0; i < s.nope; ++i) {
          dquery[i] += ds * row.key(j)[i];
          dkey[i] += ds * row.query[i];
        }
        for (int64_t i = 0; i < s.rope; ++i) {
          dquery[s.nope + i] += ds * k_rope[j * s.rope + i];
          dk_rope[j * s.rope + i] += ds * row.query[s.nope + i];
        }
      }
    }
  }
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_ATTENTION_H_
