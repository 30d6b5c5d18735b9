#include "launch/measure_kernels.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <vector>

#include "kernels/ops/attention.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/fp8_gemm.h"
#include "kernels/ops/gemm.h"
#include "kernels/ops/rmsnorm.h"
#include "kernels/ops/softmax_xent.h"
#include "kernels/ops/swiglu.h"
#include "kernels/tensor/device.h"
#include "trainer/spec/model_shape.h"
#include "trainer/step/train_step.h"

namespace jevons {
namespace {

constexpr int64_t kArenaBytes = int64_t{4} << 30;  // of address space
constexpr int64_t kCopyElements = int64_t{16} << 20;
constexpr double kEnough = 0.15;  // seconds of repeats

class KernelBench {
 public:
  KernelBench(const Stream& stream, const KernelSizes& sizes)
      : sizes_(sizes), arena_("calibrate", kArenaBytes, stream.device), ctx_{stream, &arena_} {}

  void Run(Measurements& m) {
    const MovedBytes before = MeasureCopy();
    for (const KernelSizes::Product& product : sizes_.products) {
      m.products[0].push_back(Forward(product, DType::kF32));
      m.products[0].push_back(WeightGradient(product, DType::kF32));
      m.products[1].push_back(Forward(product, DType::kBF16));
      m.products[1].push_back(WeightGradient(product, DType::kBF16));
      m.products[2].push_back(ForwardFp8(product));
    }
    const MovedBytes after = MeasureCopy();  // seconds later: a burst of others' traffic halves one of the two
    m.copy = before.seconds < after.seconds ? before : after;
    m.elementwise = Elementwise();
    m.cast = Cast();
    MeasureAttention(m);
  }

 private:
  Tensor Make(DType dtype, const Shape& shape) { return arena_.Allocate("calibrate", dtype, shape); }
  // Normal numbers of deviation 1: no denormals, which some CPUs are slow at.
  Tensor MakeNormal(DType dtype, const Shape& shape) {
    const Tensor x = Make(dtype, shape), fp32 = Make(DType::kF32, shape);
    FillNormal(ctx_, 1, 2, 0, 1.0f, fp32);
    Copy(ctx_, fp32, x);
    return x;
  }

  // The lower quartile of repeats after one that warms up: what other programs take in between is not the machine's.
  double Seconds(const std::function<void()>& run) {
    std::vector<double> runs;
    double sum = 0;
    for (int i = -1; i < 3 || (i < 200 && sum < kEnough); ++i) {
      const auto begin = std::chrono::steady_clock::now();
      run();
      Synchronize(ctx_.stream);
      if (i < 0) continue;
      runs.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
      sum += runs.back();
    }
    std::sort(runs.begin(), runs.end());
    return std::max(runs[runs.size() / 4], 1e-9);
  }

  static double FlopsOf(const KernelSizes::Product& p) { return 2.0 * static_cast<double>(p.rows * p.n * p.k); }

  ProductSample Forward(const KernelSizes::Product& p, DType dtype) {
    ArenaScope scope(arena_);
    const Tensor x = MakeNormal(dtype, {p.rows, p.k}), w = MakeNormal(dtype, {p.n, p.k}), y = Make(dtype, {p.rows, p.n});
    const double seconds = Seconds([&] { Gemm(ctx_, {.a = x, .b = w, .c = y, .b_form = Form::kTransposed}); });
    return {.flops = FlopsOf(p), .bytes = static_cast<double>(y.bytes()), .seconds = seconds};
  }

  ProductSample WeightGradient(const KernelSizes::Product& p, DType dtype) {
    ArenaScope scope(arena_);
    const Tensor dy = MakeNormal(dtype, {p.rows, p.n}), x = MakeNormal(dtype, {p.rows, p.k}),
                 dw = MakeNormal(DType::kF32, {p.n, p.k});
    const double seconds =
        Seconds([&] { Gemm(ctx_, {.a = dy, .b = x, .c = dw, .a_form = Form::kTransposed, .mode = WriteMode::kAdd}); });
    return {.flops = FlopsOf(p), .bytes = 2.0 * static_cast<double>(dw.bytes()), .seconds = seconds};
  }

  Fp8Operand Quantised(int64_t rows, int64_t cols, Tiling tiling) {
    const Tensor x = MakeNormal(DType::kBF16, {rows, cols});
    const Tensor codes = Make(DType::kU8, CodesShape(rows, cols, tiling)),
                 scales = Make(DType::kF32, ScalesShape(rows, cols, tiling));
    Quantize(ctx_, {.x = x, .codes = codes, .scales = scales, .tiling = tiling, .scale_kind = ScaleKind::kPowerOfTwo});
    return {.codes = codes, .scales = scales, .tiling = tiling};
  }

  ProductSample ForwardFp8(const KernelSizes::Product& p) {
    ArenaScope scope(arena_);
    const Fp8Operand x = Quantised(p.rows, p.k, Tiling::kRows1x128), w = Quantised(p.n, p.k, Tiling::kBlocks128x128);
    const Tensor y = Make(DType::kBF16, {p.rows, p.n});
    return {.flops = FlopsOf(p), .bytes = static_cast<double>(y.bytes()), .seconds = Seconds([&] {
                                                                            Fp8Gemm(ctx_, {.a = x, .b = w, .c = y});
                                                                          })};
  }

  MovedBytes MeasureCopy() {
    ArenaScope scope(arena_);
    const Tensor from = Make(DType::kF32, {kCopyElements}), to = Make(DType::kF32, {kCopyElements});
    Fill(ctx_, 1, from);
    return {.bytes = 2.0 * static_cast<double>(from.bytes()), .seconds = Seconds([&] { Copy(ctx_, from, to); })};
  }

  // Norm, SwiGLU and loss once each, counted as the cost model counts them.
  MovedBytes Elementwise() {
    ArenaScope scope(arena_);
    const int64_t T = sizes_.tokens, H = sizes_.hidden, I = sizes_.inner, V = sizes_.vocab;
    const Tensor x = MakeNormal(sizes_.dtype, {T, H}), y = Make(sizes_.dtype, {T, H}), dx = Make(sizes_.dtype, {T, H});
    const Tensor gamma = MakeNormal(DType::kF32, {H}), rstd = Make(DType::kF32, {T}), dgamma = Make(DType::kF32, {H});
    const Tensor pair = MakeNormal(sizes_.dtype, {T, 2 * I}), dpair = Make(sizes_.dtype, {T, 2 * I}),
                 act = MakeNormal(sizes_.dtype, {T, I});
    const Tensor logits = MakeNormal(DType::kF32, {T, V}), labels = Make(DType::kI32, {T}), losses = Make(DType::kF32, {T});
    const Tensor dlogits = Make(sizes_.dtype, {T, V});
    Zero(labels);
    const double value = SizeOf(sizes_.dtype), norm = static_cast<double>(T * H), inner = static_cast<double>(T * I);
    MovedBytes moved{.bytes = value * (2 + 4) * norm + value * (3 + 6) * inner + 12 * static_cast<double>(T * V), .seconds = 0};
    moved.seconds += Seconds([&] { RmsNorm(ctx_, x, gamma, 1e-6f, y, rstd); });
    moved.seconds +=
        Seconds([&] { RmsNormBackward(ctx_, {.dy = y, .x = x, .gamma = gamma, .rstd = rstd, .dx = dx, .dgamma = dgamma}); });
    moved.seconds += Seconds([&] { SwiGlu(ctx_, pair, {}, act); });
    moved.seconds +=
        Seconds([&] { SwiGluBackward(ctx_, {.dy = act, .gate_up = pair, .weight = {}, .dgate_up = dpair, .dweight = {}}); });
    moved.seconds += Seconds([&] { CrossEntropyWithGrad(ctx_, logits, labels, 1, losses, dlogits); });
    return moved;
  }

  MovedBytes Cast() {
    ArenaScope scope(arena_);
    const int64_t T = sizes_.tokens, H = sizes_.hidden;
    const Tensor x = MakeNormal(DType::kBF16, {T, H}), codes = Make(DType::kU8, {T, H});
    const Tensor scales = Make(DType::kF32, ScalesShape(T, H, Tiling::kRows1x128));
    return {.bytes = 3.0 * static_cast<double>(T * H),
            .seconds = Seconds(
                [&] { Quantize(ctx_, {.x = x, .codes = codes, .scales = scales, .scale_kind = ScaleKind::kPowerOfTwo}); })};
  }

  void MeasureAttention(Measurements& m) {
    ArenaScope scope(arena_);
    const int64_t T = sizes_.tokens, qk = sizes_.nope_dim + sizes_.rope_dim, kv = sizes_.nope_dim + sizes_.value_dim,
                  h = sizes_.heads;
    const AttentionDesc d{.heads = h,
                          .nope_dim = sizes_.nope_dim,
                          .rope_dim = sizes_.rope_dim,
                          .value_dim = sizes_.value_dim,
                          .sequence_length = sizes_.sequence,
                          .scale = 1 / std::sqrt(static_cast<float>(qk)),
                          .q = MakeNormal(sizes_.dtype, {T, h * qk}),
                          .kv = MakeNormal(sizes_.dtype, {T, h * kv}),
                          .k_rope = MakeNormal(sizes_.dtype, {T, sizes_.rope_dim}),
                          .document_start = {},
                          .o = Make(sizes_.dtype, {T, h * sizes_.value_dim}),
                          .lse = Make(DType::kF32, {T, h})};
    const AttentionGrad grad{.d_o = MakeNormal(sizes_.dtype, {T, h * sizes_.value_dim}),
                             .dq = Make(sizes_.dtype, {T, h * qk}),
                             .dkv = Make(sizes_.dtype, {T, h * kv}),
                             .dk_rope = Make(sizes_.dtype, {T, sizes_.rope_dim})};
    m.attention_length = static_cast<double>(sizes_.sequence);
    m.attention_forward_flops = static_cast<double>(T * sizes_.sequence * h * (qk + sizes_.value_dim));
    m.attention_backward_flops = 2.5 * m.attention_forward_flops;
    m.attention_forward_seconds = Seconds([&] { Attention(ctx_, d); });
    m.attention_backward_seconds = Seconds([&] { AttentionBackward(ctx_, d, grad); });
  }

  KernelSizes sizes_;
  Arena arena_;
  OpContext ctx_;
};

}  // namespace

KernelSizes TypicalSizes() {
  KernelSizes sizes;
  for (const int64_t n : {256, 512, 1024}) {
    sizes.products.push_back({n, n, n});
    sizes.products.push_back({1024, n, 1024});
    sizes.products.push_back({1024, 1024, n});
  }
  return sizes;
}

// Large sizes are cut, so that large models take no longer: rates have long ceased to grow.
KernelSizes SizesOf(const RunConfig& config) {
  constexpr int64_t kRows = 2048, kWidth = 2048, kVocab = 8192, kHeads = 16, kSequence = 2048, kProduct = int64_t{1} << 29;
  const ModelShape model = ShapeOf(config.model());
  const AttentionConfig& a = config.model().attention();
  KernelSizes sizes;
  sizes.sequence = std::min(config.data().sequence_length(), kSequence);
  sizes.tokens = std::clamp(kRows / sizes.sequence, int64_t{1}, config.train().micro_batch_sequences()) * sizes.sequence;
  sizes.hidden = std::min(model.hidden, kWidth);
  sizes.vocab = std::min(model.vocab, kVocab);
  sizes.heads = std::min(a.heads(), kHeads);
  sizes.nope_dim = a.nope_dim();
  sizes.rope_dim = a.rope_dim();
  sizes.value_dim = a.value_dim();
  sizes.dtype = ComputeDType(config);
  const int64_t T = sizes.tokens, H = model.hidden;
  const auto add = [&](int64_t rows, int64_t n, int64_t k) {
    n = std::min(n, kWidth);
    k = std::min(k, kWidth);
    sizes.products.push_back({std::min(rows, std::max<int64_t>(128, kProduct / (n * k))), n, k});
  };
  for (const Projection& product : model.attention) add(T, product.n, product.k);
  const auto add_ffn = [&](int64_t rows, int64_t width) {
    if (width == 0) return;
    sizes.inner = std::min(width, kWidth);
    add(rows, 2 * width, H);
    add(rows, H, width);
  };
  add_ffn(T, model.dense_width);
  add_ffn(T, model.shared_width);
  if (model.moe()) add_ffn(std::max<int64_t>(1, T * model.top_k / model.experts), model.expert_width);
  add(T, model.vocab, H);
  return sizes;
}

void MeasureKernels(const Stream& stream, const KernelSizes& sizes, Measurements& m) { KernelBench(stream, sizes).Run(m); }

}  // namespace jevons
