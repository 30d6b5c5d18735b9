// Where a rank's gradients are summed: buffers for the nodes of the fixed tree over the step's micro-batches
// (parallel/zero/sum_tree.h). Dense parameters have one tree walk, over this rank's own block of micro-batches. The experts
// here receive rows from every ep rank, so they have one walk for each source's block.
#ifndef JEVONS_TRAINER_MODEL_GRADIENTS_H_
#define JEVONS_TRAINER_MODEL_GRADIENTS_H_

#include <vector>

#include "parallel/zero/sum_tree.h"
#include "trainer/model/context.h"
#include "trainer/model/weights.h"

namespace jevons {

// The place of a rank and of its sources among the data-parallel ranks.
struct GradientLayout {
  int dp = 1;            // data-parallel ranks: a step's micro-batches are given to them in contiguous blocks
  int self = 0;          // this rank among them
  int first_source = 0;  // the ep group's ranks are first_source, ..., first_source + sources - 1
  int sources = 1;
  Range Block(int64_t count, int rank) const { return BlockOf(count, dp, rank); }
  int64_t Rounds(int64_t count) const { return (count + dp - 1) / dp; }
};

class GradientStore {
 public:
  // counts: every number of micro-batches that a step may have; the buffers serve the most demanding.
  GradientStore(const WeightStore& weights, const GradientLayout& layout, const std::vector<int64_t>& counts,
                Device device = Device::kCpu);

  // A step of `count` micro-batches begins.
  void Begin(int64_t count);

  // The rank works through its block in rounds. Where the gradients of a parameter go in this round: empty for a rank or
  // source that has no micro-batch left.
  GradTarget Dense(size_t param, int64_t round) const;
  GradTarget Expert(size_t param, int source, int64_t round) const;
  // Ends the round: joins finished siblings.
  void EndRound(const OpContext& ops, int64_t round);

  // After the last round: the nodes held, and where parameter p's partial sum of node n lies.
  std::vector<Range> DenseNodes() const;
  std::vector<Range> ExpertNodes() const;  // of all sources, in order
  float* DenseNode(size_t node, size_t param) const;
  float* ExpertNode(size_t node, size_t param, int64_t local_expert) const;

  Tensor head_scratch() const { return head_scratch_; }  // [V,H], or empty where no leaf is ever added
  int64_t bytes() const { return arena_.used_bytes(); }
  static int64_t PlanBytes(const ModelConfig& model, int64_t local_experts, const GradientLayout& layout,
                           const std::vector<int64_t>& counts);

 private:
  struct Walk {                 // over the block of one rank
    std::vector<Tensor> slots;  // each [elements of all its parameters]
    Range block;                // of the current step
    BlockPlan plan;
  };
  GradTarget Target(const Walk& walk, size_t param, int64_t round) const;

  const WeightStore& weights_;
  GradientLayout layout_;
  int64_t count_ = 0;
  std::vector<int64_t> offsets_;  // of each parameter within its kind's slot [elements]
  Arena arena_;
  Walk dense_;
  std::vector<Walk> sources_;
  Tensor head_scratch_;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_GRADIENTS_H_
