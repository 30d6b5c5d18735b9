// What a layer is given to work with, and the words all layers share.
//
// Every layer has three verbs (trainer/DESIGN.md, contracts 1-3):
//   Forward(ctx, x, ..., saved)        fills `saved`, its tensors in ctx.memory
//   BackwardInput(ctx, dy, saved, ...) gives dx and pushes the weight gradients, as data, on ctx.wgrad; what they read of it, dy and
//                                      x among it, lies in ctx.memory
//   the weight gradients run when the queue is run: all of them are matrix products
// Layers hold no state of a micro-batch. Letters in shapes: T rows (tokens) of the micro-batch, H hidden size, K top_k,
// E experts, R rows received by this rank's experts, I the width of an FFN, V vocabulary.
#ifndef JEVONS_TRAINER_MODEL_CONTEXT_H_
#define JEVONS_TRAINER_MODEL_CONTEXT_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/ops/fixed_point.h"
#include "kernels/ops/fp8_weight.h"
#include "trainer/model/phase_timer.h"
#include "trainer/model/shadow.h"

namespace jevons {

// Where the contributions to the gradient of one parameter are summed over a step (trainer/DESIGN.md, contract 8; gradients.h). An I64
// sum takes them in fixed point, exact in any order; an FP32 sum adds them in the order in which they are made. `sum` empty: nobody
// wants it.
struct GradientSum {
  Tensor sum;                          // of the parameter's shape
  const FixedPoint* format = nullptr;  // of an I64 sum
  int64_t* flag = nullptr;             // likewise: raised by what cannot be summed
  bool* started = nullptr;             // whether something has been added in this step; null: nothing has, the first overwrites

  bool exact() const { return sum.dtype == DType::kI64; }
  // How the next contribution goes in.
  WriteMode NextMode() const {
    const bool add = started != nullptr && *started;
    if (started != nullptr) *started = true;
    return add ? WriteMode::kAdd : WriteMode::kOverwrite;
  }
};

// Adds one contribution: compute(place, mode) writes it to, or adds it to, an FP32 place of the sum's shape.
template <typename Compute>
void Contribute(const OpContext& ops, const GradientSum& gradient, const Compute& compute) {
  if (!gradient.exact()) return compute(gradient.sum, gradient.NextMode());
  ArenaScope scope(*ops.scratch);
  const Tensor value = ops.scratch->Allocate("contribution", DType::kF32, gradient.sum.shape);
  compute(value, WriteMode::kOverwrite);
  const FixedPointSum sum{.values = {value}, .sum = gradient.sum, .mode = gradient.NextMode(), .flag = gradient.flag};
  AddFixedPoint(ops, *gradient.format, {&sum, 1});
}

// In what the three products of a Linear are computed (report 3.3). FP8: x and dy in tiles of 1x128, the weight in blocks of
// 128x128; scales are powers of two where the report says so.
struct ProductPlan {
  bool fp8 = false;
  ScaleKind x = ScaleKind::kFp32;
  ScaleKind dy = ScaleKind::kFp32;
  // For ablations (report 3.3.2, appendix B.2): gradients in blocks of 128x128; sums that stay in the tensor core.
  Tiling dy_tiling = Tiling::kRows1x128;
  bool promote = true;
};

// What quantisation lost, by class of tensor.
struct Fp8Stats {
  QuantStats activations, gradients, weights, cached;
};

// What the products of a Linear read, x or dy: a matrix of the compute type, its E4M3 codes by 1x128, or both.
struct Activation {
  Tensor value;    // [T, C]; empty: only the codes are there
  Fp8Operand fp8;  // empty: not quantised

  Activation() = default;
  Activation(const Tensor& value) : value(value) {}  // implicit: most are plain
  bool quantised() const { return static_cast<bool>(fp8.codes); }
  int64_t rows() const { return quantised() ? fp8.codes.rows() : value.rows(); }
  Activation Rows(int64_t begin, int64_t count) const {
    Activation part;
    if (value) part.value = value.Rows(begin, count);
    if (quantised()) part.fp8 = {fp8.codes.Rows(begin, count), fp8.scales.Rows(begin, count), fp8.tiling};
    return part;
  }
};

// A parameter as a layer sees it: its view for computing, and where its gradient is summed.
struct Weight {
  Tensor value;   // compute type
  Fp8Weight fp8;  // codes of value, where the plan is FP8: WeightBinding::Quantize
  GradientSum grad;
  ProductPlan plan = {};
};

// The stacked experts of one matrix on this rank: value [experts here, N, K].
struct ExpertWeight {
  Tensor value;
  std::vector<Fp8Weight> fp8;     // [experts here], likewise
  std::vector<GradientSum> grad;  // [experts here], each [N, K]
  ProductPlan plan = {};
};

// Room on scratch for what weight gradients that run together need: transposed FP8 operands, and contributions on their way into
// exact sums. One product may need more. On the host it stays in the caches.
inline constexpr int64_t kWgradBytes = int64_t{8} << 20;
inline constexpr int64_t kWgradBytesOnDevice = int64_t{256} << 20;

// Weight gradients are matrix products, kept as data until somebody runs them (contract 3).
class WgradQueue {
 public:
  // Contributes dy[T,N]^T x[T,K] to dW [N,K]. Contributions to one exact sum, pushed one after the other, are added together;
  // an FP32 sum takes one between two runs.
  // error: where a shadow step adds what FP8 changed, or null.
  void Push(const Activation& dy, const Activation& x, const GradientSum& dw, const ProductPlan& plan,
            ProductError* error = nullptr) {
    if (dw.sum) tasks_.push_back({dy, x, dw, plan, error});
  }
  void Run(const OpContext& ops);  // linear.cc
  bool empty() const { return tasks_.empty(); }

 private:
  struct Task {
    Activation dy, x;
    GradientSum dw;
    ProductPlan plan;
    ProductError* error;
  };
  // Runs tasks from `first` on, as many as there is room for, and returns the next.
  size_t RunSome(const OpContext& ops, size_t first);
  static void CompareInShadow(const OpContext& ops, const Task& task, const Fp8GemmDesc& product);
  std::vector<Task> tasks_;
};

// The rows of one micro-batch: `sequences` of `sequence_length` tokens each; zero sequences is a legal size.
struct RowLayout {
  int64_t sequences = 0;
  int64_t sequence_length = 0;
  Tensor document_start = {};  // [T] I32 or empty: see kernels/ops/attention.h, as for the two numbers
  int64_t documents = 0, longest_document = 0;
  int64_t rows() const { return sequences * sequence_length; }
};

// The first place where a forward pass met NaN or Inf: the norm of a row tells for the whole row. Whoever looks waits for each
// norm, so one looks when a loss has told that there is something to find.
struct NonFinite {
  int layer = -1;
  const char* tensor = nullptr;
  int micro_batch = -1;  // where a stage runs several
};

// What one micro-batch keeps at one stage, by its last reader (contract 2).
struct MicroMemory {
  MicroMemory() = default;
  // With memory of its own.
  MicroMemory(const std::string& name, int64_t capacity, Device device = Device::kCpu) {
    for (std::unique_ptr<Arena>* arena : {&until_b, &until_w, &stash}) *arena = std::make_unique<Arena>(name, capacity, device);
  }
  std::unique_ptr<Arena> until_b;  // forward leaves it for BackwardInput
  std::unique_ptr<Arena> until_w;  // forward leaves it for the weight gradients
  std::unique_ptr<Arena> stash;    // BackwardInput leaves it for the weight gradients; forward needs none
};

// Gives back at its end what has been allocated since.
class MicroScope {
 public:
  explicit MicroScope(MicroMemory& memory) : until_b_(*memory.until_b), until_w_(*memory.until_w) {
    if (memory.stash != nullptr) stash_.emplace(*memory.stash);
  }

 private:
  ArenaScope until_b_, until_w_;
  std::optional<ArenaScope> stash_;
};

struct LayerContext {
  OpContext ops;  // stream and scratch
  MicroMemory* memory = nullptr;
  DType dtype = DType::kF32;  // of activations and compute weights
  WgradQueue* wgrad = nullptr;
  PhaseTimer* timer = nullptr;
  NonFinite* non_finite = nullptr;        // nullptr: nobody looks
  Fp8Stats* fp8 = nullptr;                // where the stream works; nullptr: nobody counts
  Shadow* shadow = nullptr;               // set in shadow steps
  size_t layer = 0;                       // whose products these are, in the order of Shadow::layers
  bool recompute_up_projections = false;  // MLA's queries, keys and values are not saved (report 3.2.3)
  Arena* routing =
      nullptr;  // where routing is saved, if not in memory->until_b: for a forward pass that runs again with the same

  Tensor Save(const char* name, const Shape& shape) const { return memory->until_b->Allocate(name, dtype, shape); }
  Tensor SaveAs(const char* name, DType type, const Shape& shape) const { return memory->until_b->Allocate(name, type, shape); }
  Arena& Routing() const { return routing == nullptr ? *memory->until_b : *routing; }
  Tensor Stash(const char* name, const Shape& shape) const { return memory->stash->Allocate(name, dtype, shape); }
  Tensor Temp(const char* name, const Shape& shape) const { return ops.scratch->Allocate(name, dtype, shape); }
  Tensor TempAs(const char* name, DType type, const Shape& shape) const { return ops.scratch->Allocate(name, type, shape); }
  // Where a shadow step adds the errors of this layer's products, or null.
  ProductError* ShadowError(Verb verb) const {
    return shadow == nullptr ? nullptr : &shadow->layers[layer][static_cast<size_t>(verb)];
  }
  LayerContext InLayer(int index) const {
    LayerContext ctx = *this;
    ctx.layer = static_cast<size_t>(index);
    return ctx;
  }
  // For what gives temporaries back as results, where weight gradients read these.
  LayerContext OnStash() const {
    LayerContext ctx = *this;
    ctx.ops.scratch = memory->stash.get();
    return ctx;
  }
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_CONTEXT_H_
