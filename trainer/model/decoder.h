// Goes on from tokens: a prompt's rows together, then one row after the other, with a cache that holds the compressed keys and
// values (kv_rank + rope elements per token and layer), not the heads (DeepSeek-V3 report 2.1.1). W_kvb is absorbed: a head's
// query is taken into the latent space and its result out of it, so the cache is read as it lies.
#ifndef JEVONS_TRAINER_MODEL_DECODER_H_
#define JEVONS_TRAINER_MODEL_DECODER_H_

#include <algorithm>
#include <span>
#include <vector>

#include "kernels/base/status.h"
#include "trainer/model/model.h"

namespace jevons {

class Decoder {
 public:
  // weights: all experts on this rank; they outlive the decoder. max_length: tokens that the cache can hold.
  Decoder(const ModelConfig& model, const ModelWeights& weights, DType compute, int64_t max_length);

  static constexpr int64_t kRowsAtOnce = 512;  // bounds the memory of a long prompt

  // Appends tokens. They may come in one call or in several: the bits of what follows are the same.
  void Append(std::span<const int32_t> tokens);
  // The logits [V] of the token after the last one; valid until the next call. REQUIRES: an Append since the start, or since
  // Truncate. NumericalError naming layer and tensor where NaN or Inf has come up.
  absl::StatusOr<std::span<const float>> Logits();
  // Forgets all but the first `length` tokens.
  void Truncate(int64_t length) { length_ = std::min(length_, length); }
  int64_t length() const { return length_; }

 private:
  struct LayerCache {
    Tensor latent;  // [max_length, kv_rank], after its norm
    Tensor k_rope;  // [max_length, rope], turned
  };
  LayerContext Context();
  void AppendRows(std::span<const int32_t> tokens);  // kRowsAtOnce at most
  void Attention(const LayerContext& ctx, const MlaWeights& w, int layer, const Tensor& x, const Tensor& y);
  // kv_b: [heads * (nope + value), kv_rank]; q: [T, heads * (nope + rope)]; o: [T, heads * value], of `heads` written.
  void Heads(const LayerContext& ctx, const Tensor& kv_b, const LayerCache& cache, Range heads, const Tensor& q,
             const Tensor& o) const;
  void Experts(const LayerContext& ctx, const MoeWeights& w, const Tensor& x, const Tensor& y) const;  // y += experts

  ModelConfig config_;
  const ModelWeights& weights_;
  DType compute_;
  int64_t max_length_, length_ = 0;
  RouterDesc router_;
  Arena cache_arena_;
  MicroMemory memory_;
  Arena scratch_;
  Tensor rope_cos_, rope_sin_, hidden_, logits_;  // hidden_: [1, H], after the final norm
  std::vector<LayerCache> cache_;
  NonFinite non_finite_;
};

struct Sampling {
  double temperature = 1;         // 0 = always the likeliest token
  int64_t top_k = 0;              // sample among so many of the likeliest tokens; 0 = all
  double top_p = 1;               // and of these among the likeliest that together have this share of their probability
  uint64_t seed = 1, sample = 0;  // of several samples of one seed: which
};

// The token that draw `index` of the sample picks.
int32_t SampleToken(std::span<const float> logits, const Sampling& sampling, uint64_t index);

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_DECODER_H_
