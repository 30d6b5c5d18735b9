// The benchmark of what memory bounds, at sizes that mean nothing: so that its first run on a device measures and does not fail.
#include <gtest/gtest.h>

#include "tests/perf/cuda_bench.h"

namespace jevons {
namespace {

TEST(CudaMemoryBench, Runs) {
  Bench bench("");
  MeasureMemory(bench, 4096);
}

}  // namespace
}  // namespace jevons
