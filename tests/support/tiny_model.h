// Models small enough to check every number of, with every part of the architecture in them.
#ifndef JEVONS_TESTS_SUPPORT_TINY_MODEL_H_
#define JEVONS_TESTS_SUPPORT_TINY_MODEL_H_

#include <cstdint>
#include <vector>

#include "configs/run.pb.h"
#include "kernels/base/philox.h"

namespace jevons {

// Odd sizes on purpose. 4 experts in 2 groups of which 1 is kept, one dense layer of two, MTP of depth 2.
inline ModelConfig TinyModel() {
  ModelConfig model;
  model.set_vocab_size(23);
  model.set_hidden_size(10);
  model.set_layers(2);
  model.set_dense_layers(1);
  model.set_dense_intermediate_size(7);
  model.set_init_std(0.3);
  AttentionConfig& attention = *model.mutable_attention();
  attention.set_heads(2);
  attention.set_query_rank(6);
  attention.set_kv_rank(5);
  attention.set_nope_dim(3);
  attention.set_rope_dim(4);
  attention.set_value_dim(3);
  MoeConfig& moe = *model.mutable_moe();
  moe.set_routed_experts(8);
  moe.set_top_k(2);
  moe.set_groups(4);
  moe.set_kept_groups(2);
  moe.set_intermediate_size(5);
  model.mutable_mtp()->set_depth(2);
  return model;
}

// `count` tokens below `vocab`, a function of the seed.
inline std::vector<int32_t> RandomTokens(int64_t count, int64_t vocab, uint64_t seed) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<int32_t>(RandomBits(seed, 0, i) % static_cast<uint64_t>(vocab));
  return tokens;
}

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_TINY_MODEL_H_
