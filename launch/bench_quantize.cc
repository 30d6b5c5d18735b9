#include "launch/bench_quantize.h"

#include <omp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>

#include "absl/strings/str_format.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/op_table.h"
#include "kernels/ops/quantize.h"
#include "launch/cli.h"

namespace jevons {
namespace {

struct QuantizeOptions {
  int64_t rows = 4096, cols = 7168;  // tokens of a micro-batch and the hidden size of DeepSeek-V3
  int repeats = 10;
};

constexpr const char* kTilingNames[] = {"1x128", "128x128", "128x1 transposed"};
constexpr const char* kFormatNames[] = {"E4M3", "E5M2", "E5M6"};

// Times operations on one matrix and prints a line for each: GB/s of the bytes read and written once.
class QuantizeBench {
 public:
  explicit QuantizeBench(const QuantizeOptions& options)
      : options_(options), arena_("bench", 16 * options.rows * options.cols + (int64_t{1} << 30)) {
    x32_ = Make(DType::kF32, {options.rows, options.cols});
    x16_ = Make(DType::kBF16, {options.rows, options.cols});
    copied_ = Make(DType::kF32, x32_.shape);
    FillNormal(ctx(), 1, 2, 0, 1.0f, x32_);
    Copy(ctx(), x32_, x16_);
  }

  void Run() {
    WriteOut(absl::StrFormat("%d x %d, %d threads, table %s; the copy is of the FP32 matrix\n", options_.rows, options_.cols,
                             omp_get_max_threads(), Ops().name));
    for (const Tensor& x : {x32_, x16_}) {
      for (Tiling tiling : {Tiling::kRows1x128, Tiling::kBlocks128x128, Tiling::kColumns128x1}) {
        QuantizeOne(x, tiling, NumberFormat::kE4M3);
      }
      QuantizeOne(x, Tiling::kRows1x128, NumberFormat::kE5M6);
    }
    Requantize(ScaleKind::kPowerOfTwo, "scales 2^n");
    Requantize(ScaleKind::kFp32, "FP32 scales");
  }

 private:
  OpContext ctx() { return {.stream = {}, .scratch = &arena_}; }
  Tensor Make(DType dtype, const Shape& shape) { return arena_.Allocate("bench", dtype, shape); }

  static double Seconds(const std::function<void()>& run) {
    const auto begin = std::chrono::steady_clock::now();
    run();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

  // Times `run` and the copy in turn, so that what else slows the memory down slows both: the best of each counts.
  void Measure(const std::string& name, int64_t bytes, const std::function<void()>& run) {
    const auto copy = [&] { Copy(ctx(), x32_, copied_); };
    run();
    copy();
    double best = 1e9, best_copy = 1e9;
    for (int i = 0; i < options_.repeats; ++i) {
      best = std::min(best, Seconds(run));
      best_copy = std::min(best_copy, Seconds(copy));
    }
    const double rate = static_cast<double>(bytes) / best * 1e-9;
    const double copy_rate = static_cast<double>(2 * copied_.bytes()) / best_copy * 1e-9;
    WriteOut(absl::StrFormat("%-38s %8.1f GB/s  %5.1f%% of the copy's %.1f\n", name, rate, 100 * rate / copy_rate, copy_rate));
  }

  void QuantizeOne(const Tensor& x, Tiling tiling, NumberFormat format) {
    ArenaScope scope(arena_);
    const Tensor codes = Make(DType::kU8, CodesShape(x.rows(), x.cols(), tiling, format));
    const Tensor scales = Make(DType::kF32, ScalesShape(x.rows(), x.cols(), tiling));
    const int64_t bytes = x.bytes() + codes.bytes() + scales.bytes();
    const std::string what =
        absl::StrFormat("%s %s", kFormatNames[static_cast<int>(format)], kTilingNames[static_cast<int>(tiling)]);
    Measure(absl::StrFormat("%s to %s", NameOf(x.dtype), what), bytes, [&] {
      Quantize(
          ctx(),
          {.x = x, .codes = codes, .scales = scales, .tiling = tiling, .scale_kind = ScaleKind::kPowerOfTwo, .format = format});
    });
    if (tiling == Tiling::kColumns128x1) return;
    const Tensor back = Make(x.dtype, x.shape);
    Measure(absl::StrFormat("%s to %s", what, NameOf(x.dtype)), bytes,
            [&] { Dequantize(ctx(), {.codes = codes, .scales = scales, .x = back, .tiling = tiling, .format = format}); });
  }

  // Scales of one kind on both sides.
  void Requantize(ScaleKind kind, const char* scales_name) {
    ArenaScope scope(arena_);
    const int64_t rows = x32_.rows(), cols = x32_.cols();
    const Tensor codes = Make(DType::kU8, {rows, cols}), scales = Make(DType::kF32, ScalesShape(rows, cols, Tiling::kRows1x128));
    const Tensor out = Make(DType::kU8, {cols, rows}),
                 out_scales = Make(DType::kF32, ScalesShape(rows, cols, Tiling::kColumns128x1));
    Quantize(ctx(), {.x = x32_, .codes = codes, .scales = scales, .scale_kind = kind});
    const RequantizeDesc desc = {
        .codes = codes, .scales = scales, .out_codes = out, .out_scales = out_scales, .scale_kind = kind};
    Measure(absl::StrFormat("E4M3 to 128x1 transposed, %s", scales_name),
            codes.bytes() + scales.bytes() + out.bytes() + out_scales.bytes(), [&] {
              RequantizeTransposed(ctx(), {&desc, 1});
            });
  }

  QuantizeOptions options_;
  Arena arena_;
  Tensor x32_, x16_, copied_;
};

}  // namespace

void RegisterBenchQuantize(CLI::App& bench, int* exit_code) {
  CLI::App* command = AddCommand(bench, "quantize", "Quantisation to FP8 and back: GB/s beside a copy of memory.",
                                 "jevons bench quantize\njevons bench quantize --rows 8192 --cols 512");
  auto options = std::make_shared<QuantizeOptions>();
  command->add_option("--rows", options->rows, "rows of the matrix")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  command->add_option("--cols", options->cols, "columns of the matrix")->check(CLI::Range(1, 1 << 16))->capture_default_str();
  command->add_option("--repeats", options->repeats, "runs of which the best counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->callback([options, exit_code] {
    QuantizeBench(*options).Run();
    *exit_code = Finish(absl::OkStatus());
  });
}

}  // namespace jevons
