// Multi-head latent attention (DeepSeek-V3 report 2.1.1, eq. 1-11), with and without query compression.
//   c_q = norm(W_qa x);  q = W_qb c_q            (or q = W_q x)
//   [c | k_rope] = W_kva x;  [k_nope | v] = W_kvb norm(c)
//   rotary embedding on q's rope part and on k_rope; o = attention(q, k, v);  y = W_o o
#ifndef JEVONS_TRAINER_MODEL_MLA_H_
#define JEVONS_TRAINER_MODEL_MLA_H_

#include "kernels/ops/attention.h"
#include "kernels/ops/rope.h"
#include "trainer/model/activation.h"

namespace jevons {

struct MlaDims {
  int64_t hidden = 0, heads = 0, query_rank = 0, kv_rank = 0, nope = 0, rope = 0, value = 0;
  int64_t query_width() const { return heads * (nope + rope); }
  int64_t kv_width() const { return heads * (nope + value); }
};

struct MlaWeights {
  Weight q_a, q_a_norm, q_b;  // query_rank > 0
  Weight q;                   // query_rank == 0
  Weight kv_a, kv_a_norm, kv_b, o;
};

// The norms' outputs are computed again in backward, and with ctx.recompute_up_projections q and kv are (report 3.2.3).
struct MlaSaved {
  struct UntilB {
    Tensor q_latent;   // [T, query_rank]
    Tensor kv_latent;  // [T, kv_rank+rope], the rope part turned
    Tensor q, kv;      // [T, heads*(nope+rope)] turned, [T, heads*(nope+value)]; empty: computed again
    Tensor lse;        // [T, heads]
  } until_b;
  struct UntilW {
    CachedActivation o;  // [T, heads*value]; uncompressed, o_proj's weight gradient reads it
  } until_w;
};

// Of the norms on the compressed query and on the compressed keys and values. In DeepSeek's code and in transformers it is
// fixed, whatever the other norms' epsilon is.
inline constexpr float kLatentNormEps = 1e-6f;

class Mla {
 public:
  Mla(const MlaDims& dims, int layer, float scale, Tensor rope_cos, Tensor rope_sin)
      : dims_(dims), layer_(layer), scale_(scale), cos_(rope_cos), sin_(rope_sin) {}

  // x, y: [T, H].
  void Forward(const LayerContext& ctx, const MlaWeights& w, const RowLayout& rows, const Tensor& x, const Tensor& y,
               MlaSaved& saved) const;
  // x: as in forward; dx: [T, H] overwritten. How long dy and x must live: KeptGradient, KeptInput (linear.h), of the plan of all weights here.
  void BackwardInput(const LayerContext& ctx, const MlaWeights& w, const RowLayout& rows, const Tensor& dy, const Tensor& x,
                     const MlaSaved& saved, const Tensor& dx) const;

 private:
  RopeDesc QueryRope(const Tensor& q, int64_t sequence_length) const;
  RopeDesc KeyRope(const Tensor& kv_latent, int64_t sequence_length) const;
  struct CoreTensors {
    Tensor q, kv, kv_latent, o, lse;
  };
  AttentionDesc Core(const RowLayout& rows, const CoreTensors& t) const;
  // From the latents: what the up-projections read (on ctx.ops.scratch), and what they give.
  struct Normed {
    Tensor q, q_rstd, kv, kv_rstd;  // [T, query_rank], [T], [T, kv_rank], [T]
  };
  Normed NormLatents(const LayerContext& ctx, const MlaWeights& w, const MlaSaved& saved) const;
  void UpProject(const LayerContext& ctx, const MlaWeights& w, const RowLayout& rows, const Tensor& x, const Normed& normed,
                 const Tensor& q, const Tensor& kv) const;

  MlaDims dims_;
  int layer_;
  float scale_;
  Tensor cos_, sin_;  // [positions, rope/2]
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_MLA_H_
