#include "tests/kernels/cuda/cuda_test.h"

namespace jevons {

int CudaRepeats() { return 20; }
void BeforeCudaRepeat(int) {}
std::string CudaRefusal() { return ExamineCuda().problem; }

}  // namespace jevons
