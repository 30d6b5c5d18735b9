// What a layer is given to work with, and the words all layers share.
//
// Every layer has three verbs (architecture, contracts 1-3):
//   Forward(ctx, x, ..., saved)        fills `saved`, its tensors on ctx.saved
//   BackwardInput(ctx, dy, saved, ...) gives dx and pushes the weight gradients, as data, on ctx.wgrad
//   the weight gradients run when the queue is run: all of them are matrix products
// Layers hold no state of a micro-batch. Letters in shapes: T rows (tokens) of the micro-batch, H hidden size, K top_k,
// E experts, R rows received by this rank's experts, I the width of an FFN, V vocabulary.
#ifndef JEVONS_TRAINER_MODEL_CONTEXT_H_
#define JEVONS_TRAINER_MODEL_CONTEXT_H_

#include <vector>

#include "kernels/fp8/weight.h"
#include "trainer/model/phase_timer.h"
#include "trainer/model/shadow.h"

namespace jevons {

// Where the gradient of one parameter goes in this micro-batch, and whether it overwrites or joins its left sibling in the
// summation tree. `tensor` empty: nobody wants it.
struct GradTarget {
  Tensor tensor;
  WriteMode mode = WriteMode::kOverwrite;
};

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

// A parameter as a layer sees it: its view for computing, and its gradient's place. Both are set for each micro-batch.
struct Weight {
  Tensor value;     // compute type
  Fp8Weight fp8;    // codes of value, where the plan is FP8: WeightBinding::Quantize
  GradTarget grad;  // FP32
  ProductPlan plan = {};
};

// The stacked experts of one matrix on this rank: value [experts here, N, K]; one gradient place per source rank, because
// each source is another micro-batch. A source without a micro-batch in this round has an empty tensor.
struct ExpertWeight {
  Tensor value;
  std::vector<Fp8Weight> fp8;    // [experts here], likewise
  std::vector<GradTarget> grad;  // [sources], each [experts here, N, K]
  ProductPlan plan = {};
};

// Room on a device's scratch for the transposed FP8 operands of weight gradients that run together; one product may need more.
inline constexpr int64_t kWgradOperandBytes = int64_t{256} << 20;

// Weight gradients are matrix products, kept as data until somebody runs them (contract 3).
class WgradQueue {
 public:
  // dW[N,K] (=|+=) dy[T,N]^T x[T,K]
  // error: where a shadow step adds what FP8 changed, or null.
  void Push(const Activation& dy, const Activation& x, const GradTarget& dw, const ProductPlan& plan, ProductError* error = nullptr) {
    if (dw.tensor) tasks_.push_back({dy, x, dw, plan, error});
  }
  void Run(const OpContext& ops);  // linear.cc
  bool empty() const { return tasks_.empty(); }

 private:
  struct Task {
    Activation dy, x;
    GradTarget dw;
    ProductPlan plan;
    ProductError* error;
  };
  void RunFp8(const OpContext& ops);
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
};

struct LayerContext {
  OpContext ops;             // stream and scratch
  Arena* saved = nullptr;    // what forward leaves for backward
  DType dtype = DType::kF32; // of activations and compute weights
  WgradQueue* wgrad = nullptr;
  PhaseTimer* timer = nullptr;
  NonFinite* non_finite = nullptr;  // nullptr: nobody looks
  Fp8Stats* fp8 = nullptr;   // where the stream works; nullptr: nobody counts
  Shadow* shadow = nullptr;  // set in shadow steps
  bool recompute_up_projections = false;  // MLA's queries, keys and values are not saved (report 3.2.3)

  Tensor Save(const char* name, const Shape& shape) const { return saved->Allocate(name, dtype, shape); }
  Tensor SaveAs(const char* name, DType type, const Shape& shape) const { return saved->Allocate(name, type, shape); }
  Tensor Temp(const char* name, const Shape& shape) const { return ops.scratch->Allocate(name, dtype, shape); }
  Tensor TempAs(const char* name, DType type, const Shape& shape) const {
    return ops.scratch->Allocate(name, type, shape);
  }
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_CONTEXT_H_
