// FLOPs of training one token, term by term, from the parameter table: 2 per multiply-add, forward once and
// backward twice. Counted are the matrix products and the attention core; norms, activations, softmax, the
// optimizer and whatever a run recomputes are not (as in arXiv 2505.09343, table 2: 250 GFLOPs per token for
// DeepSeek-V3).
#ifndef JEVONS_TRAINER_SPEC_FLOPS_H_
#define JEVONS_TRAINER_SPEC_FLOPS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "configs/run.pb.h"

namespace jevons {

enum class CoreCount {
  kCausal,  // a token attends to itself and those before it: (S + 1) / 2 on average
  kFull,    // all S, as FLOPs are often reported
};

struct FlopTerm {
  std::string name;    // "attention projections", ...
  double forward = 0;  // FLOPs per token
  bool mtp = false;    // of the MTP modules
};

struct FlopCount {
  std::vector<FlopTerm> terms;  // in order of execution, the same ones for every config; zero where a part is absent

  double forward() const;               // per token, all terms
  double training() const;              // three times that
  double training_without_mtp() const;  // what published MFUs count
};
FlopCount CountFlops(const ModelConfig& model, int64_t sequence_length, CoreCount core);

// A table for people: each term forward and forward + backward, then the sums, causal and full.
std::string FlopTable(const ModelConfig& model, int64_t sequence_length);

}  // namespace jevons

#endif  // JEVONS_TRAINER_SPEC_FLOPS_H_
