// CUDA's operators on a device that only counts: each takes its scratch as the operator does (scratch.h), and gives it back. They need
// no CUDA, so that a plan for GPUs can be made anywhere.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/scratch.h"

namespace jevons::cuda {
namespace {

// True: cuDNN's room has been counted.
bool CountCudnn(const OpContext& ctx, const AttentionDesc& d, const AttentionGrad* grad) {
  if (CudnnIsLeftOut() || !CudnnRefusal(d, grad).empty()) return false;
  constexpr int64_t kForwardOperands = 5, kBackwardOperands = 9;
  const CallPlan plan = PlanOf(d, grad != nullptr, DocumentsAreCountedExactly());
  ArenaScope scope(*ctx.scratch);
  CudnnRoom(ctx, d, plan);
  int64_t workspace = 0;
  for (const PartPlan& part : plan.parts) workspace = std::max(workspace, WorkspaceBytes(part.shape));
  CudnnWorkspace(ctx, workspace);
  for (const PartPlan& part : plan.parts)
    if (d.document_start) CudnnTableRoom(ctx, part, grad == nullptr ? kForwardOperands : kBackwardOperands);
  return true;
}

void CountAttention(const OpContext& ctx, const AttentionDesc& d) { CountCudnn(ctx, d, nullptr); }

void CountAttentionBackward(const OpContext& ctx, const AttentionDesc& d, const AttentionGrad& grad) {
  if (CountCudnn(ctx, d, &grad)) return;
  ArenaScope scope(*ctx.scratch);
  PlainBackwardRoom(ctx, d);
}

void CountEmbedding(const OpContext& ctx, int64_t rows, int64_t vocab) {
  if (rows == 0) return;
  ArenaScope scope(*ctx.scratch);
  const RadixRoom sort(ctx, rows, vocab);
  SortRoom(ctx, rows, int64_t{1} << sort.width);
}

void CountEmbeddingBackward(const OpContext& ctx, const Tensor& dy, const Tensor&, const Tensor& dtable, WriteMode) {
  CountEmbedding(ctx, dy.rows(), dtable.rows());
}

void CountEmbeddingBackwardFixedPoint(const OpContext& ctx, const Tensor& dy, const Tensor&, const FixedPoint&,
                                      const Tensor& dtable, WriteMode, int64_t*) {
  CountEmbedding(ctx, dy.rows(), dtable.rows());
}

void CountSortByExpert(const OpContext& ctx, const Tensor& indices, const Tensor& counts, const Tensor&, const Tensor&) {
  ArenaScope scope(*ctx.scratch);
  SortRoom(ctx, indices.size(), counts.size());
}

void CountSumRowsByGroup(const OpContext& ctx, const Tensor&, const Tensor&, const Tensor& indices, int64_t, const Tensor&,
                         WriteMode) {
  ArenaScope scope(*ctx.scratch);
  GroupOrder(ctx, indices.size());
}

void CountSumsOfSquares(const OpContext& ctx, std::span<const SquaresSlice> slices, int64_t) {
  ArenaScope scope(*ctx.scratch);
  SquaresParts(ctx, slices);
}

void CountRmsNormBackward(const OpContext& ctx, const RmsNormGrad& g) {
  if (g.x.rows() == 0) return;
  ArenaScope scope(*ctx.scratch);
  GammaParts(ctx, g.x.rows(), g.x.cols());
}

void CountBalanceLoss(const OpContext& ctx, const RouterDesc& desc, const Tensor&, int64_t sequence_length,
                      const Tensor& fractions, const Tensor&) {
  ArenaScope scope(*ctx.scratch);
  BalanceRoom(ctx, fractions.rows(), sequence_length, desc.experts);
}

}  // namespace

const OpTable kCountedOps = {
    .name = "cuda, counted",
    .product_implementation = ProductImplementation,
    .adamw = TakesNothing,
    .attention = CountAttention,
    .attention_backward = CountAttentionBackward,
    .copy = TakesNothing,
    .copy_parts = TakesNothing,
    .add = TakesNothing,
    .add_fixed_point = TakesNothing,
    .fill_normal = TakesNothing,
    .fill = TakesNothing,
    .embedding = TakesNothing,
    .embedding_backward = CountEmbeddingBackward,
    .embedding_backward_fixed_point = CountEmbeddingBackwardFixedPoint,
    .sort_by_expert = {CountSortByExpert, SortByExpertRefusal},
    .gather_rows = TakesNothing,
    .sum_rows = TakesNothing,
    .sum_rows_by_group = CountSumRowsByGroup,
    .sum_segments = TakesNothing,
    .sums_of_squares = CountSumsOfSquares,
    .join_sums = TakesNothing,
    .sum = TakesNothing,
    .rms_norm = TakesNothing,
    .rms_norm_backward = CountRmsNormBackward,
    .rope = TakesNothing,
    .rope_backward = TakesNothing,
    .router = {TakesNothing, RouterRefusal},
    .balance_loss = {CountBalanceLoss, BalanceLossRefusal},
    .router_backward = {TakesNothing, RouterBackwardRefusal},
    .cross_entropy = TakesNothing,
    .cross_entropy_with_grad = TakesNothing,
    .swiglu = TakesNothing,
    .swiglu_backward = TakesNothing,
    .swiglu_quantize = TakesNothing,
    .quantize = TakesNothing,
    .dequantize = TakesNothing,
    .requantize_transposed = TakesNothing,
    .quantize_weights = {TakesNothing, QuantizeWeightsRefusal},
    .grouped_gemm = GroupedGemm,
    .grouped_fp8_gemm = GroupedFp8Gemm,
};

}  // namespace jevons::cuda
