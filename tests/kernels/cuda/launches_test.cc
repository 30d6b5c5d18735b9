// How many launches it takes to work on many slices: on the host, where they can be counted.
#include <cuda_runtime_api.h>

#include "kernels/ops/fp8_weight.h"
#include "tests/kernels/cuda/cuda_test.h"

namespace jevons {
namespace {

int64_t LaunchesOf(const std::function<void()>& run) {
  const int64_t before = cuda_on_host::Launches();
  run();
  return cuda_on_host::Launches() - before;
}

// Slices and matrices of one element each, all at the same place: threads run one at a time here, and nobody looks.
TEST(Launches, AreFewForManySlices) {
  cuda_on_host::SetOrder(cuda_on_host::Order::kForward);
  DeviceCase c(Device::kCuda, Addresses::kAligned);
  const Tensor x = c.MakeVector(DType::kF32, 1).Fill(1).tensor(), codes = c.Make(DType::kU8, 1, 1).Fill(1).tensor();
  float* const value = x.as<float>();
  auto* const sums = static_cast<double*>(c.MakeVector(DType::kI64, 1).tensor().data);
  const auto count = [&](size_t n) {
    const std::vector<AdamWSlice> slices(n, {.master = x, .grad = x, .m = x, .v = x, .compute = {}});
    const std::vector<SquaresSlice> squares(n, {x, sums});
    const Tensor sum = Tensor::Of(static_cast<int64_t*>(static_cast<void*>(sums)), {1});
    const std::vector<FixedPointSum> fixed(n, {.values = {x}, .sum = sum, .flag = sum.as<int64_t>()});
    const std::vector<FixedPointSum> longer(n, {.values = {x, x, x, x, x}, .sum = sum, .flag = sum.as<int64_t>()});
    const std::vector<PartialSums> vectors(n, {.values = {value, value, value}, .sum = value, .size = 1});
    const std::vector<CopiedPart> parts(n, {value, value, 4});
    const std::vector<RequantizeDesc> segments(n, {.codes = codes, .scales = x, .out_codes = codes, .out_scales = x});
    const Fp8Operand operand = {codes, x, Tiling::kBlocks128x128};
    const std::vector<QuantizeWeightDesc> weights(n, {.value = x, .weight = {.plain = operand, .turned = operand}});
    const std::vector<std::pair<int, int>> order = {{1, 2}, {0, 1}};
    return std::vector<int64_t>{LaunchesOf([&] { AdamW(c.ctx(), {.learning_rate = 1e-3f}, slices); }),
                                LaunchesOf([&] { SumsOfSquares(c.ctx(), squares, kSquaresBlock); }),
                                LaunchesOf([&] { AddFixedPoint(c.ctx(), {.shift = 30, .limit = 0x1p60}, fixed); }),
                                LaunchesOf([&] { AddFixedPoint(c.ctx(), {.shift = 30, .limit = 0x1p60}, longer); }),
                                LaunchesOf([&] { JoinSums(c.ctx(), vectors, order); }),
                                LaunchesOf([&] { CopyParts(c.ctx(), parts); }),
                                LaunchesOf([&] { RequantizeTransposed(c.ctx(), segments); }),
                                LaunchesOf([&] { QuantizeWeights(c.ctx(), weights, nullptr); })};
  };
  EXPECT_EQ(count(0), (std::vector<int64_t>{0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(count(1), (std::vector<int64_t>{1, 2, 1, 2, 2, 1, 1, 1}));
  EXPECT_EQ(count(200), (std::vector<int64_t>{1, 2, 1, 2, 2, 1, 1, 1}));
  EXPECT_EQ(count(600), (std::vector<int64_t>{2, 2, 2, 4, 2, 1, 3, 3}));
}

}  // namespace
}  // namespace jevons
