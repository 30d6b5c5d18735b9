#include "kernels/cpu/cpu_ops.h"

namespace jevons {

const OpTable kCpuOps = {
    .name = "cpu",
    .adamw = cpu::AdamW,
    .attention = cpu::Attention,
    .attention_backward = cpu::AttentionBackward,
    .copy = cpu::Copy,
    .copy_parts = cpu::CopyParts,
    .add = cpu::Add,
    .add_fixed_point = cpu::AddFixedPoint,
    .fill_normal = cpu::FillNormal,
    .fill = cpu::Fill,
    .embedding = cpu::Embedding,
    .embedding_backward = cpu::EmbeddingBackward,
    .embedding_backward_fixed_point = cpu::EmbeddingBackward,
    .sort_by_expert = cpu::SortByExpert,
    .gather_rows = cpu::GatherRows,
    .sum_rows = cpu::SumRows,
    .sum_rows_by_group = cpu::SumRowsByGroup,
    .sums_of_squares = cpu::SumsOfSquares,
    .join_sums = cpu::JoinSums,
    .sum = cpu::Sum,
    .rms_norm = cpu::RmsNorm,
    .rms_norm_backward = cpu::RmsNormBackward,
    .rope = cpu::Rope,
    .rope_backward = cpu::RopeBackward,
    .router = cpu::Router,
    .balance_loss = cpu::BalanceLoss,
    .router_backward = cpu::RouterBackward,
    .cross_entropy = cpu::CrossEntropy,
    .cross_entropy_with_grad = cpu::CrossEntropyWithGrad,
    .swiglu = cpu::SwiGlu,
    .swiglu_backward = cpu::SwiGluBackward,
    .swiglu_quantize = cpu::SwiGluQuantize,
};

}  // namespace jevons
