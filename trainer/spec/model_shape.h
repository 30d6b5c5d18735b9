// What the cost of a model depends on: the widths of its products. Made from a run's config (through the one
// parameter table), or from a published model's (published.h), whose attention need not be ours.
#ifndef JEVONS_TRAINER_SPEC_MODEL_SHAPE_H_
#define JEVONS_TRAINER_SPEC_MODEL_SHAPE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "configs/run.pb.h"

namespace jevons {

// y[tokens, n] = x[tokens, k] w[n, k]^T
struct Projection {
  int64_t n = 0, k = 0;
  bool up_projection = false;  // of a latent: may run again in backward instead of being kept
  int64_t parameters() const { return n * k; }
};

struct ModelShape {
  std::string name;
  std::string unpriced = {};  // parts of a published model that the rest does not express; "" for a run's
  int64_t hidden = 0, vocab = 0;
  int64_t layers = 0, dense_layers = 0, mtp_modules = 0;  // dense layers stand first
  std::vector<Projection> attention;                      // projections of one layer
  int64_t heads = 0, qk_dim = 0, v_dim = 0;
  int64_t query_width = 0, kv_width = 0;  // elements per token of Q, and of K and V, before heads share them
  int64_t latent_width = 0;               // elements per token that up-projections start from
  int64_t dense_width = 0;                // of a dense FFN with gate
  int64_t experts = 0, top_k = 0, groups = 1, kept_groups = 1, expert_width = 0, shared_width = 0;

  bool moe() const { return layers > dense_layers || mtp_modules > 0; }
  int64_t attention_parameters() const;
  int64_t dense_parameters() const { return 3 * hidden * dense_width; }
  int64_t expert_parameters() const { return 3 * hidden * expert_width; }  // of one expert
  int64_t shared_parameters() const { return 3 * hidden * shared_width; }
  int64_t head_parameters() const { return hidden * vocab; }
  int64_t mtp_projection_parameters() const { return 2 * hidden * hidden; }
  // Norms, of under a millionth of a large model, are left out.
  double total_parameters() const;   // without MTP modules
  double active_parameters() const;  // the same, without the input embedding
  // Of training one token: 6 per active parameter and attention's core, as trainer/metrics/flops counts.
  double flops_per_token(int64_t sequence, bool causal) const;
};

// config: valid, vocab_size known.
ModelShape ShapeOf(const ModelConfig& model);

}  // namespace jevons

#endif  // JEVONS_TRAINER_SPEC_MODEL_SHAPE_H_
