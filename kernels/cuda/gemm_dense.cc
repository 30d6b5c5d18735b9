// Products of BF16 or FP32 by cuBLASLt. A row-major matrix is its transpose, column-major: so C^T = op(B)^T op(A)^T is asked for.
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_lt.h"
#include "kernels/ops/elementwise.h"

namespace jevons::cuda {
namespace {

LtType TypeOf(DType dtype) { return dtype == DType::kF32 ? LtType::kF32 : LtType::kBF16; }

bool RunAsItLies(const OpContext& ctx, const GemmDesc& d) {
  const auto operand = [](const Tensor& t, Form form) {
    return LtOperand{.data = t.data, .pitch = t.rows() > 1 ? t.pitch : t.cols(), .transposed = form == Form::kTransposed};
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
Tensor Aligned(const OpContext& ctx, DType dtype, const Shape& shape) {
  const int64_t unit = 16 / SizeOf(dtype);
  return ctx.scratch->Allocate("gemm.aligned", dtype, {shape[0], (shape[1] + unit - 1) / unit * unit}).Columns(0, shape[1]);
}

Tensor AlignedCopy(const OpContext& ctx, const Tensor& t) {
  const Tensor copy = Aligned(ctx, t.dtype, t.shape);
  Copy(ctx, t, copy);
  return copy;
}

// A copy would change nothing.
bool LiesAligned(const GemmDesc& d) {
  const auto aligned = [](const Tensor& t) {
    return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && (t.rows() <= 1 || t.pitch * SizeOf(t.dtype) % 16 == 0);
  };
  return aligned(d.a) && aligned(d.b) && aligned(d.c);
}

}  // namespace

bool LtGemm(const OpContext& ctx, const GemmDesc& desc) {
  if (desc.a.dtype == DType::kF32 && desc.c.dtype == DType::kBF16) {
    // The library has no product of FP32 to BF16: the sums are made in FP32, and rounded once where they are stored.
    ArenaScope scope(*ctx.scratch);
    GemmDesc sums = desc;
    sums.c = Aligned(ctx, DType::kF32, desc.c.shape);
    if (desc.mode == WriteMode::kAdd) Copy(ctx, desc.c, sums.c);
    if (!LtGemm(ctx, sums)) return false;
    Copy(ctx, sums.c, desc.c);
    return true;
  }
  if (RunAsItLies(ctx, desc)) return true;
  // Nothing serves these addresses or pitches: copy.
  if (LiesAligned(desc)) return false;
  ArenaScope scope(*ctx.scratch);
  GemmDesc copy = desc;
  copy.a = AlignedCopy(ctx, desc.a);
  copy.b = AlignedCopy(ctx, desc.b);
  copy.c = desc.mode == WriteMode::kAdd ? AlignedCopy(ctx, desc.c) : Aligned(ctx, desc.c.dtype, desc.c.shape);
  if (!RunAsItLies(ctx, copy)) return false;
  Copy(ctx, copy.c, desc.c);
  return true;
}

}  // namespace jevons::cuda
