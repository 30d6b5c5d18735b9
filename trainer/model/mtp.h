// A module of multi-token prediction (DeepSeek-V3 report 2.2, eq. 21-25): predicts one token further than the one before.
//   x_i = W_eh [norm_e(Emb(t_{i+k})) ; norm_h(h_i)];  out_i = norm_out(block(x)_i)
// h is the main model's output after its final norm, or the previous module's out: the graph that implementations of speculative
// decoding run. Embedding and head are the main model's. Module k (from 1) has S - k positions of a sequence of S.
#ifndef JEVONS_TRAINER_MODEL_MTP_H_
#define JEVONS_TRAINER_MODEL_MTP_H_

#include "trainer/model/block.h"

namespace jevons {

struct MtpWeights {
  Weight embedding_norm, hidden_norm;  // [H]
  Weight projection;                   // [H, 2H]
  BlockWeights block;
  Weight out_norm;  // [H]
};

struct MtpSaved {
  Tensor embedded;      // [T',H] the caller's
  Tensor hidden;        // [T',H] the rows of h that are used
  Tensor x, y, y_rstd;  // [T',H], [T',H], [T']
  BlockSaved block;
};

class MtpModule {
 public:
  MtpModule(int layer, float norm_eps, const Block& block) : layer_(layer), eps_(norm_eps), block_(block) {}

  // rows: S - k positions of each sequence. embedded: [T',H]. previous: [sequences * (S-k+1), H]. out: [T',H].
  Phases Forward(const LayerContext& ctx, const MtpWeights& w, const RowLayout& rows, Tensor embedded, Tensor previous,
                 Tensor out, MtpSaved& saved, BlockStats& stats) const;
  // d_embedded overwritten; d_previous added to.
  Phases BackwardInput(const LayerContext& ctx, const MtpWeights& w, const RowLayout& rows, Tensor d_out, const MtpSaved& saved,
                       float balance_scale, Tensor d_embedded, Tensor d_previous) const;

 private:
  // The projection's input: both, normalised; computed again in backward.
  struct Joined {
    Tensor rows, embedded_rstd, hidden_rstd;  // [T',2H], [T'], [T']
  };
  Joined Join(const LayerContext& ctx, const MtpWeights& w, const MtpSaved& saved) const;

  int layer_;
  float eps_;
  Block block_;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_MTP_H_
