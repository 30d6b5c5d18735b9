// What the benchmarks of a CUDA device share: operands, timing, lines.
#ifndef JEVONS_TESTS_PERF_CUDA_BENCH_H_
#define JEVONS_TESTS_PERF_CUDA_BENCH_H_

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "kernels/ops/elementwise.h"
#include "kernels/ops/fp8_weight.h"
#include "kernels/tensor/device.h"

namespace jevons {

class Bench {
 public:
  explicit Bench(const char* wanted) : wanted_(wanted) {}
  OpContext ctx() { return {.stream = stream_.get(), .scratch = &scratch_}; }
  Arena& memory() { return memory_; }
  bool Wants(const std::string& name) const { return name.find(wanted_) != std::string::npos; }

  // [rows, cols] normal numbers.
  Tensor Numbers(DType dtype, int64_t rows, int64_t cols) {
    const Tensor x = memory_.Allocate("x", dtype, {rows, cols});
    ArenaScope scope(scratch_);
    const Tensor wide = scratch_.Allocate("wide", DType::kF32, {rows, cols});
    FillNormal(ctx(), ++seed_, 0, 0, 1.0f, wide.Reshape({rows * cols}));
    Copy(ctx(), wide, x);
    return x;
  }
  Fp8Operand Codes(int64_t rows, int64_t cols, Tiling tiling) {
    ArenaScope scope(scratch_);
    const Tensor wide = scratch_.Allocate("wide", DType::kF32, {rows, cols});
    FillNormal(ctx(), ++seed_, 0, 0, 1.0f, wide.Reshape({rows * cols}));
    const Fp8Operand x = {memory_.Allocate("codes", DType::kU8, CodesShape(rows, cols, tiling)),
                          memory_.Allocate("scales", DType::kF32, ScalesShape(rows, cols, tiling)), tiling};
    Quantize(ctx(), {.x = wide, .codes = x.codes, .scales = x.scales, .tiling = tiling});
    return x;
  }

  Fp8Weight Weight(int64_t n, int64_t k) {
    ArenaScope scope(scratch_);
    const Tensor value = scratch_.Allocate("value", DType::kF32, {n, k});
    FillNormal(ctx(), ++seed_, 0, 0, 1.0f, value.Reshape({n * k}));
    const Fp8Weight weight = AllocateFp8Weight(memory_, Device::kCuda, n, k);
    QuantizeWeights(ctx(), {{{value, weight}}}, nullptr);
    return weight;
  }

  // A line with TFLOP/s, or GB/s for the bytes that must be read and written once, beside the peak of the kind. The first line of a
  // kind is its peak.
  void Flop(const std::string& name, double flop, const std::function<void()>& run) {
    const double ms = Milliseconds(run);
    Line(name, ms, flop / ms * 1e-9, "TFLOP/s", "the BF16 peak", peak_flop_);
  }
  void Bytes(const std::string& name, int64_t bytes, const std::function<void()>& run) {
    const double ms = Milliseconds(run);
    Line(name, ms, static_cast<double>(bytes) / ms * 1e-6, "GB/s", "a copy", peak_bytes_);
  }

 private:
  // The median of some runs.
  double Milliseconds(const std::function<void()>& run) {
    constexpr int kWarm = 3, kRuns = 11;
    for (int i = 0; i < kWarm; ++i) run();
    std::vector<double> times;
    for (int i = 0; i < kRuns; ++i) {
      Event begin(Device::kCuda), end(Device::kCuda);
      begin.Record(stream_.get());
      run();
      end.Record(stream_.get());
      end.Synchronize();
      times.push_back(end.MillisecondsSince(begin));
    }
    std::nth_element(times.begin(), times.begin() + kRuns / 2, times.end());
    return times[kRuns / 2];
  }
  static void Line(const std::string& name, double ms, double speed, const char* unit, const char* of, double& peak) {
    if (peak == 0) peak = speed;
    std::printf("%-58s %9.3f ms %8.1f %-7s  %.2f of %s\n", name.c_str(), ms, speed, unit, speed / peak, of);
    std::fflush(stdout);  // what was measured is not lost if the program is stopped
  }

  std::string wanted_;
  OwnedStream stream_{Device::kCuda};
  Arena memory_{"bench", int64_t{24} << 30, Device::kCuda}, scratch_{"scratch", int64_t{12} << 30, Device::kCuda};
  uint64_t seed_ = 0;
  double peak_flop_ = 0, peak_bytes_ = 0;
};

// Operators that memory bounds, at sizes of DeepSeek-V3 that no cache holds; `scale` divides the rows.
void MeasureMemory(Bench& bench, int64_t scale = 1);

}  // namespace jevons

#endif  // JEVONS_TESTS_PERF_CUDA_BENCH_H_
