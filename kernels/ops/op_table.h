// The one table of operators. A backend has a table with an entry for every operator, products and quantisation included; the public
// functions of this folder check what is the same everywhere and call the entry of the table that serves the stream.
//
// Entries trust their arguments. Where a table cannot serve operands that another could (a limit of a device's kernels), its entry says
// why: refusal().
#ifndef JEVONS_KERNELS_OPS_OP_TABLE_H_
#define JEVONS_KERNELS_OPS_OP_TABLE_H_

#include <span>
#include <string>

#include "kernels/ops/adamw.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/fixed_point.h"
#include "kernels/ops/fp8_gemm.h"
#include "kernels/ops/fp8_weight.h"
#include "kernels/ops/gemm.h"
#include "kernels/ops/permute.h"
#include "kernels/ops/quantize.h"
#include "kernels/ops/reduce.h"
#include "kernels/ops/rmsnorm.h"
#include "kernels/ops/rope.h"
#include "kernels/ops/router.h"
#include "kernels/ops/softmax_xent.h"
#include "kernels/ops/swiglu.h"
#include "kernels/ops/swiglu_quantize.h"

namespace jevons {

// An operator of a table, called as its function is.
template <typename Function>
class Op;
template <typename... Operands>
class Op<void (*)(const OpContext&, Operands...)> {
 public:
  using Run = void (*)(const OpContext&, Operands...);
  using Refusal = std::string (*)(Operands...);

  constexpr Op() = default;
  constexpr Op(Run run, Refusal refusal = nullptr) : run_(run), refusal_(refusal) {}

  // Why these operands cannot be served here; empty: they can.
  std::string refusal(Operands... operands) const { return refusal_ == nullptr ? "" : refusal_(operands...); }

  // Aborts with the refusal where there is one.
  void operator()(const OpContext& ctx, Operands... operands) const {
    if (refusal_ != nullptr) {
      const std::string why = refusal_(operands...);
      JEVONS_CHECK(why.empty(), "%s", why.c_str());
    }
    run_(ctx, operands...);
  }

 private:
  Run run_ = nullptr;
  Refusal refusal_ = nullptr;
};

// One implementation of every operator.
struct OpTable {
  const char* name;
  std::string (*product_implementation)(DType in);  // GemmImplementation
  Op<decltype(&AdamW)> adamw;
  Op<decltype(&Attention)> attention;
  Op<decltype(&AttentionBackward)> attention_backward;
  Op<decltype(&Copy)> copy;
  Op<decltype(&CopyParts)> copy_parts;
  Op<decltype(&Add)> add;
  Op<decltype(&AddFixedPoint)> add_fixed_point;
  Op<decltype(&FillNormal)> fill_normal;
  Op<decltype(&Fill)> fill;
  Op<decltype(&Embedding)> embedding;
  Op<void (*)(const OpContext&, const Tensor&, const Tensor&, const Tensor&, WriteMode)> embedding_backward;
  Op<void (*)(const OpContext&, const Tensor&, const Tensor&, const FixedPoint&, const Tensor&, WriteMode, int64_t*)>
      embedding_backward_fixed_point;
  Op<decltype(&SortByExpert)> sort_by_expert;
  Op<decltype(&GatherRows)> gather_rows;
  Op<decltype(&SumRows)> sum_rows;
  Op<decltype(&SumRowsByGroup)> sum_rows_by_group;
  Op<decltype(&SumSegments)> sum_segments;
  Op<decltype(&SumsOfSquares)> sums_of_squares;
  Op<decltype(&JoinSums)> join_sums;
  Op<decltype(&Sum)> sum;
  Op<decltype(&RmsNorm)> rms_norm;
  Op<decltype(&RmsNormBackward)> rms_norm_backward;
  Op<decltype(&Rope)> rope;
  Op<decltype(&RopeBackward)> rope_backward;
  Op<decltype(&Router)> router;
  Op<decltype(&BalanceLoss)> balance_loss;
  Op<decltype(&RouterBackward)> router_backward;
  Op<decltype(&CrossEntropy)> cross_entropy;
  Op<decltype(&CrossEntropyWithGrad)> cross_entropy_with_grad;
  Op<decltype(&SwiGlu)> swiglu;
  Op<decltype(&SwiGluBackward)> swiglu_backward;
  Op<decltype(&SwiGluQuantize)> swiglu_quantize;
  Op<decltype(&Quantize)> quantize;
  Op<decltype(&Dequantize)> dequantize;
  Op<decltype(&RequantizeTransposed)> requantize_transposed;
  Op<decltype(&QuantizeWeights)> quantize_weights;
  Op<decltype(&GroupedGemm)> grouped_gemm;
  Op<decltype(&GroupedFp8Gemm)> grouped_fp8_gemm;
};

// In a table for kNone: an operator that takes no scratch.
template <typename... Operands>
void TakesNothing(const OpContext&, Operands...) {}

// The table that serves the stream (kernels/registry). Aborts on a CUDA stream in a build without CUDA.
const OpTable& Ops(const Stream& stream = {});

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_OP_TABLE_H_
