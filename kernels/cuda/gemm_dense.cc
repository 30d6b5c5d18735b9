// Products of BF16 or FP32 by cuBLASLt. A row-major matrix is its transpose, column-major: so C^T = op(B)^T op(A)^T is asked for.
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_lt.h"
#include "kernels/ops/elementwise.h"

namespace jevons::cuda {
namespace {

LtType TypeOf(DType dtype) { return dtype == DType::kF32 ? LtType::kF32 : LtType::kBF16; }

bool RunAsItLies(const OpContext& ctx, const GemmDesc& d) {
  const auto operand = [](const Tensor& t, Form form) {
    return LtOperand{
        .data = t.data, .pitch = t.rows() > 1 ? t.pitch : t.cols(), .transposed = form == Form::kTransposed};
  };
  return RunLt(ctx, {.a = operand(d.b, d.b_form),
                     .b = operand(d.a, d.a_form),
                     .d = d.c.data,
                     .d_pitch = d.m() > 1 ? d.c.pitch : d.n(),
                     .rows = d.n(),
                     .cols = d.m(),
                     .k = d.k(),
                     .in = TypeOf(d.a.dtype),
                     .out = TypeOf(d.c.dtype),
                     .add = d.mode == WriteMode::kAdd});
}

// Room for a matrix whose rows begin at multiples of 16 bytes.
Tensor Aligned(const OpContext& ctx, const Tensor& like) {
  const int64_t unit = 16 / SizeOf(like.dtype);
  return ctx.scratch
      ->Allocate("gemm.aligned", like.dtype, {like.rows(), (like.cols() + unit - 1) / unit * unit})
      .Columns(0, like.cols());
}

Tensor AlignedCopy(const OpContext& ctx, const Tensor& t) {
  const Tensor copy = Aligned(ctx, t);
  Copy(ctx, t, copy);
  return copy;
}

}  // namespace

bool LtGemm(const OpContext& ctx, const GemmDesc& desc) {
  if (RunAsItLies(ctx, desc)) return true;
  // Nothing serves these addresses or pitches: copy.
  ArenaScope scope(*ctx.scratch);
  GemmDesc copy = desc;
  copy.a = AlignedCopy(ctx, desc.a);
  copy.b = AlignedCopy(ctx, desc.b);
  copy.c = desc.mode == WriteMode::kAdd ? AlignedCopy(ctx, desc.c) : Aligned(ctx, desc.c);
  if (!RunAsItLies(ctx, copy)) return false;
  Copy(ctx, copy.c, desc.c);
  return true;
}

}  // namespace jevons::cuda
