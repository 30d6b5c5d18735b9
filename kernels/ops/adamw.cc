#include "kernels/ops/adamw.h"

#include "kernels/ops/expect.h"
#include "kernels/ops/op_table.h"

namespace jevons {

void AdamW(const OpContext& ctx, const AdamWDesc& desc, std::span<const AdamWSlice> slices) {
  JEVONS_CHECK(desc.step >= 1, "step %lld", static_cast<long long>(desc.step));
  ExpectUnit("grad", desc.grad_unit);
  for (const AdamWSlice& s : slices) {
    const int64_t n = s.master.size();
    ExpectVector("master", s.master, DType::kF32, n);
    ExpectVector("grad", s.grad, slices[0].grad.dtype == DType::kI64 ? DType::kI64 : DType::kF32, n);
    ExpectReal("m", s.m);
    ExpectVector("m", s.m, slices[0].m.dtype, n);
    ExpectVector("v", s.v, s.m.dtype, n);
    if (s.compute) ExpectVector("compute", s.compute, DType::kBF16, n);
  }
  if (!slices.empty()) Ops(ctx.stream).adamw(ctx, desc, slices);
}

}  // namespace jevons
