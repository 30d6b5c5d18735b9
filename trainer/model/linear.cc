#include "trainer/model/linear.h"

#include "kernels/fp8/gemm.h"

namespace jevons {
namespace {

// Operands of an FP8 product, on the scratch arena.
Fp8Operand Quantized(const OpContext& ops, const Tensor& x, Tiling tiling, ScaleKind kind, QuantStats* stats) {
  const Shape codes = CodesShape(x.rows(), x.cols(), tiling), scales = ScalesShape(x.rows(), x.cols(), tiling);
  const Fp8Operand operand{.codes = ops.scratch->Allocate("fp8.codes", DType::kU8, codes),
                           .scales = ops.scratch->Allocate("fp8.scales", DType::kF32, scales),
                           .tiling = tiling};
  Quantize(ops, {.x = x, .codes = operand.codes, .scales = operand.scales, .tiling = tiling, .scale_kind = kind, .stats = stats});
  return operand;
}

Fp8Operand Rows(const OpContext& ops, const Tensor& x, ScaleKind kind, QuantStats* stats = nullptr) {
  return Quantized(ops, x, Tiling::kRows1x128, kind, stats);
}

Fp8Operand Blocks(const OpContext& ops, const Tensor& w, QuantStats* stats = nullptr) {
  return Quantized(ops, w, Tiling::kBlocks128x128, ScaleKind::kFp32, stats);
}

// The transposed operand of a weight gradient, made from the 1x128 codes that the other products use (report 3.5.2), so that a
// tensor is rounded the same way whether it was kept in FP8 or not.
Fp8Operand Columns(const OpContext& ops, const Tensor& x, ScaleKind kind) {
  const int64_t rows = x.rows(), cols = x.cols();
  const Fp8Operand result{
      .codes = ops.scratch->Allocate("fp8.codes", DType::kU8, CodesShape(rows, cols, Tiling::kColumns128x1)),
      .scales = ops.scratch->Allocate("fp8.scales", DType::kF32, ScalesShape(rows, cols, Tiling::kColumns128x1)),
      .tiling = Tiling::kColumns128x1};
  ArenaScope scope(*ops.scratch);
  const Fp8Operand source = Rows(ops, x, kind);
  RequantizeTransposed(ops, {.codes = source.codes,
                             .scales = source.scales,
                             .out_codes = result.codes,
                             .out_scales = result.scales,
                             .scale_kind = kind});
  return result;
}

// c[rows of each segment] = a W or a W^T, W the segment's expert.
void ExpertProducts(const LayerContext& ctx, std::span<const ExpertSegment> segments, const Tensor& a, const ExpertWeight& w,
                    Form form, const Tensor& c) {
  if (!w.plan.fp8) {
    std::vector<GemmDesc> products;
    for (const ExpertSegment& segment : segments)
      products.push_back({.a = a.Rows(segment.rows.begin, segment.rows.size()),
                          .b = w.value.Index(segment.expert),
                          .c = c.Rows(segment.rows.begin, segment.rows.size()),
                          .b_form = form});
    return GroupedGemm(ctx.ops, products);
  }
  ArenaScope scope(*ctx.ops.scratch);
  const bool forward = form == Form::kTransposed;
  QuantStats* stats = ctx.fp8 == nullptr ? nullptr : forward ? &ctx.fp8->activations : &ctx.fp8->gradients;
  const Fp8Operand rows = Rows(ctx.ops, a, forward ? w.plan.x : w.plan.dy, stats);
  std::vector<Fp8GemmDesc> products;
  Fp8Operand weight;
  int64_t expert = -1;
  for (const ExpertSegment& segment : segments) {
    if (segment.expert != expert)
      weight = Blocks(ctx.ops, w.value.Index(segment.expert), forward && ctx.fp8 != nullptr ? &ctx.fp8->weights : nullptr);
    expert = segment.expert;
    const int64_t begin = segment.rows.begin, count = segment.rows.size();
    products.push_back({.a = {rows.codes.Rows(begin, count), rows.scales.Rows(begin, count), rows.tiling},
                        .b = weight,
                        .c = c.Rows(begin, count),
                        .b_form = form});
  }
  GroupedFp8Gemm(ctx.ops, products);
}

}  // namespace

void LinearForward(const LayerContext& ctx, const Tensor& x, const Weight& w, const Tensor& y, WriteMode mode) {
  if (!w.plan.fp8) return Gemm(ctx.ops, {.a = x, .b = w.value, .c = y, .b_form = Form::kTransposed, .mode = mode});
  ArenaScope scope(*ctx.ops.scratch);
  Fp8Gemm(ctx.ops, {.a = Rows(ctx.ops, x, w.plan.x, ctx.fp8 == nullptr ? nullptr : &ctx.fp8->activations),
                    .b = Blocks(ctx.ops, w.value, ctx.fp8 == nullptr ? nullptr : &ctx.fp8->weights),
                    .c = y,
                    .b_form = Form::kTransposed,
                    .mode = mode});
}

void LinearBackwardInput(const LayerContext& ctx, const Tensor& dy, const Tensor& x, const Weight& w, const Tensor& dx,
                         WriteMode mode) {
  ctx.wgrad->Push(dy, x, w.grad, w.plan);
  if (!w.plan.fp8) return Gemm(ctx.ops, {.a = dy, .b = w.value, .c = dx, .mode = mode});
  ArenaScope scope(*ctx.ops.scratch);
  Fp8Gemm(ctx.ops, {.a = Rows(ctx.ops, dy, w.plan.dy, ctx.fp8 == nullptr ? nullptr : &ctx.fp8->gradients),
                    .b = Blocks(ctx.ops, w.value),
                    .c = dx,
                    .b_form = Form::kPlain,
                    .mode = mode});
}

void ExpertsForward(const LayerContext& ctx, std::span<const ExpertSegment> segments, const Tensor& x, const ExpertWeight& w,
                    const Tensor& y) {
  ExpertProducts(ctx, segments, x, w, Form::kTransposed, y);
}

void ExpertsBackwardInput(const LayerContext& ctx, std::span<const ExpertSegment> segments, const Tensor& dy,
                          const ExpertWeight& w, const Tensor& dx) {
  ExpertProducts(ctx, segments, dy, w, Form::kPlain, dx);
}

void WgradQueue::Run(const OpContext& ops) {
  std::vector<GemmDesc> plain;
  for (const Task& task : tasks_)
    if (!task.plan.fp8)
      plain.push_back({.a = task.dy, .b = task.x, .c = task.dw.tensor, .a_form = Form::kTransposed, .mode = task.dw.mode});
  GroupedGemm(ops, plain);
  for (const Task& task : tasks_) {
    if (!task.plan.fp8) continue;
    ArenaScope scope(*ops.scratch);
    Fp8Gemm(ops, {.a = Columns(ops, task.dy, task.plan.dy),
                  .b = Columns(ops, task.x, task.plan.x),
                  .c = task.dw.tensor,
                  .b_form = Form::kTransposed,
                  .mode = task.dw.mode});
  }
  tasks_.clear();
}

}  // namespace jevons
