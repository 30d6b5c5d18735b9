// What a step does to slices of parameters, on CUDA: AdamW, reductions, the join of partial sums, copies. Many slices of any sizes
// at once, every other one at addresses that allow no wide access.
#include "kernels/cpu/cpu_ops.h"
#include "tests/kernels/cuda/cuda_test.h"

namespace jevons {
namespace {

struct AdamWMemory {
  DeviceCase::Matrix &master, &m, &v, &copy;
  Tensor grad;
};

constexpr double kUnit = 0x1p-40;  // of gradients in fixed point

// A gradient: FP32, or integers of all lengths, made of two halves each since a case's numbers do not have 64 bits.
Tensor MakeGradient(DeviceCase& c, DType dtype, int64_t n, uint64_t seed) {
  if (dtype == DType::kF32) return c.MakeVector(DType::kF32, n).Fill(seed, 0.1f).tensor();
  auto& halves = c.MakeVector(DType::kI32, 2 * n);
  for (int64_t i = 0; i < n; ++i) {
    const auto q = static_cast<int64_t>(RandomBits(seed, 8, static_cast<uint64_t>(i))) >> i % 60;
    halves.Set(0, 2 * i, static_cast<double>(static_cast<int32_t>(q)));
    halves.Set(0, 2 * i + 1, static_cast<double>(q >> 32));
  }
  return Tensor(halves.tensor().data, DType::kI64, {n});
}

// `sizes` one after the other in one call.
void RunAdamW(DeviceCase& c, DType moments, DType grads, const std::vector<int64_t>& sizes) {
  std::deque<AdamWMemory> memory;
  std::vector<AdamWSlice> slices;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const int64_t n = sizes[i], shift = static_cast<int64_t>(i % 2);
    AdamWMemory& s = memory.emplace_back(
        AdamWMemory{c.MakeVector(DType::kF32, n + shift).Fill(i), c.MakeVector(moments, n + shift).Fill(i + 2, 0.1f),
                    c.MakeVector(moments, n + shift).Fill(i + 3, 1e-4f, 1e-2f), c.MakeVector(DType::kBF16, n + shift),
                    MakeGradient(c, grads, n + shift, i + 1)});
    const auto part = [&](DeviceCase::Matrix& x) { return x.tensor().Columns(shift, n); };
    const Tensor copy = part(s.copy);
    slices.push_back({.master = part(s.master),
                      .grad = s.grad.Columns(shift, n),
                      .m = part(s.m),
                      .v = part(s.v),
                      .compute = i % 3 == 0 ? Tensor() : copy,
                      .decay = i % 4 < 2 ? 0.1f : 0.0f});
  }
  AdamW(c.ctx(),
        {.learning_rate = 1e-2f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .grad_scale = 0.5f, .grad_unit = kUnit, .step = 3},
        slices);
  for (AdamWMemory& s : memory) {
    c.Show("master", s.master);
    c.Show("m", s.m);
    c.Show("v", s.v);
    c.Show("compute", s.copy);
  }
}

TEST_F(CudaTest, AdamWHasTheBitsOfTheReference) {
  for (DType moments : kRealTypes)
    for (DType grads : {DType::kF32, DType::kI64})
      for (const auto& sizes : std::vector<std::vector<int64_t>>{
               {}, {0, 0}, {1}, {5000, 5001}, {128, 0, 129, 127}, {0, 1, 127, 0, 128, 129, 4096, 4097, 3, 9000, 0}})
        CompareWithReference([&](DeviceCase& c) { RunAdamW(c, moments, grads, sizes); }, {});
}

// More than the parameters of one launch hold.
TEST_F(CudaTest, AdamWOfHundredsOfSlicesHasTheBitsOfTheReference) {
  std::vector<int64_t> sizes;
  for (int64_t i = 0; i < 700; ++i) sizes.push_back(i % 4);
  CompareWithReference([&](DeviceCase& c) { RunAdamW(c, DType::kBF16, DType::kI64, sizes); }, {});
}

// The bits of the CPU's vectorised table too: both promise one order.
TEST_F(CudaTest, ReductionsHaveTheBitsOfTheCpu) {
  const std::vector<int64_t> lists[] = {
      {0}, {1}, {15, 17}, {1000, 16384}, {16385, 0}, {100003, 3}, {0, 1, 0, 15, 17, 16384, 16385, 100003, 1000, 0}};
  const auto run = [](Device device, const std::vector<int64_t>& sizes, int64_t blocks) {
    DeviceCase c(device, Addresses::kAligned);
    std::vector<SquaresSlice> slices;
    std::vector<DeviceCase::Matrix*> results;
    for (size_t i = 0; i < sizes.size(); ++i) {
      const int64_t shift = static_cast<int64_t>(i % 2), chunk = blocks * kSquaresBlock;
      // The bits of a double are shown as two integers; nobody writes the last.
      const auto chunks = static_cast<size_t>((sizes[i] + chunk - 1) / chunk + 1);
      results.push_back(&c.MakeVector(DType::kI32, std::vector<int32_t>(2 * chunks, 0)));
      const Tensor x = MakeGradient(c, i % 4 < 2 ? DType::kF32 : DType::kI64, sizes[i] + shift, i);
      slices.push_back({x.Columns(shift, sizes[i]), static_cast<double*>(results.back()->tensor().data), kUnit});
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

// Sums of `sizes`, each with a list of values, in one call; every other one at addresses that allow no wide access.
void RunAddFixedPoint(DeviceCase& c, const std::vector<int64_t>& sizes, bool refused) {
  std::vector<DeviceCase::Matrix*> sums, flags;
  std::vector<FixedPointSum> list;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const int64_t n = sizes[i], shift = static_cast<int64_t>(i / 2 % 2);  // of its values
    const auto part = [&](DeviceCase::Matrix& x) { return x.tensor().Columns(x.cols() - n, n); };
    sums.push_back(&c.MakeVector(DType::kI64, n + static_cast<int64_t>(i % 2)).Fill(i, 1e6f));
    flags.push_back(&c.MakeVector(DType::kI64, std::vector<int64_t>{0}));
    FixedPointSum& s = list.emplace_back();
    s = {.values = {},
         .sum = part(*sums.back()),
         .mode = i % 3 == 0 ? WriteMode::kOverwrite : WriteMode::kAdd,
         .flag = flags.back()->tensor().as<int64_t>()};
    for (size_t k = 0; k < (i * 5 + 1) % 11; ++k) {
      auto& x = c.MakeVector(DType::kF32, n + shift).Fill(i + k);
      for (int64_t e = 0; e < n; e += 7) x.Set(0, e + shift, std::ldexp(x.Get(0, e + shift), static_cast<int>(e % 60) - 50));
      for (int64_t e = 3; e < n; e += 501)
        if (refused && i % 2 == 1) x.Set(0, e + shift, std::vector<double>{NAN, INFINITY, -INFINITY, 1e6, -0x1.fp25}[k % 5]);
      s.values.push_back(part(x));
    }
  }
  AddFixedPoint(c.ctx(), {.shift = 30, .limit = 0x1p50}, list);
  for (size_t i = 0; i < sums.size(); ++i) {
    c.Show("sum", *sums[i]);
    c.Show("flag", *flags[i]);
  }
}

TEST_F(CudaTest, AddFixedPointHasTheBitsOfTheReference) {
  for (bool refused : {false, true})
    for (const auto& sizes : std::vector<std::vector<int64_t>>{
             {}, {0, 0}, {1}, {5000, 5001}, {128, 0, 129, 127, 3}, {0, 1, 127, 0, 128, 129, 4096, 4097, 3, 9000, 0, 16384}})
      CompareWithReference([&](DeviceCase& c) { RunAddFixedPoint(c, sizes, refused); }, {});
}

// More than the parameters of one launch hold.
TEST_F(CudaTest, AddFixedPointOfHundredsHasTheBitsOfTheReference) {
  std::vector<int64_t> sizes;
  for (int64_t i = 0; i < 1000; ++i) sizes.push_back(i % 6);
  CompareWithReference([&](DeviceCase& c) { RunAddFixedPoint(c, sizes, true); }, {});
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
