#include "kernels/cuda/cuda_ops.h"

namespace jevons::cuda {

const OpTable& Operators() {
  static const OpTable table = [] {
    OpTable t{};
    t.name = "cuda";
    t.adamw = AdamW;
    t.copy = Copy;
    t.add = Add;
    t.fill_normal = FillNormal;
    t.fill = Fill;
    return t;
  }();
  return table;
}

const QuantizeTable& Quantization() {
  static const QuantizeTable table{};
  return table;
}

}  // namespace jevons::cuda
