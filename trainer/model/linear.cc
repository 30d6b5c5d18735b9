#include "trainer/model/linear.h"

#include "kernels/ops/fp8_gemm.h"

namespace jevons {
namespace {

// Lines of transposed codes begin at multiples of 16 bytes, which is what tensor cores' libraries take.
constexpr int64_t kLineBytes = 16;

Fp8Operand OperandOnScratch(const OpContext& ops, int64_t rows, int64_t cols, Tiling tiling) {
  const Shape codes = CodesShape(rows, cols, tiling);
  const int64_t line = tiling == Tiling::kColumns128x1 ? (codes[1] + kLineBytes - 1) / kLineBytes * kLineBytes : codes[1];
  return {.codes = ops.scratch->Allocate("fp8.codes", DType::kU8, {codes[0], line}).Columns(0, codes[1]),
          .scales = ops.scratch->Allocate("fp8.scales", DType::kF32, ScalesShape(rows, cols, tiling)),
          .tiling = tiling};
}

Fp8Operand Quantised(const OpContext& ops, const Tensor& x, Tiling tiling, ScaleKind kind, QuantStats* stats = nullptr) {
  const Fp8Operand operand = OperandOnScratch(ops, x.rows(), x.cols(), tiling);
  Quantize(ops, {.x = x, .codes = operand.codes, .scales = operand.scales, .tiling = tiling, .scale_kind = kind, .stats = stats});
  return operand;
}

// The transposed operand of a weight gradient, made from the codes that the other products use (report 3.5.2), so that a tensor
// is rounded the same way whether it was kept in FP8 or not. Where those codes are there already, as an expert's are, the caller
// finds in `later` what is to be done, for all operands at once.
Fp8Operand Columns(const OpContext& ops, const Activation& x, Tiling tiling, ScaleKind kind, std::vector<RequantizeDesc>& later) {
  const int64_t rows = x.rows(), cols = x.quantised() ? x.fp8.codes.cols() : x.value.cols();
  const Fp8Operand result = OperandOnScratch(ops, rows, cols, Tiling::kColumns128x1);
  ArenaScope scope(*ops.scratch);
  const Fp8Operand source = x.quantised() ? x.fp8 : Quantised(ops, x.value, tiling, kind);
  if (source.tiling == Tiling::kRows1x128) {
    const RequantizeDesc desc = {.codes = source.codes,
                                 .scales = source.scales,
                                 .out_codes = result.codes,
                                 .out_scales = result.scales,
                                 .scale_kind = kind};
    if (x.quantised()) {
      later.push_back(desc);
    } else {
      RequantizeTransposed(ops, {&desc, 1});
    }
    return result;
  }
  const Tensor value = ops.scratch->Allocate("fp8.value", DType::kF32, {rows, cols});
  Dequantize(ops, {.codes = source.codes, .scales = source.scales, .x = value, .tiling = source.tiling});
  Quantize(ops, {.x = value, .codes = result.codes, .scales = result.scales, .tiling = result.tiling, .scale_kind = kind});
  return result;
}

enum class Role { kInput, kGradient };

// An operand of the forward product or of dgrad. x: codes, or a value that is quantised here.
Fp8Operand RowsOperand(const LayerContext& ctx, const Activation& x, const ProductPlan& plan, Role role) {
  if (x.quantised()) return x.fp8;
  const bool input = role == Role::kInput;
  return Quantised(ctx.ops, x.value, input ? Tiling::kRows1x128 : plan.dy_tiling, input ? plan.x : plan.dy,
                   ctx.fp8 == nullptr ? nullptr
                   : input            ? &ctx.fp8->activations
                                      : &ctx.fp8->gradients);
}

Activation InCodes(const LayerContext& ctx, const Activation& x, const ProductPlan& plan, Role role) {
  if (!plan.fp8 || x.quantised()) return x;
  Activation codes = x;
  codes.fp8 = RowsOperand(ctx, x, plan, role);
  return codes;
}

// x without rounding, or as it arrived.
Tensor Unrounded(const OpContext& ops, const Activation& x, DType dtype) {
  if (x.value) return x.value;
  const Tensor value = ops.scratch->Allocate("shadow.value", dtype, x.fp8.codes.shape);
  Dequantize(ops, {.codes = x.fp8.codes, .scales = x.fp8.scales, .x = value, .tiling = x.fp8.tiling});
  return value;
}

Form FormOf(Role role) { return role == Role::kInput ? Form::kTransposed : Form::kPlain; }

// y = x times the weight: forward, or dgrad.
Fp8GemmDesc ProductWith(const Fp8Weight& w, const Fp8Operand& x, Role role, const ProductPlan& plan, const Tensor& y,
                        WriteMode mode = WriteMode::kOverwrite) {
  const bool turned = role == Role::kGradient && w.turned.codes;
  return {.a = x,
          .b = turned ? w.turned : w.plain,
          .c = y,
          .b_form = turned ? Form::kTransposed : FormOf(role),
          .mode = mode,
          .promote = plan.promote};
}

void CompareInShadow(const LayerContext& ctx, const Fp8GemmDesc& product, const Activation& x, const Tensor& w, Role role) {
  ArenaScope scope(*ctx.ops.scratch);
  CompareProducts(ctx.ops, product, Unrounded(ctx.ops, x, w.dtype), Form::kPlain, w, FormOf(role),
                  *ctx.ShadowError(role == Role::kInput ? Verb::kForward : Verb::kDgrad));
}

// The product of a Linear with the activation: forward x W^T, dgrad dy W.
void Product(const LayerContext& ctx, const Activation& x, const Weight& w, Role role, const Tensor& y, WriteMode mode) {
  if (!w.plan.fp8) return Gemm(ctx.ops, {.a = x.value, .b = w.value, .c = y, .b_form = FormOf(role), .mode = mode});
  ArenaScope scope(*ctx.ops.scratch);
  const Fp8GemmDesc product = ProductWith(w.fp8, RowsOperand(ctx, x, w.plan, role), role, w.plan, y, mode);
  Fp8Gemm(ctx.ops, product);
  if (ctx.shadow != nullptr) CompareInShadow(ctx, product, x, w.value, role);
}

// The same for each segment with its expert.
void ExpertProducts(const LayerContext& ctx, std::span<const ExpertSegment> segments, const Activation& x, const ExpertWeight& w,
                    Role role, const Tensor& y) {
  if (!w.plan.fp8) {
    std::vector<GemmDesc> products;
    for (const ExpertSegment& segment : segments)
      products.push_back({.a = x.value.Rows(segment.rows.begin, segment.rows.size()),
                          .b = w.value.Index(segment.expert),
                          .c = y.Rows(segment.rows.begin, segment.rows.size()),
                          .b_form = FormOf(role)});
    return GroupedGemm(ctx.ops, products);
  }
  ArenaScope scope(*ctx.ops.scratch);
  // Tiles of one row may be cut out of the whole; blocks must begin where the segment does.
  const bool by_rows = role == Role::kInput || w.plan.dy_tiling == Tiling::kRows1x128;
  const Activation whole = by_rows ? InCodes(ctx, x, w.plan, role) : x;
  std::vector<Fp8GemmDesc> products;
  for (const ExpertSegment& segment : segments) {
    const int64_t begin = segment.rows.begin, count = segment.rows.size();
    products.push_back(ProductWith(w.fp8[static_cast<size_t>(segment.expert)],
                                   RowsOperand(ctx, whole.Rows(begin, count), w.plan, role), role, w.plan, y.Rows(begin, count)));
    if (ctx.shadow != nullptr) CompareInShadow(ctx, products.back(), x.Rows(begin, count), w.value.Index(segment.expert), role);
  }
  GroupedFp8Gemm(ctx.ops, products);
}

}  // namespace

Activation AsInput(const LayerContext& ctx, const Activation& x, const ProductPlan& plan) {
  return InCodes(ctx, x, plan, Role::kInput);
}

Activation AsGradient(const LayerContext& ctx, const Activation& dy, const ProductPlan& plan) {
  // Blocks are cut by each product, since its rows may be a part of these.
  return plan.dy_tiling == Tiling::kRows1x128 ? InCodes(ctx, dy, plan, Role::kGradient) : dy;
}

bool KeepsInput(const LayerContext& ctx, const ProductPlan& plan) { return !plan.fp8 || ctx.shadow != nullptr; }

bool KeepsGradient(const LayerContext& ctx, const ProductPlan& plan) {
  return KeepsInput(ctx, plan) || plan.dy_tiling != Tiling::kRows1x128;
}

Activation KeptInput(const LayerContext& ctx, const Activation& x, const ProductPlan& plan) {
  LayerContext uncounted = ctx.OnStash();  // forward counted what is lost
  uncounted.fp8 = nullptr;
  Activation kept = AsInput(uncounted, x, plan);
  if (!KeepsInput(ctx, plan)) kept.value = {};
  return kept;
}

Activation KeptGradient(const LayerContext& ctx, const Activation& dy, const ProductPlan& plan) {
  Activation kept = AsGradient(ctx.OnStash(), dy, plan);
  if (!KeepsGradient(ctx, plan)) kept.value = {};
  return kept;
}

LayerContext ForInput(const LayerContext& ctx, const ProductPlan& plan) { return KeepsInput(ctx, plan) ? ctx.OnStash() : ctx; }

LayerContext ForGradient(const LayerContext& ctx, const ProductPlan& plan) {
  return KeepsGradient(ctx, plan) ? ctx.OnStash() : ctx;
}

void LinearForward(const LayerContext& ctx, const Activation& x, const Weight& w, const Tensor& y, WriteMode mode) {
  Product(ctx, x, w, Role::kInput, y, mode);
}

void LinearBackwardInput(const LayerContext& ctx, const Activation& dy, const Activation& x, const Weight& w, const Tensor& dx,
                         WriteMode mode) {
  const Activation gradient = KeptGradient(ctx, dy, w.plan);
  if (w.grad.sum) ctx.wgrad->Push(gradient, KeptInput(ctx, x, w.plan), w.grad, w.plan, ctx.ShadowError(Verb::kWgrad));
  Product(ctx, gradient, w, Role::kGradient, dx, mode);
}

void ExpertsForward(const LayerContext& ctx, std::span<const ExpertSegment> segments, const Activation& x, const ExpertWeight& w,
                    const Tensor& y) {
  ExpertProducts(ctx, segments, x, w, Role::kInput, y);
}

void ExpertsBackwardInput(const LayerContext& ctx, std::span<const ExpertSegment> segments, const Activation& dy,
                          const ExpertWeight& w, const Tensor& dx) {
  ExpertProducts(ctx, segments, dy, w, Role::kGradient, dx);
}

void WgradQueue::Run(const OpContext& ops) {
  for (size_t next = 0; next < tasks_.size();) next = RunSome(ops, next);
  tasks_.clear();
}

// Many products at once keep all of a device, or all threads, at work.
size_t WgradQueue::RunSome(const OpContext& ops, size_t first) {
  ArenaScope scope(*ops.scratch);
  const int64_t room = ops.stream.backend() == Device::kCuda ? kWgradBytesOnDevice : kWgradBytes,
                begin = ops.scratch->used_bytes();
  std::vector<GemmDesc> plain;
  std::vector<Fp8GemmDesc> fp8;
  std::vector<RequantizeDesc> operands;
  std::vector<FixedPointSum> sums;
  const FixedPoint* format = nullptr;
  size_t next = first;
  for (; next < tasks_.size() && (next == first || ops.scratch->used_bytes() - begin < room); ++next) {
    const Task& task = tasks_[next];
    Tensor to = task.dw.sum;
    WriteMode mode = WriteMode::kOverwrite;
    if (task.dw.exact()) {
      to = ops.scratch->Allocate("contribution", DType::kF32, task.dw.sum.shape);
      format = task.dw.format;
      if (sums.empty() || sums.back().sum.data != task.dw.sum.data)
        sums.push_back({.values = {}, .sum = task.dw.sum, .mode = task.dw.NextMode(), .flag = task.dw.flag});
      sums.back().values.push_back(to);
    } else {
      mode = task.dw.NextMode();
    }
    if (task.plan.fp8)
      fp8.push_back({.a = Columns(ops, task.dy, task.plan.dy_tiling, task.plan.dy, operands),
                     .b = Columns(ops, task.x, Tiling::kRows1x128, task.plan.x, operands),
                     .c = to,
                     .b_form = Form::kTransposed,
                     .mode = mode,
                     .promote = task.plan.promote});
    else
      plain.push_back({.a = task.dy.value, .b = task.x.value, .c = to, .a_form = Form::kTransposed, .mode = mode});
  }
  GroupedGemm(ops, plain);
  RequantizeTransposed(ops, operands);
  GroupedFp8Gemm(ops, fp8);
  if (!sums.empty()) AddFixedPoint(ops, *format, sums);
  auto product = fp8.begin();
  for (size_t i = first; i < next; ++i)
    if (tasks_[i].plan.fp8) CompareInShadow(ops, tasks_[i], *product++);
  return next;
}

void WgradQueue::CompareInShadow(const OpContext& ops, const Task& task, const Fp8GemmDesc& product) {
  if (task.error == nullptr) return;
  ArenaScope scope(*ops.scratch);
  const DType type = task.x.value ? task.x.value.dtype : task.dy.value ? task.dy.value.dtype : DType::kF32;
  CompareProducts(ops, product, Unrounded(ops, task.dy, type), Form::kTransposed, Unrounded(ops, task.x, type), Form::kPlain,
                  *task.error);
}

}  // namespace jevons
