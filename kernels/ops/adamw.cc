#include "kernels/ops/adamw.h"

#include "kernels/ops/expect.h"
#include "kernels/ops/registry.h"

namespace jevons {

void AdamW(const OpContext& ctx, const AdamWDesc& d) {
  const int64_t n = d.master.size();
  ExpectVector("master", d.master, DType::kF32, n);
  ExpectVector("grad", d.grad, DType::kF32, n);
  ExpectReal("m", d.m);
  ExpectVector("m", d.m, d.m.dtype, n);
  ExpectVector("v", d.v, d.m.dtype, n);
  if (d.compute) ExpectVector("compute", d.compute, DType::kBF16, n);
  JEVONS_CHECK(d.step >= 1, "step %lld", static_cast<long long>(d.step));
  if (n > 0) Ops(ctx.stream).adamw(ctx, d);
}

}  // namespace jevons
