#include "kernels/cuda/cuda_ops.h"

namespace jevons::cuda {

const OpTable& Operators() {
  static constexpr OpTable kTable = {
      .name = "cuda",
      .product_implementation = ProductImplementation,
      .adamw = AdamW,
      .attention = Attention,
      .attention_backward = AttentionBackward,
      .copy = Copy,
      .copy_parts = CopyParts,
      .add = Add,
      .add_fixed_point = AddFixedPoint,
      .fill_normal = FillNormal,
      .fill = Fill,
      .embedding = Embedding,
      .embedding_backward = EmbeddingBackward,
      .embedding_backward_fixed_point = EmbeddingBackward,
      .sort_by_expert = {SortByExpert, SortByExpertRefusal},
      .gather_rows = GatherRows,
      .sum_rows = SumRows,
      .sum_rows_by_group = SumRowsByGroup,
      .sum_segments = SumSegments,
      .sums_of_squares = SumsOfSquares,
      .join_sums = JoinSums,
      .sum = Sum,
      .rms_norm = RmsNorm,
      .rms_norm_backward = RmsNormBackward,
      .rope = Rope,
      .rope_backward = RopeBackward,
      .router = {Router, RouterRefusal},
      .balance_loss = {BalanceLoss, BalanceLossRefusal},
      .router_backward = {RouterBackward, RouterBackwardRefusal},
      .cross_entropy = CrossEntropy,
      .cross_entropy_with_grad = CrossEntropyWithGrad,
      .swiglu = SwiGlu,
      .swiglu_backward = SwiGluBackward,
      .swiglu_quantize = SwiGluQuantize,
      .quantize = Quantize,
      .dequantize = Dequantize,
      .requantize_transposed = RequantizeTransposed,
      .quantize_weights = {QuantizeWeights, QuantizeWeightsRefusal},
      .grouped_gemm = GroupedGemm,
      .grouped_fp8_gemm = GroupedFp8Gemm,
  };
  return kTable;
}

}  // namespace jevons::cuda
