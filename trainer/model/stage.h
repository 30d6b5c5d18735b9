// A contiguous part of the network as a pipeline runs it (parallel/pipeline/stage.h). With one rank it is the whole.
//
// Forward of the last stage runs the heads, whose gradients are known at once (head.h), and all MTP modules. What a micro-batch keeps
// here lies in a MicroMemory of its own, from a pool that the stages of a rank share; outputs and gradients for other stages, whose
// readers are elsewhere, in buffers of their own.
#ifndef JEVONS_TRAINER_MODEL_STAGE_H_
#define JEVONS_TRAINER_MODEL_STAGE_H_

#include <array>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <vector>

#include "parallel/pipeline/stage.h"
#include "trainer/model/model.h"
#include "trainer/spec/stage_cut.h"

namespace jevons {

// The memory of micro-batches under way, of one rank: arenas by use, on one heap, for at each moment a micro-batch needs others, and what one
// has given back serves the next. A step, at whose begin all is free, takes what every such step before it took.
class MicroPool {
 public:
  MicroPool(int64_t bytes, Device device) : bytes_(bytes), heap_("micro-batches", bytes, device) {}

  enum Use { kUntilB, kUntilW, kStash, kMessage, kUses };
  std::unique_ptr<Arena> Take(Use use);
  // Scratch for one action: `first`, or where another action is under way, a second one. Slices are given back last-in-first-out, which
  // two micro-batches that run in turn would not do.
  Arena& TakeScratch(Arena& first);
  void GiveScratch(Arena& scratch);

  int64_t peak_bytes() const;  // without the first scratch, which is not the pool's
  // What these uses held when most was held: bytes by name, largest first.
  using Slices = std::vector<std::pair<std::string, int64_t>>;
  Slices SlicesOf(std::initializer_list<Use> uses) const;
  int64_t HoleBytes() const;                                       // between them
  Slices TemporarySlices(std::vector<const Arena*> others) const;  // of those and the second scratch, each at its peak

 private:
  int64_t bytes_;
  Heap heap_;
  std::unique_ptr<Arena> second_scratch_;
  std::vector<Arena*> taken_scratch_;
};

// What the micro-batches of a step have in common, and which they are.
struct StageStep {
  LayerContext ctx;  // `memory` and `wgrad` are each micro-batch's own, and set by the stage
  const ModelWeights* weights = nullptr;
  std::function<MicroBatch(int micro_batch)> batch = {};

  // Forward keeps a stage's input, its routing and what the heads found alone, and Recompute makes the rest.
  bool recompute = false;

  // For training: the constants of the loss, and where the totals of a micro-batch go.
  LossScales scales = {};
  std::function<MicroBatchTotals(int micro_batch)> totals = {};
  // Begins to reduce the gradients of this stage, for schedules that say when.
  std::function<void()> reduce = {};

  // Forward alone, for evaluation: the last stage gives what the main model's head reads of a micro-batch, [T,H], to `head`. Without it
  // modules of MTP run too, but no head.
  bool forward_only = false;
  std::function<void(const LayerContext& ctx, int micro_batch, const Tensor& hidden)> head = {};
};

class NetworkStage final : public Stage {
 public:
  NetworkStage(const Model& model, const StagePart& part, MicroPool& pool);
  ~NetworkStage() override;

  // Until the next Begin every micro-batch belongs to this step. None is open.
  void Begin(const StageStep& step);

  std::span<std::byte> Input(int micro_batch) override;
  Phases Forward(int micro_batch) override;
  std::span<const std::byte> Output(int micro_batch) override;
  void ReleaseOutput(int micro_batch) override;
  Phases Recompute(int micro_batch) override;
  std::span<std::byte> OutputGradient(int micro_batch) override;
  Phases BackwardInput(int micro_batch) override;
  void BackwardWeight(int micro_batch) override;
  Phases Backward(int micro_batch) override;
  std::span<const std::byte> InputGradient(int micro_batch) override;
  void ReleaseInputGradient(int micro_batch) override;
  void ReduceGradients() override { step_.reduce(); }

  const StagePart& part() const { return part_; }
  // The most rows that a micro-batch has brought to this rank's experts in the part's layers, relative to an even load.
  double peak_load() const { return peak_load_; }
  // Where a forward pass met NaN or Inf first, if step.ctx.non_finite asks for it: the micro-batch, layer and tensor.
  const NonFinite& non_finite() const { return non_finite_; }

 private:
  struct Open;
  struct Marks {
    Arena::Mark until_b, until_w;
  };
  static Marks MarksOf(const MicroMemory& memory) { return {memory.until_b->Save(), memory.until_w->Save()}; }
  Open& OpenMicroBatch(int micro_batch);
  Open& At(int micro_batch);
  LayerContext Context(Open& open);
  void TakeStash(Open& open);
  void Close(int micro_batch);

  // Whether weight gradients of this block read the gradient of its output.
  bool KeepsGradient(const LayerContext& ctx, int64_t layer) const;

  // What goes to another stage: until it has been sent, be the micro-batch still open or not.
  struct Message {
    std::unique_ptr<Arena> arena;
    Tensor tensor;
  };
  Tensor MakeMessage(std::map<int, Message>& messages, const Open& open, const char* name);
  void ReleaseMessage(std::map<int, Message>& messages, int micro_batch);

  BlockStats StatsOf(const Open& open, int64_t moe_layer) const;
  Phases RunForward(int micro_batch);
  Phases RunRecompute(int micro_batch);
  // A context whose layers save in `own`, their routing with the micro-batch.
  LayerContext Passing(const LayerContext& ctx, Open& open, MicroMemory& own);
  // A forward pass in training: the only one; or the first, which keeps little; or the second, whose outputs and losses are there.
  enum class Pass { kOnly, kFirst, kSecond };
  Phases ForwardPass(const LayerContext& ctx, Open& open, Pass pass);
  Phases ForwardHeads(const LayerContext& ctx, Open& open, Pass pass, Tensor x);
  void ForwardAlone(const LayerContext& ctx, Open& open);
  // fused: weight gradients run with the phase that makes them, and block by block what they read is given back.
  Phases RunBackward(int micro_batch, bool fused);
  Phases BackwardModule(const LayerContext& ctx, Open& open, size_t module);
  Phases BackwardThenWeights(const LayerContext& ctx, Open& open, Marks marks, Phases backward);

  const Model& model_;
  StagePart part_;
  MicroPool& pool_;
  StageStep step_;
  std::map<int, std::unique_ptr<Open>> open_;
  std::map<int, Message> outputs_, input_gradients_;
  double peak_load_ = 0;
  NonFinite non_finite_;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_STAGE_H_
