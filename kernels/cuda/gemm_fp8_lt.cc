// Products of FP8 codes by cuBLASLt, whose block-scaled products (1x128 by 128x128, 1x128 by 1x128) want both operands along k,
// k a multiple of 16, rows and columns multiples of 8, and scales in layouts of their own. As in gemm_dense.cc, it is asked for C^T.
#include "absl/strings/str_format.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_fp8_layout.h"
#include "kernels/cuda/gemm_lt.h"
#include "kernels/cuda/report.h"
#include "kernels/ops/elementwise.h"
#include "kernels/tensor/device.h"

namespace jevons::cuda {
namespace {

constexpr int64_t kSideUnit = 8;

// Codes of op(A) or op(B)^T, [lines, k].
Tensor CodesFor(const OpContext& ctx, const Tensor& codes, Form form, int64_t lines, int64_t k) {
  if (form == Form::kPlain) return TransposedCodes(ctx, codes, lines, k);
  if (codes.rows() == lines && codes.cols() == k && IsAligned(codes)) return codes;
  return PaddedCodes(ctx, codes, lines, k);
}

// Scales of `count` lines as vectors: where they lie, or a copy.
const float* VectorsFor(const OpContext& ctx, const Fp8Operand& x, const ScaleView& scales, int64_t count, int64_t lines,
                        int64_t k) {
  const Tensor& t = x.scales;
  const bool as_it_lies = x.tiling == Tiling::kColumns128x1 && count == lines && (t.rows() <= 1 || t.pitch == lines) &&
                          reinterpret_cast<uintptr_t>(t.data) % kCodeAlignment == 0;
  return as_it_lies ? t.as<float>() : VectorScales(ctx, scales, count, lines, k).as<float>();
}

// Scales of blocks: where they lie, or a copy.
const float* BlocksFor(const OpContext& ctx, const Fp8GemmDesc& d, int64_t n, int64_t k) {
  const Tensor& t = d.b.scales;
  const bool as_it_lies = d.b_form == Form::kTransposed && t.pitch == RoundUp(TilesOf(k), 4) && IsAligned(t);
  return as_it_lies ? t.as<float>() : BlockScales(ctx, d.b_scales(), n, k).as<float>();
}

// The product with every side rounded up to what cuBLASLt takes.
bool RunPadded(const OpContext& ctx, const Fp8GemmDesc& d) {
  ArenaScope scope(*ctx.scratch);
  const int64_t m = RoundUp(d.m(), kSideUnit), n = RoundUp(d.n(), kSideUnit), k = RoundUp(d.k(), kCodeAlignment);
  const bool blocks = d.b.tiling == Tiling::kBlocks128x128, add = d.mode == WriteMode::kAdd;
  const Tensor a = CodesFor(ctx, d.a.codes, Form::kTransposed, m, k), b = CodesFor(ctx, d.b.codes, d.b_form, n, k);
  const float* a_scales = VectorsFor(ctx, d.a, d.a_scales(), d.m(), m, k);
  const float* b_scales = blocks ? BlocksFor(ctx, d, n, k) : VectorsFor(ctx, d.b, d.b_scales(), d.n(), n, k);
  // Where C does not fit, its sums are finished in FP32 elsewhere and rounded once.
  Tensor c = d.c, part;
  const bool elsewhere = m != d.m() || n != d.n() || !IsAligned(d.c);
  if (elsewhere) {
    c = ctx.scratch->Allocate("gemm.sums", DType::kF32, {m, n});
    part = c.Rows(0, d.m()).Columns(0, d.n());
    if (add) Zero(ctx.stream, c);
    if (add) Copy(ctx, d.c, part);
  }
  const bool done = RunLt(ctx, {.a = {.data = b.data,
                                      .pitch = b.pitch,
                                      .transposed = true,
                                      .scales = blocks ? LtScales::kBlocks : LtScales::kVectors,
                                      .scale = b_scales},
                                .b = {.data = a.data, .pitch = a.pitch, .scales = LtScales::kVectors, .scale = a_scales},
                                .d = c.data,
                                .d_pitch = c.pitch,
                                .rows = n,
                                .cols = m,
                                .k = k,
                                .in = LtType::kE4M3,
                                .out = c.dtype == DType::kF32 ? LtType::kF32 : LtType::kBF16,
                                .add = add});
  if (done && elsewhere) Copy(ctx, part, d.c);
  return done;
}

Fp8GemmDesc RowsOf(const Fp8GemmDesc& d, int64_t begin, int64_t count) {
  Fp8GemmDesc rows = d;
  rows.a.codes = d.a.codes.Rows(begin, count);
  rows.a.scales = d.a.tiling == Tiling::kColumns128x1 ? d.a.scales.Columns(begin, count) : d.a.scales.Rows(begin, count);
  rows.c = d.c.Rows(begin, count);
  return rows;
}

}  // namespace

bool LtFp8Gemm(const OpContext& ctx, const Fp8GemmDesc& desc) {
  // Most of the rows where they lie, and the last few through temporaries: an expert's tokens are seldom a multiple of 8.
  const int64_t rest = desc.m() % kSideUnit, most = desc.m() - rest;
  if (rest == 0 || most == 0 || desc.a.tiling == Tiling::kBlocks128x128) return RunPadded(ctx, desc);
  ArenaScope scope(*ctx.scratch);
  Fp8GemmDesc shared = desc;
  if (desc.b_form == Form::kPlain) {  // turned once for both parts
    shared.b.codes = TransposedCodes(ctx, desc.b.codes, desc.n(), desc.k());
    shared.b.scales = BlockScales(ctx, desc.b_scales(), desc.n(), desc.k()).Columns(0, TilesOf(desc.k()));
    shared.b_form = Form::kTransposed;
  }
  if (!RunPadded(ctx, RowsOf(shared, 0, most))) return false;
  const Fp8GemmDesc last = RowsOf(shared, most, rest);
  if (!RunPadded(ctx, last)) {
    CountFallback(
        absl::StrFormat("cuBLASLt refuses the last rows of an FP8 product of %d x %d x %d", desc.m(), desc.n(), desc.k()));
    PlainFp8Gemm(ctx, last);
  }
  return true;
}

}  // namespace jevons::cuda
