#include "kernels/ops/elementwise.h"

#include "kernels/ops/expect.h"
#include "kernels/ops/op_table.h"

namespace jevons {

void Copy(const OpContext& ctx, const Tensor& src, const Tensor& dst) {
  if (src.dtype == DType::kI32 && dst.dtype == DType::kI32) {  // four bytes move as they are, whatever they mean
    Tensor from = src, to = dst;
    from.dtype = to.dtype = DType::kF32;
    return Copy(ctx, from, to);
  }
  ExpectReal("src", src);
  ExpectReal("dst", dst);
  ExpectMatrix("src", src, src.dtype, dst.rows(), dst.cols());
  if (dst.size() > 0) Ops(ctx.stream).copy(ctx, src, dst);
}

void CopyParts(const OpContext& ctx, std::span<const CopiedPart> parts) {
  for (const CopiedPart& part : parts) JEVONS_CHECK(part.bytes >= 0, "a part of %lld bytes", static_cast<long long>(part.bytes));
  if (!parts.empty()) Ops(ctx.stream).copy_parts(ctx, parts);
}

void Add(const OpContext& ctx, const Tensor& a, const Tensor& b, const Tensor& out) {
  ExpectReal("out", out);
  ExpectMatrix("out", out, out.dtype, a.rows(), a.cols());
  ExpectMatrix("a", a, out.dtype, a.rows(), a.cols());
  ExpectMatrix("b", b, out.dtype, a.rows(), a.cols());
  if (out.size() > 0) Ops(ctx.stream).add(ctx, a, b, out);
}

void FillNormal(const OpContext& ctx, uint64_t seed, uint64_t purpose, int64_t offset, float std, const Tensor& dst) {
  ExpectVector("dst", dst, DType::kF32, dst.size());
  JEVONS_CHECK(offset >= 0, "offset %lld", static_cast<long long>(offset));
  if (dst.size() > 0) Ops(ctx.stream).fill_normal(ctx, seed, purpose, offset, std, dst);
}

void Fill(const OpContext& ctx, float value, const Tensor& dst) {
  ExpectMatrix("dst", dst, DType::kF32, dst.rows(), dst.cols());
  if (dst.size() > 0) Ops(ctx.stream).fill(ctx, value, dst);
}

}  // namespace jevons
