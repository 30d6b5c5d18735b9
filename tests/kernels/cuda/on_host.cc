#include <cuda_runtime_api.h>

#include "tests/kernels/cuda/cuda_test.h"

namespace jevons {

int CudaRepeats() { return 3; }
void BeforeCudaRepeat(int repeat) {
  using cuda_on_host::Order;
  const Order orders[] = {Order::kForward, Order::kBackward, Order::kShuffled};
  cuda_on_host::SetOrder(orders[repeat % 3]);
}
std::string CudaRefusal() { return ""; }

}  // namespace jevons
