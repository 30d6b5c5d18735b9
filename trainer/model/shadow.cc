#include "trainer/model/shadow.h"

#include <vector>

#include "kernels/tensor/device.h"

namespace jevons {

void CompareProducts(const OpContext& ops, const Fp8GemmDesc& fp8, const Tensor& a, Form a_form, const Tensor& b, Form b_form,
                     ProductError& error) {
  ArenaScope scope(*ops.scratch);
  const Tensor rounded = ops.scratch->Allocate("shadow.rounded", DType::kF32, {fp8.m(), fp8.n()});
  const Tensor exact = ops.scratch->Allocate("shadow.exact", DType::kF32, {fp8.m(), fp8.n()});
  Fp8GemmDesc again = fp8;
  again.c = rounded;
  again.mode = WriteMode::kOverwrite;
  Fp8Gemm(ops, again);
  Gemm(ops, {.a = a, .b = b, .c = exact, .a_form = a_form, .b_form = b_form});
  if (ops.stream.device == Device::kNone) return;
  std::vector<float> x(static_cast<size_t>(exact.size())), y(x.size());
  Fetch(ops.stream, rounded.data, x.data(), rounded.bytes());
  Fetch(ops.stream, exact.data, y.data(), exact.bytes());
  for (size_t i = 0; i < x.size(); ++i) {
    const double difference = double{x[i]} - y[i];
    error.difference += difference * difference;
    error.reference += double{y[i]} * y[i];
  }
}

}  // namespace jevons
