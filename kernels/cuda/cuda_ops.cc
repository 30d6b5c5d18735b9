#include "kernels/cuda/cuda_ops.h"

namespace jevons::cuda {

const OpTable& Operators() {
  static const OpTable table = [] {
    OpTable t{};
    t.name = "cuda";
    t.adamw = AdamW;
    t.attention = Attention;
    t.attention_backward = AttentionBackward;
    t.copy = Copy;
    t.copy_parts = CopyParts;
    t.add = Add;
    t.add_fixed_point = AddFixedPoint;
    t.fill_normal = FillNormal;
    t.fill = Fill;
    t.embedding = Embedding;
    t.embedding_backward = EmbeddingBackward;
    t.embedding_backward_fixed_point = EmbeddingBackward;
    t.sort_by_expert = SortByExpert;
    t.gather_rows = GatherRows;
    t.sum_rows = SumRows;
    t.sum_rows_by_group = SumRowsByGroup;
    t.sum_segments = SumSegments;
    t.sums_of_squares = SumsOfSquares;
    t.join_sums = JoinSums;
    t.sum = Sum;
    t.rms_norm = RmsNorm;
    t.rms_norm_backward = RmsNormBackward;
    t.rope = Rope;
    t.rope_backward = RopeBackward;
    t.router = Router;
    t.balance_loss = BalanceLoss;
    t.router_backward = RouterBackward;
    t.cross_entropy = CrossEntropy;
    t.cross_entropy_with_grad = CrossEntropyWithGrad;
    t.swiglu = SwiGlu;
    t.swiglu_backward = SwiGluBackward;
    t.swiglu_quantize = SwiGluQuantize;
    return t;
  }();
  return table;
}

const QuantizeTable& Quantization() {
  static constexpr QuantizeTable kTable = {
      .quantize = Quantize, .dequantize = Dequantize, .requantize_transposed = RequantizeTransposed};
  return kTable;
}

}  // namespace jevons::cuda
