// AdamW with ZeRO stage 1 (DeepSeek-V3 report 3.2, 4.2): each rank keeps masters and moments of its own slices, and the masters' average
// if one is asked for, reduces the gradients of those from everybody's sums, updates them, and gives the new weights to the others.
//
// Dense parameters are shared over dp, an expert's over edp, each over all ranks of the pipeline that hold it; each kind is cut for
// its compute type apart, so that one gather moves one type; what only passes for each layer apart, so that little of it is there at once;
// and each stage apart, so that it is reduced when it is done. Squares for the norm are summed per chunk of a parameter, and the chunks in
// the order of the table over a fixed tree: the norm does not feel the layout.
#ifndef JEVONS_TRAINER_OPTIM_ZERO1_H_
#define JEVONS_TRAINER_OPTIM_ZERO1_H_

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "parallel/mesh.h"
#include "parallel/zero/background_reduction.h"
#include "parallel/zero/ownership.h"
#include "trainer/model/gradients.h"
#include "trainer/model/partition.h"
#include "trainer/model/weights.h"
#include "trainer/optim/weight_average.h"

namespace jevons {

// A slice of a logical tensor that a checkpoint holds: see trainer/checkpoint/writer.h.
struct StateSlice {
  std::string name;  // "weight/...", "m/...", "v/...", "ema/...", "gate_bias/..."
  Shape shape;       // global
  Range elements;    // flat range of it
  Tensor data;       // where the stream of the step works; an average of weights on the host
};

struct GradientSummary {
  double norm = 0;                     // of the whole gradient, before clipping
  double scale = 1;                    // what is held is the gradient times this, a power of two; the norm is not
  std::optional<std::string> refused;  // what is wrong with which parameter first: "model.norm.weight is NaN or Inf"
};

// What a parameter, of a stack of experts each by itself, has of the gradient.
struct ParameterGradient {
  std::string name;      // "model.norm.weight", "...gate_proj.weight, expert 3"
  double norm = 0;       // before clipping
  bool refused = false;  // NaN, Inf, or too large to be summed exactly
};

class ZeroOptimizer {
 public:
  // take: gets the new values of weights that are only passing, a layer's at a time, whenever there are such. Collective over the world.
  ZeroOptimizer(const OptimizerConfig& config, WeightStore& weights, const Partition& partition, Mesh& mesh,
                TakeWeights take = {});

  // Fresh weights and moments. Every rank computes its own part from (seed, parameter, element).
  void Initialize(const OpContext& ops, double init_std, uint64_t seed);

  // Begins to reduce the gradients of a stage of this rank, to which nothing is added any more, into the slices of their owners: of the
  // parameters that no other stage computes with. Other work goes on meanwhile, without the groups dp and edp. Collective over the
  // ranks that hold the stage; a rank's stages come in descending order.
  void BeginReduce(const OpContext& ops, const GradientStore& gradients, int stage);
  // Reduces what BeginReduce has not, and ends what it has begun. The gradients are those of the loss times `scale`, a power of two. Returns
  // the global norm, for which the host waits. Collective over the world.
  GradientSummary Reduce(const OpContext& ops, const GradientStore& gradients, double scale);

  // What Reduce has left, until the next step begins. In the order of execution; and a hash of all of it, which for exact sums no layout
  // changes. The host waits. Collective over the world.
  std::vector<ParameterGradient> ParameterGradients(const OpContext& ops, const GradientStore& gradients, double scale) const;
  uint64_t GradientHash(const OpContext& ops) const;

  // From here on what this rank itself has summed is hashed before it is reduced; and that hash, of the last Reduce.
  void HashContributions() { hashes_ = true; }
  uint64_t contributions() const { return contributions_; }

  // AdamW on the slices, t = 1, 2, ..., then everybody's new weights to everybody; the average follows beside what comes next. Collective over the
  // world.
  void Update(const OpContext& ops, double learning_rate, const GradientSummary& gradient, int64_t t);

  // The state of this rank: what a checkpoint of all ranks' slices holds exactly once. Also, for loading, where to read to. Valid until the next
  // Update.
  std::vector<StateSlice> State() const;
  // After the masters of State() have been read: the compute weights from everybody's masters. Collective.
  void RestoreWeights(const OpContext& ops);

  int64_t bytes() const { return arena_.used_bytes(); }
  int64_t host_bytes() const { return average_ == nullptr ? 0 : average_->bytes(); }
  const BackgroundReduction& reduction() const { return reduction_; }

 private:
  struct Entry {  // one tensor that ownership is decided on: a dense parameter, or one expert of a stack
    size_t param;
    int64_t local_expert;  // -1: dense
    int64_t size;          // elements
    int64_t first_chunk;   // index of its first chunk among all chunks of the model
    Range global;          // flat range in the logical tensor
    Tensor value;          // [size] compute weights; empty: they only pass
  };
  struct Slice {
    size_t entry = 0;
    Range elements;       // of the entry
    Tensor master, m, v;  // [elements]
    Tensor gradient;      // [elements] of the gradient's sum: set when its reduction begins
  };
  struct Group {
    Communicator* ranks;
    bool expert;
    DType type;
    std::vector<int> holders;    // pp ranks
    std::optional<int> passing;  // the layer whose weights only pass
    std::optional<int> stage;    // the one that computes with it; none where several do
    std::vector<Entry> entries;
    std::vector<int64_t> sizes;
    std::vector<Slice> slices;
    bool reduces = false;  // has begun to, in this step
  };
  static std::vector<Group> MakeGroups(const WeightStore& weights, const Partition& partition, int pp_rank);
  static int64_t SliceBytes(const OptimizerConfig& config, const Group& group, int ranks, int rank);

  // Those groups that `wanted` takes and that have not begun.
  template <typename Wanted>
  void Begin(const OpContext& ops, const GradientStore& gradients, Wanted wanted);
  GradientSummary Summarize(const OpContext& ops, const GradientStore& gradients) const;
  // The bits of the sums of squares of [chunks of the model], then [parameters, experts each] flags: the same on all ranks.
  std::vector<int64_t> ChunkSums(const OpContext& ops, const GradientStore& gradients) const;
  std::vector<ParameterGradient> ParametersOf(std::span<const int64_t> sums) const;
  static int64_t FirstChunk(const Group& group, const Slice& slice) {
    return group.entries[slice.entry].first_chunk + slice.elements.begin / kChunk;
  }
  // Weights that the ranks have written each its slices of, or that are to be made of masters, to everybody.
  void GatherWeights(Group& group, const OpContext& ops);
  void PassWeights(Group& group, const OpContext& ops);

  OptimizerConfig config_;
  WeightStore& weights_;
  Mesh& mesh_;
  TakeWeights take_;
  std::vector<Group> groups_;
  Arena arena_;
  BackgroundReduction reduction_;
  std::unique_ptr<WeightAverage> average_;  // of the slices, group after group; null: none is kept
  int64_t chunks_ = 0;                      // of the model
  double gradient_unit_ = 1;                // what 1 of a slice's gradient is worth
  bool hashes_ = false;
  uint64_t hashing_ = 0, contributions_ = 0;  // of this step so far, of the last one
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_OPTIM_ZERO1_H_
