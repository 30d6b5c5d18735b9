// What a step does to slices of parameters, on CUDA: AdamW, reductions, the join of partial sums, copies. Many slices of any sizes
// at once, every other one at addresses that allow no wide access.
#include "tests/kernels/cuda/cuda_test.h"

namespace jevons {
namespace {

struct AdamWMemory {
  DeviceCase::Matrix &master, &grad, &m, &v, &copy;
};

// `sizes` one after the other in one call.
void RunAdamW(DeviceCase& c, DType moments, const std::vector<int64_t>& sizes) {
  std::deque<AdamWMemory> memory;
  std::vector<AdamWSlice> slices;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const int64_t n = sizes[i], shift = static_cast<int64_t>(i % 2);
    AdamWMemory& s = memory.emplace_back(AdamWMemory{c.MakeVector(DType::kF32, n + shift).Fill(i),
                                                     c.MakeVector(DType::kF32, n + shift).Fill(i + 1, 0.1f),
                                                     c.MakeVector(moments, n + shift).Fill(i + 2, 0.1f),
                                                     c.MakeVector(moments, n + shift).Fill(i + 3, 1e-4f, 1e-2f),
                                                     c.MakeVector(DType::kBF16, n + shift)});
    const auto part = [&](DeviceCase::Matrix& x) { return x.tensor().Columns(shift, n); };
    const Tensor copy = part(s.copy);
    slices.push_back({.master = part(s.master),
                      .grad = part(s.grad),
                      .m = part(s.m),
                      .v = part(s.v),
                      .compute = i % 3 == 0 ? Tensor() : copy,
                      .decay = i % 4 < 2 ? 0.1f : 0.0f});
  }
  AdamW(c.ctx(), {.learning_rate = 1e-2f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .grad_scale = 0.5f, .step = 3}, slices);
  for (AdamWMemory& s : memory) {
    c.Show("master", s.master);
    c.Show("m", s.m);
    c.Show("v", s.v);
    c.Show("compute", s.copy);
  }
}

TEST_F(CudaTest, AdamWHasTheBitsOfTheReference) {
  for (DType moments : kRealTypes)
    for (const auto& sizes : std::vector<std::vector<int64_t>>{
             {}, {0, 0}, {1}, {5000, 5001}, {128, 0, 129, 127}, {0, 1, 127, 0, 128, 129, 4096, 4097, 3, 9000, 0}})
      CompareWithReference([&](DeviceCase& c) { RunAdamW(c, moments, sizes); }, {});
}

// More than the parameters of one launch hold.
TEST_F(CudaTest, AdamWOfHundredsOfSlicesHasTheBitsOfTheReference) {
  std::vector<int64_t> sizes;
  for (int64_t i = 0; i < 700; ++i) sizes.push_back(i % 4);
  CompareWithReference([&](DeviceCase& c) { RunAdamW(c, DType::kBF16, sizes); }, {});
}

// The bits of the CPU's vectorised table too: both promise one order.
TEST_F(CudaTest, ReductionsHaveTheBitsOfTheCpu) {
  const std::vector<int64_t> lists[] = {{0},         {1},          {15, 17},      {1000, 16384},
                                        {16385, 0},  {100003, 3},  {0, 1, 0, 15, 17, 16384, 16385, 100003, 1000, 0}};
  const auto run = [](Device device, const std::vector<int64_t>& sizes, int64_t blocks) {
    DeviceCase c(device, Addresses::kAligned);
    std::vector<SquaresSlice> slices;
    std::vector<DeviceCase::Matrix*> results;
    for (size_t i = 0; i < sizes.size(); ++i) {
      const int64_t shift = static_cast<int64_t>(i % 2), chunk = blocks * kSquaresBlock;
      // The bits of a double are shown as two integers; nobody writes the last.
      const auto chunks = static_cast<size_t>((sizes[i] + chunk - 1) / chunk + 1);
      results.push_back(&c.MakeVector(DType::kI32, std::vector<int32_t>(2 * chunks, 0)));
      slices.push_back({c.MakeVector(DType::kF32, sizes[i] + shift).Fill(i).tensor().Columns(shift, sizes[i]),
                        static_cast<double*>(results.back()->tensor().data)});
    }
    auto& sum = c.MakeVector(DType::kI32, 2);
    SumsOfSquares(c.ctx(), slices, blocks * kSquaresBlock);
    Sum(c.ctx(), slices[0].x, static_cast<double*>(sum.tensor().data));
    for (DeviceCase::Matrix* result : results) c.Show("squares", *result);
    c.Show("sum", sum);
    return c.outputs();
  };
  for (const std::vector<int64_t>& sizes : lists) {
    for (int64_t blocks : {1, 3, 4, 64}) {
      SelectOps(kCpuOps);
      const std::vector<DeviceCase::Output> cpu = run(Device::kCpu, sizes, blocks);
      for (int repeat = 0; repeat < CudaRepeats(); ++repeat) {
        BeforeCudaRepeat(repeat);
        const std::vector<DeviceCase::Output> cuda = run(Device::kCuda, sizes, blocks);
        for (size_t i = 0; i < cpu.size(); ++i)
          ASSERT_TRUE(SameValues(cuda[i].values, cpu[i].values)) << cpu[i].name << " " << i << ", chunks of " << blocks;
      }
    }
  }
}

// The join of partial sums over a tree of `values`; sum is apart, or where the last value is.
void RunJoinSums(DeviceCase& c, int values, const std::vector<std::pair<int, int>>& order, const std::vector<int64_t>& sizes) {
  std::vector<DeviceCase::Matrix*> results;
  std::vector<PartialSums> vectors;
  for (size_t i = 0; i < sizes.size(); ++i) {
    PartialSums& v = vectors.emplace_back();
    v.size = sizes[i];
    const int64_t shift = static_cast<int64_t>(i % 2);
    const auto make = [&] {
      results.push_back(&c.MakeVector(DType::kF32, v.size + shift));
      return results.back();
    };
    const auto place = [&] { return results.back()->tensor().as<float>() + shift; };
    for (int value = 0; value < values; ++value) {
      make()->Fill(static_cast<uint64_t>(value));
      for (int64_t e = 4; e < v.size + shift; e += 5) results.back()->Set(0, e, -0.0);
      v.values.push_back(place());
    }
    if (i % 3 != 0) make();
    v.sum = place();
  }
  JoinSums(c.ctx(), vectors, order);
  // Values are scratch afterwards: only the sums are promised.
  for (const PartialSums& v : vectors) {
    for (DeviceCase::Matrix* x : results) {
      const float* begin = x->tensor().as<float>();
      if (v.sum >= begin && v.sum < begin + x->cols()) c.Show("sum", *x);
    }
  }
}

TEST_F(CudaTest, JoinSumsHasTheBitsOfTheReference) {
  const std::vector<int64_t> sizes = {1, 0, 127, 4096, 4097, 9001, 3};
  for (const auto& list : {sizes, std::vector<int64_t>{5000}, std::vector<int64_t>{}}) {
    CompareWithReference([&](DeviceCase& c) { RunJoinSums(c, 1, {}, list); }, {});
    CompareWithReference([&](DeviceCase& c) { RunJoinSums(c, 5, {{0, 1}, {2, 3}, {0, 2}, {0, 4}}, list); }, {});
  }
}

TEST_F(CudaTest, CopyPartsMovesThePartsAndNothingElse) {
  CompareWithReference(
      [](DeviceCase& c) {
        auto &from = c.MakeVector(DType::kU8, 400000), &to = c.MakeVector(DType::kU8, 400000);
        for (int64_t i = 0; i < from.cols(); ++i)
          from.Set(0, i, static_cast<double>(RandomBits(1, 2, static_cast<uint64_t>(i)) % 255));
        std::vector<CopiedPart> parts;
        int64_t begin = 0;
        for (int64_t step : {16, 8, 4, 2, 1}) {
          for (int64_t n : {0, 1, 15, 16, 17, 2048, 40001}) {
            parts.push_back({from.tensor().as<uint8_t>() + begin, to.tensor().as<uint8_t>() + begin + step, n});
            begin = (begin + n + 2 * step + 15) / 16 * 16;
          }
        }
        CopyParts(c.ctx(), {});
        CopyParts(c.ctx(), parts);
        c.Show("parts", to);
      },
      {});
}

}  // namespace
}  // namespace jevons
