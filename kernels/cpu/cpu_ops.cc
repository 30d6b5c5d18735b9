#include "kernels/ops/registry.h"

namespace jevons {

const OpTable kCpuOps = [] { OpTable t = kRefOps; t.name = "cpu"; return t; }();

}  // namespace jevons
