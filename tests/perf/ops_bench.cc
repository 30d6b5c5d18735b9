// How fast the operators are on this machine, at the sizes of the small CPU preset (2048 rows of 512): GB/s
// beside a copy of memory of the same size class, and for attention GFLOP/s beside the peak of the vector
// units.
//   ops_bench [threads [part of a name]]
// Bytes are those that an operator must read and write once; a figure above the copy's means that operands
// stayed in cache.
#include <omp.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <vector>

#include "kernels/cpu/fma_peak.h"
#include "kernels/ops/op_table.h"

namespace jevons {
namespace {

constexpr int64_t kRows = 2048, kHidden = 512, kHeads = 8, kNope = 64, kRope = 32, kValue = 64, kLength = 512;
constexpr int64_t kExperts = 32, kTopK = 4, kInner = 256, kVocab = 8192, kVocabRows = 512;
constexpr int64_t kParameters = int64_t{1} << 23;

// One thread is timed by its CPU time, which other programs on the machine do not lengthen; more by the clock
// on the wall.
double Now() {
  timespec time;
  clock_gettime(omp_get_max_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double BestSeconds(const std::function<void()>& run) {
  run();
  double best = 1e9, total = 0;
  for (int i = 0; i < 200 && (i < 5 || total < 0.5); ++i) {
    const double begin = Now();
    run();
    const double seconds = Now() - begin;
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

class Bench {
 public:
  Bench(int threads, const char* filter) : arena_("bench", int64_t{1} << 33), peak_(MeasureFmaPeak(threads)), filter_(filter) {}

  Tensor Make(DType dtype, const Shape& shape) {
    const Tensor t = arena_.Allocate("bench", dtype, shape);
    const Tensor random = arena_.Allocate("bench", DType::kF32, shape);
    FillNormal(ctx(), 1, 0, 0, 1.0f, random);
    Copy(ctx(), random, t);
    return t;
  }
  Tensor Room(DType dtype, const Shape& shape) { return arena_.Allocate("bench", dtype, shape); }
  Tensor Ids(int64_t n, int64_t limit) {
    const Tensor t = arena_.Allocate("bench", DType::kI32, {n});
    for (int64_t i = 0; i < n; ++i) t.as<int32_t>()[i] = static_cast<int32_t>(i * 7919 % limit);
    return t;
  }
  OpContext ctx() { return {.stream = {}, .scratch = &arena_}; }

  void Bytes(const char* name, int64_t bytes, const std::function<void()>& run) {
    if (std::strstr(name, filter_) == nullptr) return;
    const double seconds = BestSeconds(run);
    std::printf("%-34s %9.1f us  %7.1f GB/s\n", name, seconds * 1e6, static_cast<double>(bytes) / seconds * 1e-9);
  }
  void Flops(const char* name, double flops, const std::function<void()>& run) {
    if (std::strstr(name, filter_) == nullptr) return;
    const double seconds = BestSeconds(run);
    std::printf("%-34s %9.1f us  %7.1f GFLOP/s  %4.1f%% of the FMA peak\n", name, seconds * 1e6, flops / seconds * 1e-9,
                100 * flops / seconds * 1e-9 / peak_);
  }
  void Title(const char* name) { std::printf("-- %s; FMA peak %.1f GFLOP/s\n", name, peak_); }

 private:
  Arena arena_;
  double peak_;
  const char* filter_;
};

void RowOps(Bench& b, DType dtype) {
  const int64_t size = SizeOf(dtype), matrix = kRows * kHidden * size;
  const OpContext ctx = b.ctx();
  const Tensor x = b.Make(dtype, {kRows, kHidden}), y = b.Make(dtype, {kRows, kHidden}), z = b.Make(dtype, {kRows, kHidden});
  const Tensor gamma = b.Make(DType::kF32, {kHidden}), dgamma = b.Make(DType::kF32, {kHidden});
  const Tensor rstd = b.Make(DType::kF32, {kRows});
  b.Bytes("memcpy", 2 * matrix, [&] { std::memcpy(y.data, x.data, static_cast<size_t>(matrix)); });
  b.Bytes("add", 3 * matrix, [&] { Add(ctx, x, y, z); });
  b.Bytes("rmsnorm", 2 * matrix, [&] { RmsNorm(ctx, x, gamma, 1e-6f, y, rstd); });
  b.Bytes("rmsnorm backward, added", 4 * matrix, [&] {
    RmsNormBackward(ctx, {.dy = y, .x = x, .gamma = gamma, .rstd = rstd, .dx = z, .dx_mode = WriteMode::kAdd, .dgamma = dgamma});
  });
  const Tensor cos = b.Make(DType::kF32, {kLength, kRope / 2}), sin = b.Make(DType::kF32, {kLength, kRope / 2});
  const Tensor q = b.Make(dtype, {kRows, kHeads * (kNope + kRope)});
  b.Bytes("rope, queries", 2 * kRows * kHeads * kRope * size, [&] {
    Rope(ctx, {.x = q,
               .heads = kHeads,
               .head_dim = kNope + kRope,
               .offset = kNope,
               .cos = cos,
               .sin = sin,
               .sequence_length = kLength});
  });
  const int64_t pairs = kRows * kTopK;
  const Tensor gate_up = b.Make(dtype, {pairs, 2 * kInner}), act = b.Make(dtype, {pairs, kInner});
  const Tensor dgate_up = b.Make(dtype, {pairs, 2 * kInner});
  const Tensor weight = b.Make(DType::kF32, {pairs}), dweight = b.Make(DType::kF32, {pairs});
  b.Bytes("swiglu", 3 * pairs * kInner * size, [&] { SwiGlu(ctx, gate_up, weight, act); });
  b.Bytes("swiglu backward", 5 * pairs * kInner * size, [&] {
    SwiGluBackward(ctx, {.dy = act, .gate_up = gate_up, .weight = weight, .dgate_up = dgate_up, .dweight = dweight});
  });
  const Tensor codes = b.Room(DType::kU8, {pairs, kInner}), scales = b.Room(DType::kF32, {pairs, TilesOf(kInner)});
  b.Bytes("swiglu, then quantised", pairs * kInner * (4 * size + 1), [&] {
    SwiGlu(ctx, gate_up, weight, act);
    Quantize(ctx, {.x = act, .codes = codes, .scales = scales});
  });
  b.Bytes("swiglu and quantised at once", pairs * kInner * (2 * size + 1),
          [&] { SwiGluQuantize(ctx, {.gate_up = gate_up, .weight = weight, .codes = codes, .scales = scales}); });
  const Tensor order = b.Ids(pairs, pairs), rows = b.Make(dtype, {pairs, kHidden});
  b.Bytes("gather rows", 2 * pairs * kHidden * size, [&] { GatherRows(ctx, x, order, kTopK, rows); });
  b.Bytes("sum rows", (pairs + kRows) * kHidden * size, [&] { SumRows(ctx, rows, order, kTopK, y, WriteMode::kOverwrite); });
  const Tensor experts = b.Ids(pairs, kExperts).Reshape({kRows, kTopK});
  b.Bytes("sum rows by group", (pairs + kRows) * kHidden * size,
          [&] { SumRowsByGroup(ctx, rows, order, experts, kExperts / 4, y, WriteMode::kOverwrite); });
  const Tensor logits = b.Make(DType::kF32, {kVocabRows, kVocab}), dlogits = b.Make(dtype, {kVocabRows, kVocab});
  const Tensor labels = b.Ids(kVocabRows, kVocab), losses = b.Make(DType::kF32, {kVocabRows});
  b.Bytes("cross-entropy with gradient", kVocabRows * kVocab * (4 + size),
          [&] { CrossEntropyWithGrad(ctx, logits, labels, 1.0f, losses, dlogits); });
}

void VocabularyAndOptimizer(Bench& b) {
  const OpContext ctx = b.ctx();
  const Tensor ids = b.Ids(kRows, kVocab), dy = b.Make(DType::kF32, {kRows, kHidden});
  const Tensor dtable = b.Make(DType::kF32, {kVocab, kHidden});
  b.Bytes("embedding backward", (kRows + kVocab) * kHidden * 4,
          [&] { EmbeddingBackward(ctx, dy, ids, dtable, WriteMode::kOverwrite); });
  const Tensor w = b.Make(DType::kF32, {kParameters}), g = b.Make(DType::kF32, {kParameters});
  const Tensor w16 = b.Make(DType::kBF16, {kParameters});
  b.Bytes("memcpy, 32 MiB", 8 * kParameters, [&] { std::memcpy(w.data, g.data, static_cast<size_t>(w.bytes())); });
  const FixedPoint format = {.shift = 30, .limit = 0x1p50};
  const Tensor fixed = b.Room(DType::kI64, {kParameters});
  int64_t flag = 0;
  b.Bytes("add, 32 MiB", 12 * kParameters, [&] { Add(ctx, w, g, w); });
  for (size_t values : {1, 4}) {
    const FixedPointSum sum = {.values = std::vector(values, g), .sum = fixed, .mode = WriteMode::kAdd, .flag = &flag};
    b.Bytes(values == 1 ? "add in fixed point" : "add in fixed point, one value four times",
            kParameters * (16 + 4 * static_cast<int64_t>(values)), [&] {
              AddFixedPoint(ctx, format, {&sum, 1});
            });
  }
  const Tensor in_cache = b.Make(DType::kF32, {4096});
  const FixedPointSum small = {.values = {in_cache}, .sum = fixed.Columns(0, 4096), .mode = WriteMode::kAdd, .flag = &flag};
  b.Bytes("add in fixed point, in cache", 4096 * 20, [&] { AddFixedPoint(ctx, format, {&small, 1}); });
  b.Bytes("embedding backward, fixed point", kRows * kHidden * 20, [&] {
    EmbeddingBackward(ctx, dy, ids, format, fixed.Columns(0, kVocab * kHidden).Reshape({kVocab, kHidden}), WriteMode::kAdd,
                      &flag);
  });
  for (const Tensor& x : {g, fixed}) {
    b.Bytes(x.dtype == DType::kF32 ? "sum of squares" : "sum of squares, fixed point", x.bytes(), [&] {
      double sums[kParameters / kSquaresBlock];
      const SquaresSlice slice = {.x = x, .sums = sums, .unit = format.unit()};
      SumsOfSquares(ctx, {&slice, 1}, kSquaresBlock);
    });
  }
  b.Bytes("fill normal", 4 * kParameters, [&] { FillNormal(ctx, 1, 2, 0, 0.02f, w.Columns(0, kParameters / 16)); });
  for (DType moments : {DType::kF32, DType::kBF16}) {
    const Tensor m = b.Make(moments, {kParameters}), v = b.Make(moments, {kParameters});
    Copy(ctx, g, m);
    const AdamWSlice slice = {.master = w, .grad = g, .m = m, .v = v, .compute = w16, .decay = 0.1f};
    const AdamWDesc desc = {.learning_rate = 1e-3f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .grad_unit = format.unit()};
    const int64_t bytes = kParameters * (12 + 2 + 4 * SizeOf(moments));
    b.Bytes(moments == DType::kF32 ? "adamw, FP32 moments" : "adamw, BF16 moments", bytes, [&] {
      AdamW(ctx, desc, {&slice, 1});
    });
    AdamWSlice exact = slice;
    exact.grad = fixed;
    b.Bytes(moments == DType::kF32 ? "adamw, fixed point, FP32 moments" : "adamw, fixed point, BF16 moments",
            bytes + 4 * kParameters, [&] {
              AdamW(ctx, desc, {&exact, 1});
            });
  }
}

void Gate(Bench& b) {
  const RouterDesc desc{.experts = kExperts, .top_k = kTopK, .groups = 4, .kept_groups = 2};
  const Tensor logits = b.Make(DType::kF32, {kRows, kExperts}), bias = b.Make(DType::kF32, {kExperts});
  const Tensor scores = b.Make(DType::kF32, {kRows, kExperts}), weights = b.Make(DType::kF32, {kRows, kTopK});
  const Tensor indices = b.Ids(kRows * kTopK, kExperts);
  std::vector<int64_t> counts(kExperts);
  b.Bytes("router", 2 * kRows * kExperts * 4, [&] {
    Router(b.ctx(), desc,
           {.logits = logits,
            .bias = bias,
            .scores = scores,
            .indices = indices,
            .weights = weights,
            .counts = Tensor::Of(counts.data(), {kExperts})});
  });
  const Tensor fractions = b.Make(DType::kF32, {kRows / kLength, kExperts}), losses = b.Make(DType::kF32, {kRows / kLength});
  b.Bytes("balance loss", kRows * kExperts * 4, [&] { BalanceLoss(b.ctx(), desc, scores, kLength, fractions, losses); });
  b.Bytes("router backward", 2 * kRows * kExperts * 4, [&] {
    RouterBackward(b.ctx(), desc,
                   {.scores = scores,
                    .indices = indices,
                    .weights = weights,
                    .dweights = weights,
                    .fractions = fractions,
                    .balance_scale = 1e-4f,
                    .sequence_length = kLength,
                    .dlogits = logits});
  });
}

// Causal FLOPs: a row t sees t + 1 keys. Forward has 2 products per visible pair, backward 5.
void Attentions(Bench& b, DType dtype) {
  const Tensor q = b.Make(dtype, {kRows, kHeads * (kNope + kRope)}), kv = b.Make(dtype, {kRows, kHeads * (kNope + kValue)});
  const Tensor k_rope = b.Make(dtype, {kRows, kRope}), o = b.Make(dtype, {kRows, kHeads * kValue});
  const Tensor lse = b.Make(DType::kF32, {kRows, kHeads}), d_o = b.Make(dtype, {kRows, kHeads * kValue});
  const Tensor dq = b.Make(dtype, {kRows, kHeads * (kNope + kRope)}), dk_rope = b.Make(dtype, {kRows, kRope});
  const Tensor dkv = b.Make(dtype, {kRows, kHeads * (kNope + kValue)});
  const AttentionDesc desc{.heads = kHeads,
                           .nope_dim = kNope,
                           .rope_dim = kRope,
                           .value_dim = kValue,
                           .sequence_length = kLength,
                           .scale = 0.1f,
                           .q = q,
                           .kv = kv,
                           .k_rope = k_rope,
                           .document_start = {},
                           .o = o,
                           .lse = lse};
  const double pairs = static_cast<double>(kRows * kHeads) * (kLength + 1) / 2;
  b.Flops("attention", 2 * pairs * (kNope + kRope + kValue), [&] { Attention(b.ctx(), desc); });
  b.Flops("attention backward", 2 * pairs * (3 * (kNope + kRope) + 2 * kValue),
          [&] { AttentionBackward(b.ctx(), desc, {.d_o = d_o, .dq = dq, .dkv = dkv, .dk_rope = dk_rope}); });
}

}  // namespace
}  // namespace jevons

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::max(1, std::atoi(argv[1])) : omp_get_max_threads();
  omp_set_num_threads(threads);
  jevons::Bench bench(threads, argc > 2 ? argv[2] : "");
  std::printf("%d threads, table %s\n", threads, jevons::Ops().name);
  for (jevons::DType dtype : {jevons::DType::kF32, jevons::DType::kBF16}) {
    bench.Title(jevons::NameOf(dtype));
    jevons::RowOps(bench, dtype);
    jevons::Attentions(bench, dtype);
  }
  bench.Title("F32 alone");
  jevons::VocabularyAndOptimizer(bench);
  jevons::Gate(bench);
}
