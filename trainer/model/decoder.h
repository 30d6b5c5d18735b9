// Token by token: one row through the network, with a cache that holds the compressed keys and values (kv_rank + rope elements
// per token and layer), not the heads (DeepSeek-V3 report 2.1.1). W_kvb is absorbed: a head's query is taken into the latent
// space and its result out of it, so the cache is read as it lies.
#ifndef JEVONS_TRAINER_MODEL_DECODER_H_
#define JEVONS_TRAINER_MODEL_DECODER_H_

#include <span>
#include <vector>

#include "kernels/base/status.h"
#include "trainer/model/model.h"

namespace jevons {

class Decoder {
 public:
  // weights: all experts on this rank; they outlive the decoder. max_length: tokens that the cache can hold.
  Decoder(const ModelConfig& model, const ModelWeights& weights, DType compute, int64_t max_length);

  // Appends a token.
  void Append(int32_t token);
  // The logits [V] of the token after the last one; valid until the next call.
  std::span<const float> Logits();
  // NumericalError, naming layer and tensor, where the logits that Logits made are NaN or Inf.
  absl::Status CheckFinite() const;
  int64_t length() const { return length_; }

 private:
  struct LayerCache {
    Tensor latent;  // [max_length, kv_rank], after its norm
    Tensor k_rope;  // [max_length, rope], turned
  };
  LayerContext Context();
  void Attention(const LayerContext& ctx, const MlaWeights& w, int layer, const Tensor& x, const Tensor& y);
  void Head(const LayerContext& ctx, const Tensor& kv_b, const LayerCache& cache, const Tensor& q, const Tensor& o) const;
  void Experts(const LayerContext& ctx, const MoeWeights& w, const Tensor& x, const Tensor& y) const;  // y += experts

  ModelConfig config_;
  const ModelWeights& weights_;
  DType compute_;
  int64_t max_length_, length_ = 0;
  RouterDesc router_;
  Arena cache_arena_, saved_, scratch_;
  Tensor rope_cos_, rope_sin_, hidden_, logits_;  // hidden_: [1, H], after the final norm
  std::vector<LayerCache> cache_;
  WgradQueue unused_;
  NonFinite non_finite_;
};

struct Sampling {
  double temperature = 1;  // 0 = always the likeliest token
  double top_p = 1;        // sample among the likeliest tokens that together have this probability
  uint64_t seed = 1;
};

// The token that draw `index` of the seed picks.
int32_t SampleToken(std::span<const float> logits, const Sampling& sampling, uint64_t index);

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_DECODER_H_
