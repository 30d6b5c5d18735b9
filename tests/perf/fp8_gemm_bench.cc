// GFLOP/s of the products of FP8 codes beside the BF16 products of the same shapes:
//   fp8_gemm_bench [threads]
// A product has 2mnk FLOP; quantising is not in it. Both alternate, and the best of many runs of about 1 ms
// is reported, since the machine may have other work.
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "kernels/base/philox.h"
#include "kernels/ops/fp8_gemm.h"

namespace jevons {
namespace {

enum class Role { kForward, kDgrad, kWgrad };

struct Line {
  Role role;
  int64_t m, n, k;  // of one product
  int count;        // products in a call, each with operands of its own
};
constexpr const char* kNames[] = {"forward", "dgrad", "wgrad"};
constexpr Line kLines[] = {
    {Role::kForward, 2048, 512, 512, 1}, {Role::kDgrad, 2048, 512, 512, 1},    {Role::kWgrad, 512, 512, 2048, 1},
    {Role::kForward, 64, 512, 512, 8},   {Role::kDgrad, 64, 512, 512, 8},      {Role::kWgrad, 512, 512, 64, 8},
    {Role::kWgrad, 512, 512, 256, 8},    {Role::kForward, 1024, 2048, 512, 1}, {Role::kDgrad, 1024, 512, 2048, 1},
    {Role::kWgrad, 2048, 512, 1024, 1},  {Role::kForward, 2048, 2048, 2048, 1}};

// Owns memory for tensors.
class Pool {
 public:
  Tensor Take(DType dtype, const Shape& shape) {
    Tensor t(nullptr, dtype, shape);
    blocks_.emplace_back(t.bytes() + 64);
    t.data = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(blocks_.back().data()) + 63) / 64 * 64);
    return t;
  }
  // Random codes, their scales, and the same numbers as BF16.
  Fp8Operand TakeCodes(const Shape& shape, Tiling tiling, uint64_t seed, Tensor& as_bf16) {
    const bool turned = tiling == Tiling::kColumns128x1;
    const Shape scales = ScalesShape(shape[turned], shape[!turned], tiling);
    const Fp8Operand x{Take(DType::kU8, shape), Take(DType::kF32, scales), tiling};
    as_bf16 = Take(DType::kBF16, shape);
    std::fill_n(x.scales.as<float>(), x.scales.size(), 0.01f);
    for (int64_t i = 0; i < shape.size(); ++i) {
      const uint8_t code = static_cast<uint8_t>(RandomBits(seed, 0, i) % 0x7F);
      x.codes.as<uint8_t>()[i] = code;
      as_bf16.as<bf16>()[i] = bf16(0.01f * Decode<E4M3>(code));
    }
    return x;
  }

 private:
  std::vector<std::vector<char>> blocks_;
};

double Seconds(const std::function<void()>& run) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  int calls = 0;
  double seconds = 0;
  do {
    run();
    ++calls;
    seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  } while (seconds < 0.001);
  return seconds / calls;
}

void Report(const Line& line) {
  Pool pool;
  std::vector<GemmDesc> plain;
  std::vector<Fp8GemmDesc> scaled;
  const bool dgrad = line.role == Role::kDgrad, wgrad = line.role == Role::kWgrad;
  const Tiling a_tiling = wgrad ? Tiling::kColumns128x1 : Tiling::kRows1x128;
  const Tiling b_tiling = wgrad ? Tiling::kColumns128x1 : Tiling::kBlocks128x128;
  for (int i = 0; i < line.count; ++i) {
    const Tensor c = pool.Take(DType::kF32, {line.m, line.n});
    const Form b_form = dgrad ? Form::kPlain : Form::kTransposed;
    GemmDesc bf16_desc{.a = {}, .b = {}, .c = c, .b_form = b_form};
    Fp8GemmDesc desc{.a = {}, .b = {}, .c = c, .b_form = b_form};
    desc.a = pool.TakeCodes({line.m, line.k}, a_tiling, 1, bf16_desc.a);
    desc.b = pool.TakeCodes(dgrad ? Shape{line.k, line.n} : Shape{line.n, line.k}, b_tiling, 2, bf16_desc.b);
    if (wgrad) {  // as BF16 tensors lie: [k, m] and [k, n]
      bf16_desc.a = Tensor(bf16_desc.a.data, DType::kBF16, {line.k, line.m});
      bf16_desc.b = Tensor(bf16_desc.b.data, DType::kBF16, {line.k, line.n});
      bf16_desc.a_form = Form::kTransposed;
      bf16_desc.b_form = Form::kPlain;
    }
    plain.push_back(bf16_desc);
    scaled.push_back(desc);
  }
  double bf16_best = 1e30, fp8_best = 1e30, chain_best = 1e30;
  for (int round = 0; round < 50; ++round) {
    bf16_best = std::min(bf16_best, Seconds([&] { GroupedGemm(OpContext{}, plain); }));
    fp8_best = std::min(fp8_best, Seconds([&] { GroupedFp8Gemm(OpContext{}, scaled); }));
  }
  for (Fp8GemmDesc& desc : scaled) desc.promote = false;
  for (int round = 0; round < 3; ++round) {
    chain_best = std::min(chain_best, Seconds([&] { GroupedFp8Gemm(OpContext{}, scaled); }));
  }
  const double flop = 2e-9 * static_cast<double>(line.m * line.n * line.k * line.count);
  std::printf("%-8s %6ld %6ld %6ld %3d | %8.1f %8.1f | %10.2f | %12.1f\n", kNames[static_cast<int>(line.role)], line.m, line.n,
              line.k, line.count, flop / bf16_best, flop / fp8_best, fp8_best / bf16_best, flop / chain_best);
  std::fflush(stdout);
}

}  // namespace
}  // namespace jevons

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : omp_get_max_threads();
  if (threads < 1) {
    std::fprintf(stderr, "usage: fp8_gemm_bench [threads]\n");
    return 2;
  }
  omp_set_num_threads(threads);
  std::printf("GFLOP/s, %d thread%s, BF16 products by %s\n", threads, threads == 1 ? "" : "s",
              jevons::GemmImplementation(jevons::DType::kBF16).c_str());
  std::printf("%-8s %6s %6s %6s %3s | %8s %8s | %10s | %12s\n", "", "m", "n", "k", "x", "BF16", "FP8", "time ratio",
              "not promoted");
  for (const jevons::Line& line : jevons::kLines) jevons::Report(line);
}
