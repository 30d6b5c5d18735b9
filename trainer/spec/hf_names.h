// From our tensors to those of a published checkpoint (DeepseekV3ForCausalLM): the same elements in the same order, cut where
// ours hold several of theirs (trainer/spec/params.h).
#ifndef JEVONS_TRAINER_SPEC_HF_NAMES_H_
#define JEVONS_TRAINER_SPEC_HF_NAMES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/spec/params.h"

namespace jevons {

struct PublishedTensor {
  std::string name;
  std::vector<int64_t> shape;
  int64_t begin = 0;  // its first element, flat row-major in ours
};

// The published tensors that `spec` holds, in order and without gaps.
std::vector<PublishedTensor> PublishedTensors(const ParamSpec& spec);

// Published MTP modules repeat the embedding and the head, which they share with the model: `name` is a copy of `of`.
struct SharedCopy {
  std::string name;
  std::string of;
};
std::vector<SharedCopy> SharedCopies(const ModelConfig& model);

// A model without shared experts has shared experts of width 0 in transformers, which warns of missing weights unless the files
// hold these matrices without elements.
std::vector<PublishedTensor> EmptySharedExperts(const ModelConfig& model);

// Whether published FP8 checkpoints store this parameter in FP8: the projections of attention and FFNs, but not embedding,
// head, gate, norms and eh_proj (report 3.3.1).
bool PublishedInFp8(const ParamSpec& spec);

}  // namespace jevons

#endif  // JEVONS_TRAINER_SPEC_HF_NAMES_H_
