// GFLOP/s of Gemm and GroupedGemm per shape and thread count, beside the peak, measured in the same run, of the instruction that
// serves: gemm_bench [threads] [part of a line's name]. A product has 2mnk FLOP. The best of many runs of
// about 1 ms is reported, since the machine may have other work.
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "kernels/base/philox.h"
#include "kernels/cpu/product_peak.h"
#include "kernels/ops/gemm.h"

namespace jevons {
namespace {

struct Line {
  const char* name;
  int64_t m, n, k;  // of one product
  int count;        // products in a call, each with operands of its own
  Form a_form, b_form;
  WriteMode mode;
};

constexpr Form kP = Form::kPlain, kT = Form::kTransposed;
constexpr WriteMode kOver = WriteMode::kOverwrite, kSum = WriteMode::kAdd;
constexpr Line kLines[] = {
    {"forward", 2048, 512, 512, 1, kP, kT, kOver},  {"dgrad", 2048, 512, 512, 1, kP, kP, kOver},
    {"wgrad", 512, 512, 2048, 1, kT, kP, kSum},     {"forward", 64, 512, 512, 8, kP, kT, kOver},
    {"dgrad", 64, 512, 512, 8, kP, kP, kOver},      {"wgrad", 512, 512, 64, 8, kT, kP, kOver},
    {"forward", 16, 512, 512, 8, kP, kT, kOver},    {"wgrad", 512, 512, 16, 8, kT, kP, kOver},
    {"forward", 300, 1024, 256, 4, kP, kT, kOver},  {"forward", 1024, 8192, 512, 1, kP, kT, kOver},
    {"dgrad", 1024, 512, 8192, 1, kP, kP, kOver},   {"wgrad", 8192, 512, 1024, 1, kT, kP, kSum},
    {"square", 2048, 2048, 2048, 1, kP, kP, kOver}, {"scores", 128, 128, 96, 1, kP, kT, kOver},
    {"values", 128, 64, 128, 1, kP, kP, kOver},     {"one row", 1, 512, 512, 1, kP, kT, kOver},
};

double BestSeconds(const std::function<void()>& run) {
  using Clock = std::chrono::steady_clock;
  double best = 1e30;
  const auto deadline = Clock::now() + std::chrono::milliseconds(200);
  for (int round = 0; round < 100 && (round < 3 || Clock::now() < deadline); ++round) {
    const auto begin = Clock::now();
    int calls = 0;
    double seconds = 0;
    do {
      run();
      ++calls;
      seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    } while (seconds < 0.001);
    best = std::min(best, seconds / calls);
  }
  return best;
}

// Operands of `count` products.
class Products {
 public:
  Products(const Line& line, DType in) : line_(line) {
    const int64_t a = line.m * line.k, b = line.k * line.n, c = line.m * line.n;
    buffer_.resize((a + b + c) * line.count * sizeof(float) + 64);
    char* p = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(buffer_.data()) + 63) / 64 * 64);
    const auto take = [&](DType type, int64_t rows, int64_t cols, bool turned) {
      Tensor t(p, type, turned ? Shape{cols, rows} : Shape{rows, cols});
      for (int64_t i = 0; i < t.size(); ++i) {
        const float value = static_cast<float>(i * 2654435761u % 1000) * 1e-3f;
        if (type == DType::kF32) {
          t.as<float>()[i] = value;
        } else {
          t.as<bf16>()[i] = bf16(value);
        }
      }
      p += t.bytes();
      return t;
    };
    for (int i = 0; i < line.count; ++i) {
      const Tensor at = take(in, line.m, line.k, line.a_form == kT), bt = take(in, line.k, line.n, line.b_form == kT);
      descs_.push_back({at, bt, take(DType::kF32, line.m, line.n, false), line.a_form, line.b_form, line.mode});
    }
  }
  double Flop() const { return 2.0 * line_.m * line_.n * line_.k * line_.count; }
  void Run() const { GroupedGemm(OpContext{}, descs_); }

 private:
  Line line_;
  std::vector<char> buffer_;
  std::vector<GemmDesc> descs_;
};

void Report(int threads, DType in, const char* filter) {
  const double peak = MeasureProductPeak(in, threads);
  std::printf("\n%s, %d thread%s, %s; peak of its instruction %.0f GFLOP/s\n", NameOf(in), threads, threads == 1 ? "" : "s",
              GemmImplementation(in).c_str(), peak);
  std::printf("%-8s %6s %6s %6s %3s | %8s %6s\n", "", "m", "n", "k", "x", "GFLOP/s", "peak");
  for (const Line& line : kLines) {
    if (filter != nullptr && std::strstr(line.name, filter) == nullptr) continue;
    Products products(line, in);
    const double rate = products.Flop() / BestSeconds([&] { products.Run(); }) * 1e-9;
    std::printf("%-8s %6ld %6ld %6ld %3d | %8.1f %5.0f%%\n", line.name, line.m, line.n, line.k, line.count, rate,
                100 * rate / peak);
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace jevons

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : omp_get_max_threads();
  if (threads < 1) {
    std::fprintf(stderr, "usage: gemm_bench [threads] [part of a line's name]\n");
    return 2;
  }
  omp_set_num_threads(threads);
  for (const jevons::DType in : {jevons::DType::kF32, jevons::DType::kBF16}) {
    jevons::Report(threads, in, argc > 2 ? argv[2] : nullptr);
  }
}
