// The ordered list of implementations: the first that this machine can run serves every operator but the
// matrix product (which keeps its own list, gemm.h). The scalar reference comes last and runs everywhere.
// JEVONS_OPS=NAME in the environment forces one. Streams of CUDA have one table, kernels/cuda. Those of kNone have one for each
// backend that is counted: its operators take of ctx.scratch what that backend's take, and compute nothing.
#ifndef JEVONS_KERNELS_OPS_REGISTRY_H_
#define JEVONS_KERNELS_OPS_REGISTRY_H_

#include <span>

#include "kernels/ops/adamw.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/fixed_point.h"
#include "kernels/ops/permute.h"
#include "kernels/ops/reduce.h"
#include "kernels/ops/rmsnorm.h"
#include "kernels/ops/rope.h"
#include "kernels/ops/router.h"
#include "kernels/ops/softmax_xent.h"
#include "kernels/ops/swiglu.h"
#include "kernels/ops/swiglu_quantize.h"

namespace jevons {

// One implementation of every operator. Its functions trust their arguments: the public functions have
// checked them.
struct OpTable {
  const char* name;
  decltype(&jevons::AdamW) adamw;
  decltype(&jevons::Attention) attention;
  decltype(&jevons::AttentionBackward) attention_backward;
  decltype(&jevons::Copy) copy;
  decltype(&jevons::CopyParts) copy_parts;
  decltype(&jevons::Add) add;
  decltype(&jevons::AddFixedPoint) add_fixed_point;
  decltype(&jevons::FillNormal) fill_normal;
  decltype(&jevons::Fill) fill;
  decltype(&jevons::Embedding) embedding;
  void (*embedding_backward)(const OpContext&, const Tensor&, const Tensor&, const Tensor&, WriteMode);
  void (*embedding_backward_fixed_point)(const OpContext&, const Tensor&, const Tensor&, const FixedPoint&, const Tensor&, WriteMode,
                                         int64_t*);
  decltype(&jevons::SortByExpert) sort_by_expert;
  decltype(&jevons::GatherRows) gather_rows;
  decltype(&jevons::SumRows) sum_rows;
  decltype(&jevons::SumRowsByGroup) sum_rows_by_group;
  decltype(&jevons::SumSegments) sum_segments;
  decltype(&jevons::SumsOfSquares) sums_of_squares;
  decltype(&jevons::JoinSums) join_sums;
  decltype(&jevons::Sum) sum;
  decltype(&jevons::RmsNorm) rms_norm;
  decltype(&jevons::RmsNormBackward) rms_norm_backward;
  decltype(&jevons::Rope) rope;
  decltype(&jevons::RopeBackward) rope_backward;
  decltype(&jevons::Router) router;
  decltype(&jevons::BalanceLoss) balance_loss;
  decltype(&jevons::RouterBackward) router_backward;
  decltype(&jevons::CrossEntropy) cross_entropy;
  decltype(&jevons::CrossEntropyWithGrad) cross_entropy_with_grad;
  decltype(&jevons::SwiGlu) swiglu;
  decltype(&jevons::SwiGluBackward) swiglu_backward;
  decltype(&jevons::SwiGluQuantize) swiglu_quantize;
};

extern const OpTable kCpuOps;         // threaded, vectorised
extern const OpTable kRefOps;         // kernels/ref in FP32
extern const OpTable kCountedCpuOps;  // for kNone

// In a table for kNone: an operator that takes no scratch.
template <typename... Arguments>
void TakesNothing(const OpContext&, Arguments...) {}

std::span<const OpTable* const> OpTables();  // best first, "ref" last

// The table that serves the stream's device. Aborts with the list of names when JEVONS_OPS is none of them, and on a CUDA
// stream in a build without CUDA.
const OpTable& Ops(const Stream& stream = {});
void SelectOps(const OpTable& table);  // on the CPU, for tests and benchmarks

struct QuantizeTable;  // kernels/fp8/quantize.h

namespace cuda {
const OpTable& Operators();
const QuantizeTable& Quantization();
extern const OpTable kCountedOps;  // for kNone
}  // namespace cuda

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_REGISTRY_H_
