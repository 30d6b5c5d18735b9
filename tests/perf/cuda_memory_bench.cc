#include "kernels/ops/adamw.h"
#include "kernels/ops/fixed_point.h"
#include "kernels/ops/permute.h"
#include "kernels/ops/quantize.h"
#include "kernels/ops/reduce.h"
#include "kernels/ops/rmsnorm.h"
#include "kernels/ops/rope.h"
#include "kernels/ops/softmax_xent.h"
#include "kernels/ops/swiglu.h"
#include "kernels/ops/swiglu_quantize.h"
#include "tests/perf/cuda_bench.h"

namespace jevons {
namespace {

constexpr int64_t kHidden = 7168, kInner = 2048, kVocab = 129280, kExperts = 256, kSlots = 8;

void MeasureCopies(Bench& b, int64_t rows) {
  ArenaScope scope(b.memory());
  const Tensor x = b.Numbers(DType::kBF16, rows, kHidden), y = b.Numbers(DType::kBF16, rows, kHidden),
               wide = b.memory().Allocate("wide", DType::kF32, {rows, kHidden});
  b.Bytes("copy by the runtime", 2 * x.bytes(), [&] { CopyBytes(b.ctx().stream, x.data, y.data, x.bytes()); });
  b.Bytes("copy BF16", 2 * x.bytes(), [&] { Copy(b.ctx(), x, y); });
  b.Bytes("cast BF16 to FP32", 3 * x.bytes(), [&] { Copy(b.ctx(), x, wide); });
  b.Bytes("cast FP32 to BF16", 3 * x.bytes(), [&] { Copy(b.ctx(), wide, x); });
  b.Bytes("add BF16", 3 * x.bytes(), [&] { Add(b.ctx(), x, y, y); });
}

void MeasureNorm(Bench& b, int64_t rows) {
  ArenaScope scope(b.memory());
  const Tensor x = b.Numbers(DType::kBF16, rows, kHidden), y = b.Numbers(DType::kBF16, rows, kHidden),
               gamma = b.Numbers(DType::kF32, 1, kHidden).Reshape({kHidden}),
               dgamma = b.memory().Allocate("dgamma", DType::kF32, {kHidden}),
               rstd = b.memory().Allocate("rstd", DType::kF32, {rows});
  b.Bytes("RMSNorm", 2 * x.bytes(), [&] { RmsNorm(b.ctx(), x, gamma, 1e-6f, y, rstd); });
  const RmsNormGrad grad{.dy = y, .x = x, .gamma = gamma, .rstd = rstd, .dx = y, .dgamma = dgamma};
  b.Bytes("RMSNorm backward", 3 * x.bytes(), [&] { RmsNormBackward(b.ctx(), grad); });
}

void MeasureRope(Bench& b, int64_t rows) {
  constexpr int64_t kHeads = 128, kNope = 128, kRope = 64, kLength = 4096;
  ArenaScope scope(b.memory());
  const Tensor x = b.Numbers(DType::kBF16, rows, kHeads * (kNope + kRope)), cos = b.Numbers(DType::kF32, kLength, kRope / 2),
               sin = b.Numbers(DType::kF32, kLength, kRope / 2);
  const RopeDesc desc{
      .x = x, .heads = kHeads, .head_dim = kNope + kRope, .offset = kNope, .cos = cos, .sin = sin, .sequence_length = kLength};
  b.Bytes("RoPE", 2 * rows * kHeads * kRope * 2, [&] { Rope(b.ctx(), desc); });
}

void MeasureSwiGlu(Bench& b, int64_t rows) {
  ArenaScope scope(b.memory());
  const Tensor gate_up = b.Numbers(DType::kBF16, rows, 2 * kInner), d = b.Numbers(DType::kBF16, rows, 2 * kInner),
               y = b.Numbers(DType::kBF16, rows, kInner), weight = b.Numbers(DType::kF32, rows, 1).Reshape({rows}),
               dweight = b.memory().Allocate("dweight", DType::kF32, {rows});
  const Fp8Operand codes = b.Codes(rows, kInner, Tiling::kRows1x128);
  b.Bytes("SwiGLU", gate_up.bytes() + y.bytes(), [&] { SwiGlu(b.ctx(), gate_up, weight, y); });
  b.Bytes("SwiGLU and quantisation", gate_up.bytes() + codes.codes.bytes() + codes.scales.bytes(),
          [&] { SwiGluQuantize(b.ctx(), {.gate_up = gate_up, .weight = weight, .codes = codes.codes, .scales = codes.scales}); });
  const SwiGluGrad grad{.dy = y, .gate_up = gate_up, .weight = weight, .dgate_up = d, .dweight = dweight};
  b.Bytes("SwiGLU backward", 2 * gate_up.bytes() + y.bytes(), [&] { SwiGluBackward(b.ctx(), grad); });
}

void MeasureQuantize(Bench& b, int64_t rows) {
  ArenaScope scope(b.memory());
  const Tensor x = b.Numbers(DType::kBF16, rows, kHidden);
  const Fp8Operand by_rows = b.Codes(rows, kHidden, Tiling::kRows1x128), turned = b.Codes(rows, kHidden, Tiling::kColumns128x1);
  const auto quantize = [&](const char* name, Tiling tiling, NumberFormat format) {
    ArenaScope inner(b.memory());
    const QuantizeDesc desc{.x = x,
                            .codes = b.memory().Allocate("codes", DType::kU8, CodesShape(rows, kHidden, tiling, format)),
                            .scales = b.memory().Allocate("scales", DType::kF32, ScalesShape(rows, kHidden, tiling)),
                            .tiling = tiling,
                            .format = format};
    b.Bytes(name, x.bytes() + desc.codes.bytes() + desc.scales.bytes(), [&] { Quantize(b.ctx(), desc); });
  };
  quantize("quantise by rows", Tiling::kRows1x128, NumberFormat::kE4M3);
  quantize("quantise by blocks", Tiling::kBlocks128x128, NumberFormat::kE4M3);
  quantize("quantise transposed", Tiling::kColumns128x1, NumberFormat::kE4M3);
  quantize("quantise by rows, E5M6", Tiling::kRows1x128, NumberFormat::kE5M6);
  const RequantizeDesc again{
      .codes = by_rows.codes, .scales = by_rows.scales, .out_codes = turned.codes, .out_scales = turned.scales};
  b.Bytes("requantise transposed", 2 * (by_rows.codes.bytes() + by_rows.scales.bytes()), [&] {
    RequantizeTransposed(b.ctx(), {&again, 1});
  });
}

void MeasurePermute(Bench& b, int64_t tokens) {
  ArenaScope scope(b.memory());
  const int64_t pairs = tokens * kSlots;
  std::vector<int32_t> expert(static_cast<size_t>(pairs));
  std::vector<int64_t> count(kExperts);
  for (size_t p = 0; p < expert.size(); ++p) ++count[static_cast<size_t>(expert[p] = static_cast<int32_t>(p * 7919 % kExperts))];
  const Tensor x = b.Numbers(DType::kBF16, tokens, kHidden),
               indices = b.memory().Allocate("indices", DType::kI32, {tokens, kSlots}),
               counts = b.memory().Allocate("counts", DType::kI64, {kExperts}),
               row_of = b.memory().Allocate("row_of", DType::kI32, {pairs}),
               pair_of = b.memory().Allocate("pair_of", DType::kI32, {pairs}),
               y = b.memory().Allocate("y", DType::kBF16, {pairs, kHidden});
  CopyBytes(b.ctx().stream, expert.data(), indices.data, indices.bytes());
  CopyBytes(b.ctx().stream, count.data(), counts.data, counts.bytes());
  Synchronize(b.ctx().stream);
  b.Bytes("sort by expert", 3 * indices.bytes(), [&] { SortByExpert(b.ctx(), indices, counts, row_of, pair_of); });
  b.Bytes("rows to experts", x.bytes() + y.bytes(), [&] { GatherRows(b.ctx(), x, pair_of, kSlots, y); });
  b.Bytes("rows back, summed", x.bytes() + y.bytes(), [&] { SumRows(b.ctx(), y, row_of, kSlots, x, WriteMode::kOverwrite); });
  b.Bytes("rows back, summed by groups", x.bytes() + y.bytes(),
          [&] { SumRowsByGroup(b.ctx(), y, row_of, indices, kExperts / 8, x, WriteMode::kOverwrite); });
}

void MeasureLoss(Bench& b, int64_t rows) {
  ArenaScope scope(b.memory());
  const Tensor logits = b.Numbers(DType::kF32, rows, kVocab), d = b.memory().Allocate("d", DType::kBF16, {rows, kVocab}),
               labels = b.memory().Allocate("labels", DType::kI32, {rows}),
               losses = b.memory().Allocate("losses", DType::kF32, {rows});
  Zero(b.ctx().stream, labels);
  b.Bytes("cross-entropy with gradient", logits.bytes() + d.bytes(),
          [&] { CrossEntropyWithGrad(b.ctx(), logits, labels, 1.0f, losses, d); });
}

void MeasureUpdate(Bench& b, int64_t n) {
  ArenaScope scope(b.memory());
  const auto numbers = [&](DType dtype) { return b.Numbers(dtype, 1, n).Reshape({n}); };
  const AdamWSlice slice{.master = numbers(DType::kF32),
                         .grad = numbers(DType::kF32),
                         .m = numbers(DType::kBF16),
                         .v = numbers(DType::kBF16),
                         .compute = numbers(DType::kBF16)};
  const AdamWDesc desc{.learning_rate = 1e-4f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f};
  Fill(b.ctx(), 1.0f, slice.grad);
  Zero(b.ctx().stream, slice.v);  // never negative
  b.Bytes("AdamW, moments in BF16", 22 * n, [&] { AdamW(b.ctx(), desc, {&slice, 1}); });
  const Tensor sums = b.memory().Allocate("sums", DType::kI64, {1});
  const SquaresSlice squares{slice.grad, static_cast<double*>(sums.data)};
  b.Bytes("sum of squares", 4 * n, [&] { SumsOfSquares(b.ctx(), {&squares, 1}, n); });
  const Tensor fixed = b.memory().Allocate("fixed", DType::kI64, {n}), flag = b.memory().Allocate("flag", DType::kI64, {1});
  Zero(b.ctx().stream, fixed);
  const FixedPoint format = {.shift = 30, .limit = 0x1p50};
  const FixedPointSum sum{.values = {slice.grad}, .sum = fixed, .flag = flag.as<int64_t>()};
  b.Bytes("addition in fixed point", 20 * n, [&] { AddFixedPoint(b.ctx(), format, {&sum, 1}); });
  AdamWSlice exact = slice;
  exact.grad = fixed;
  AdamWDesc of_exact = desc;
  of_exact.grad_unit = format.unit();
  b.Bytes("AdamW, gradients in fixed point", 26 * n, [&] { AdamW(b.ctx(), of_exact, {&exact, 1}); });
  const std::vector<PartialSums> join = {
      {.values = {slice.grad.as<float>(), slice.master.as<float>()}, .sum = slice.grad.as<float>(), .size = n}};
  const std::vector<std::pair<int, int>> order = {{0, 1}};
  b.Bytes("join of two gradients", 12 * n, [&] { JoinSums(b.ctx(), join, order); });
}

}  // namespace

void MeasureMemory(Bench& bench, int64_t scale) {
  MeasureCopies(bench, 65536 / scale);
  MeasureNorm(bench, 16384 / scale);
  MeasureRope(bench, 16384 / scale);
  MeasureSwiGlu(bench, 32768 / scale);
  MeasureQuantize(bench, 16384 / scale);
  MeasurePermute(bench, 4096 / scale);
  MeasureLoss(bench, 4096 / scale);
  MeasureUpdate(bench, (int64_t{1} << 28) / scale);
}

}  // namespace jevons
