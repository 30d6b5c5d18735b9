// The one parameter table (contract 9): what the model's parameters are, as a pure function of its config.
// Initialisation, optimizer, checkpoint, FLOP count and plans all read it, so they cannot disagree.
//
// Names are Hugging Face's where one of our tensors is one of theirs. Ours is more than one of theirs in
// three places:
//   mlp.gate_up_proj.weight                  gate rows first, then up rows (dense FFN and shared experts)
//   mlp.experts.gate_up_proj.weight          [E, 2*Im, H], all experts of a layer; per expert gate rows first
//   mlp.experts.down_proj.weight             [E, H, Im]
// MTP module k is "model.layers.{layers+k}", as in DeepSeek's files; embedding and head are shared, not
// repeated.
#ifndef JEVONS_TRAINER_SPEC_PARAMS_H_
#define JEVONS_TRAINER_SPEC_PARAMS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "kernels/tensor/tensor.h"

namespace jevons {

// What a parameter belongs to: the terms into which parameters and FLOPs are counted.
enum class ModelPart {
  kEmbedding,
  kNorm,
  kAttention,  // the projections of MLA
  kDenseFfn,
  kRouter,
  kSharedExperts,
  kRoutedExperts,
  kMtpProjection,  // eh_proj of an MTP module
  kHead,
};

struct ParamSpec {
  enum class Init { kNormal, kOnes };  // kNormal: mean 0, standard deviation model.init_std

  std::string name;
  Shape shape;
  ModelPart part = ModelPart::kNorm;
  bool expert = false;         // dim 0 is the routed experts: sharded over the ep axis
  bool decay = false;          // weight decay applies; not on norms
  bool low_precision = false;  // has a BF16 compute copy in BF16 mode; not norms, not the gate
  Init init = Init::kNormal;
  // Order of execution: -1 embedding; 0 ... layers-1 the blocks; layers the final norm and the head;
  // layers+1+k MTP module k (whose name says layers+k).
  int layer = 0;
  int64_t active = 0;  // elements that one token uses: all, or top_k experts' worth
};

// In order of execution; vocab_size must be known (not 0) and the config valid.
std::vector<ParamSpec> ParameterTable(const ModelConfig& model);

// The gate biases: FP32 [routed_experts] each, one per MoE layer and MTP module, in order. They are state,
// set by the balance rule and not by a gradient, hence not in the table.
std::vector<std::string> GateBiasNames(const ModelConfig& model);
// Where the i-th of them is in the order of execution: ParamSpec::layer.
int GateBiasLayer(const ModelConfig& model, size_t i);

// Numbers of elements, gate biases not counted. DeepSeek's README_WEIGHTS counts as here, except that it
// gives the MTP module as 11.5B, which is its block alone: eh_proj adds 0.1B.
struct ParamCount {
  int64_t total = 0;                     // of the model without MTP modules
  int64_t active_without_embedding = 0;  // what one token uses of `total`, the input embedding left out
  int64_t routed = 0;                    // the part of `total` that is sharded over ep
  int64_t mtp_unique = 0;                // of all MTP modules; embedding and head are shared with the model
  int64_t mtp_projection = 0;            // of that, eh_proj
  int64_t mtp_active = 0;                // what one token uses of mtp_unique
};
ParamCount CountParameters(const ModelConfig& model);

}  // namespace jevons

#endif  // JEVONS_TRAINER_SPEC_PARAMS_H_
