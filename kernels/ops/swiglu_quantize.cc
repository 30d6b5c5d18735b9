#include "kernels/ops/swiglu_quantize.h"

#include "kernels/ops/expect.h"
#include "kernels/ops/op_table.h"

namespace jevons {

void SwiGluQuantize(const OpContext& ctx, const SwiGluQuantizeDesc& d) {
  const int64_t rows = d.codes.rows(), inner = d.codes.cols();
  ExpectReal("gate_up", d.gate_up);
  ExpectMatrix("gate_up", d.gate_up, d.gate_up.dtype, rows, 2 * inner);
  if (d.weight) ExpectVector("weight", d.weight, DType::kF32, rows);
  ExpectMatrix("codes", d.codes, DType::kU8, rows, inner);
  ExpectMatrix("scales", d.scales, DType::kF32, rows, TilesOf(inner));
  if (d.codes.size() > 0) Ops(ctx.stream).swiglu_quantize(ctx, d);
}

}  // namespace jevons
