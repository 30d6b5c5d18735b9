// TFLOP/s of products and attention on a CUDA device, at the shapes of DeepSeek-V3, beside the BF16 peak measured in the same run, and
// GB/s of what memory bounds, beside a copy:
//   cuda_bench [part of a line's name]
// A product has 2mnk FLOP; causal attention half of those of all pairs: forward 2 products of it, backward 5. Operands come from
// normal numbers, since power, and so the clock, depends on them. Without a device it says so and ends well.
#include "tests/perf/cuda_bench.h"

#include "absl/strings/str_format.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_wgmma_plan.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/gemm.h"

namespace jevons {
namespace {

void MeasurePeak(Bench& bench) {
  constexpr int64_t kSide = 8192;
  ArenaScope scope(bench.memory());
  const Tensor a = bench.Numbers(DType::kBF16, kSide, kSide), b = bench.Numbers(DType::kBF16, kSide, kSide);
  const Tensor c = bench.memory().Allocate("c", DType::kBF16, {kSide, kSide});
  const GemmDesc desc{.a = a, .b = b, .c = c, .b_form = Form::kTransposed};
  bench.Flop("BF16 peak: 8192 x 8192 x 8192", 2.0 * kSide * kSide * kSide, [&] { Gemm(bench.ctx(), desc); });
}

struct Shape3 {
  int count;        // products of a call: experts
  int64_t t, n, k;  // Y[t, n] = X[t, k] W[n, k]^T
};
constexpr Shape3 kShapes[] = {{1, 4096, 2112, 7168}, {1, 4096, 24576, 1536}, {1, 4096, 32768, 512}, {1, 4096, 7168, 16384},
                              {1, 4096, 4096, 7168}, {1, 4096, 7168, 2048},  {8, 4096, 4096, 7168}, {8, 4096, 7168, 2048},
                              {32, 512, 4096, 7168}, {32, 512, 7168, 2048},  {8, 4099, 4096, 7168}};

std::string NameOf(const char* what, const Shape3& s) {
  return absl::StrFormat("%s %d x %d x %d x %d", what, s.count, s.t, s.n, s.k);
}
double FlopOf(const Shape3& s) {
  return 2.0 * s.count * static_cast<double>(s.t) * static_cast<double>(s.n) * static_cast<double>(s.k);
}

void MeasureBf16(Bench& bench, const Shape3& s) {
  if (!bench.Wants(NameOf("BF16", s))) return;
  ArenaScope scope(bench.memory());
  std::vector<GemmDesc> forward, dgrad, wgrad;
  for (int e = 0; e < s.count; ++e) {
    const Tensor x = bench.Numbers(DType::kBF16, s.t, s.k), w = bench.Numbers(DType::kBF16, s.n, s.k),
                 y = bench.Numbers(DType::kBF16, s.t, s.n), dw = bench.memory().Allocate("dw", DType::kF32, {s.n, s.k});
    Zero(bench.ctx().stream, dw);
    forward.push_back({.a = x, .b = w, .c = y, .b_form = Form::kTransposed});
    dgrad.push_back({.a = y, .b = w, .c = x});
    wgrad.push_back({.a = y, .b = x, .c = dw, .a_form = Form::kTransposed, .mode = WriteMode::kAdd});
  }
  bench.Flop(NameOf("BF16 forward", s), FlopOf(s), [&] { GroupedGemm(bench.ctx(), forward); });
  bench.Flop(NameOf("BF16 dgrad", s), FlopOf(s), [&] { GroupedGemm(bench.ctx(), dgrad); });
  bench.Flop(NameOf("BF16 wgrad", s), FlopOf(s), [&] { GroupedGemm(bench.ctx(), wgrad); });
}

void MeasureFp8(Bench& bench, const Shape3& s) {
  if (!bench.Wants(NameOf("FP8", s))) return;
  ArenaScope scope(bench.memory());
  std::vector<Fp8GemmDesc> forward, dgrad, turning, wgrad;
  for (int e = 0; e < s.count; ++e) {
    const Fp8Weight w = bench.Weight(s.n, s.k);
    const Tensor y = bench.memory().Allocate("y", DType::kBF16, {s.t, s.n}),
                 dx = bench.memory().Allocate("dx", DType::kBF16, {s.t, s.k}),
                 dw = bench.memory().Allocate("dw", DType::kF32, {s.n, s.k});
    Zero(bench.ctx().stream, dw);
    forward.push_back({.a = bench.Codes(s.t, s.k, Tiling::kRows1x128), .b = w.plain, .c = y});
    dgrad.push_back({.a = bench.Codes(s.t, s.n, Tiling::kRows1x128), .b = w.turned, .c = dx});
    turning.push_back({.a = dgrad.back().a, .b = w.plain, .c = dx, .b_form = Form::kPlain});
    wgrad.push_back({.a = bench.Codes(s.t, s.n, Tiling::kColumns128x1),
                     .b = bench.Codes(s.t, s.k, Tiling::kColumns128x1),
                     .c = dw,
                     .mode = WriteMode::kAdd});
  }
  for (const cuda::GemmImpl impl : {cuda::GemmImpl::kCublasLt, cuda::GemmImpl::kWgmma}) {
    cuda::BeginGemmListAt(impl);
    const std::string who = impl == cuda::GemmImpl::kWgmma ? "FP8 wgmma " : "FP8 cublaslt ";
    bench.Flop(NameOf((who + "forward").c_str(), s), FlopOf(s), [&] { GroupedFp8Gemm(bench.ctx(), forward); });
    bench.Flop(NameOf((who + "dgrad").c_str(), s), FlopOf(s), [&] { GroupedFp8Gemm(bench.ctx(), dgrad); });
    bench.Flop(NameOf((who + "dgrad, w turned each time").c_str(), s), FlopOf(s), [&] { GroupedFp8Gemm(bench.ctx(), turning); });
    bench.Flop(NameOf((who + "wgrad").c_str(), s), FlopOf(s), [&] { GroupedFp8Gemm(bench.ctx(), wgrad); });
  }
  cuda::BeginGemmListAt(cuda::GemmImpl::kCublasLt);
  if (s.count != 8) return;
  for (const int width : cuda::kWgmmaWidths)  // beside the one that is chosen
    bench.Flop(NameOf(absl::StrFormat("FP8 wgmma forward, tiles of %d,", width).c_str(), s), FlopOf(s),
               [&] { cuda::WgmmaFp8Gemms(bench.ctx(), forward, width); });
}

// Sequences of documents of these lengths.
void MeasureAttention(Bench& bench, int64_t sequences, const std::vector<int64_t>& documents) {
  constexpr int64_t kHeads = 128, kNope = 128, kRope = 64, kValue = 128;
  int64_t length = 0;
  double pairs = 0;
  std::vector<int32_t> start;
  for (const int64_t n : documents) {
    start.insert(start.end(), static_cast<size_t>(n), static_cast<int32_t>(length));
    length += n;
    pairs += 0.5 * static_cast<double>(n * n * sequences * kHeads);
  }
  const int64_t rows = sequences * length, count = sequences * static_cast<int64_t>(documents.size());
  const std::string name = absl::StrFormat("attention %d x %d in %d documents", sequences, length, count);
  if (!bench.Wants(name)) return;
  ArenaScope scope(bench.memory());
  AttentionDesc d{.heads = kHeads,
                  .nope_dim = kNope,
                  .rope_dim = kRope,
                  .value_dim = kValue,
                  .sequence_length = length,
                  .scale = 0.0721688f,
                  .q = bench.Numbers(DType::kBF16, rows, kHeads * (kNope + kRope)),
                  .kv = bench.Numbers(DType::kBF16, rows, kHeads * (kNope + kValue)),
                  .k_rope = bench.Numbers(DType::kBF16, rows, kRope),
                  .document_start = {},
                  .o = bench.memory().Allocate("o", DType::kBF16, {rows, kHeads * kValue}),
                  .lse = bench.memory().Allocate("lse", DType::kF32, {rows, kHeads})};
  if (documents.size() > 1) {
    start.reserve(static_cast<size_t>(rows));
    while (static_cast<int64_t>(start.size()) < rows) start.push_back(start[start.size() - static_cast<size_t>(length)]);
    d.document_start = bench.memory().Allocate("documents", DType::kI32, {rows});
    CopyBytes(bench.ctx().stream, start.data(), d.document_start.data, rows * 4);
    Synchronize(bench.ctx().stream);
    d.documents = count;
    d.longest_document = *std::max_element(documents.begin(), documents.end());
  }
  const AttentionGrad g{.d_o = bench.Numbers(DType::kBF16, rows, kHeads * kValue),
                        .dq = bench.memory().Allocate("dq", DType::kBF16, {rows, d.q.cols()}),
                        .dkv = bench.memory().Allocate("dkv", DType::kBF16, {rows, d.kv.cols()}),
                        .dk_rope = bench.memory().Allocate("dk_rope", DType::kBF16, {rows, kRope})};
  bench.Flop(name + ", forward", pairs * 2 * (kNope + kRope + kValue), [&] { Attention(bench.ctx(), d); });
  bench.Flop(name + ", backward", pairs * 2 * (3 * (kNope + kRope) + 2 * kValue), [&] { AttentionBackward(bench.ctx(), d, g); });
}

int Main(const char* wanted) {
  const CudaReport report = ExamineCuda();
  if (!report.problem.empty()) {
    std::printf("no CUDA device: %s\n", report.problem.c_str());
    return 0;
  }
  std::printf("%s, products by %s\n", report.devices[0].name.c_str(), GemmImplementation(DType::kBF16, Device::kCuda).c_str());
  if (const std::string problem = cuda::CudnnProblem(); !problem.empty()) std::printf("no cuDNN: %s\n", problem.c_str());
  Bench bench(wanted);
  MeasurePeak(bench);
  for (const Shape3& shape : kShapes) MeasureBf16(bench, shape);
  for (const Shape3& shape : kShapes) MeasureFp8(bench, shape);
  MeasureAttention(bench, 1, {4096});
  MeasureAttention(bench, 4, {4096});
  MeasureAttention(bench, 1, std::vector<int64_t>(8, 512));
  std::vector<int64_t> one_long(17, 128);
  one_long[0] = 2048;
  MeasureAttention(bench, 1, one_long);
  MeasureMemory(bench);
  return 0;
}

}  // namespace
}  // namespace jevons

int main(int argc, char** argv) { return jevons::Main(argc > 1 ? argv[1] : ""); }
