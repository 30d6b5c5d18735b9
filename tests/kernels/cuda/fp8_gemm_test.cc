// Products of FP8 codes on CUDA: the three of the recipe and what else the interface allows, by each implementation.
#include <algorithm>

#include "kernels/cuda/gemm_lt.h"
#include "kernels/cuda/gemm_wgmma_plan.h"
#include "kernels/fp8/tensor_core.h"
#include "kernels/ops/fp8_weight.h"
#include "tests/kernels/cuda/product_test.h"

namespace jevons {
namespace {

using cuda::GemmImpl;

enum class Role { kForward, kDgrad, kWgrad };
constexpr Role kRoles[] = {Role::kForward, Role::kDgrad, Role::kWgrad};

struct Fp8Case {
  int64_t m, n, k;
  Role role = Role::kForward;
  WriteMode mode = WriteMode::kOverwrite;
  DType out = DType::kF32;
  bool promote = true;
};

using CudaFp8Gemm = CudaProductTest;
INSTANTIATE_TEST_SUITE_P(By, CudaFp8Gemm, testing::Values(GemmImpl::kCublasLt, GemmImpl::kPlain, GemmImpl::kWgmma), NameOfImpl);

// Codes of both signs up to 15, as an activation's tile has them but for a few, and zeros.
DeviceCase::Matrix& MakeCodes(DeviceCase& c, int64_t rows, int64_t cols, uint64_t seed) {
  auto& codes = c.Make(DType::kU8, rows, cols);
  for (int64_t i = 0; i < rows * cols; ++i) {
    const uint64_t bits = RandomBits(seed, 0, static_cast<uint64_t>(i));
    codes.Set(i / cols, i % cols, static_cast<double>((bits >> 40 & 0x80) | (bits >> 50) % 0x58));
  }
  return codes;
}
DeviceCase::Matrix& MakeScales(DeviceCase& c, const Shape& shape, uint64_t seed) {
  auto& scales = c.Make(DType::kF32, shape[0], shape[1]);
  for (int64_t i = 0; i < shape.size(); ++i)
    scales.Set(i / shape[1], i % shape[1], 0.25 + RandomUniform(seed, 3, static_cast<uint64_t>(i)));
  return scales;
}

Fp8Operand MakeOperand(DeviceCase& c, int64_t lines, int64_t k, Tiling tiling, uint64_t seed) {
  const bool turned = tiling == Tiling::kColumns128x1;
  return {MakeCodes(c, lines, k, seed).tensor(),
          MakeScales(c, turned ? ScalesShape(k, lines, tiling) : ScalesShape(lines, k, tiling), seed + 1).tensor(), tiling};
}

Fp8GemmDesc DescOf(DeviceCase& c, const Fp8Case& t, DeviceCase::Matrix& out, uint64_t seed) {
  const bool wgrad = t.role == Role::kWgrad, dgrad = t.role == Role::kDgrad;
  if (t.mode == WriteMode::kAdd) out.Fill(seed + 5);
  return {
      .a = MakeOperand(c, t.m, t.k, wgrad ? Tiling::kColumns128x1 : Tiling::kRows1x128, seed),
      .b = MakeOperand(c, dgrad ? t.k : t.n, dgrad ? t.n : t.k, wgrad ? Tiling::kColumns128x1 : Tiling::kBlocks128x128, seed + 2),
      .c = out.tensor(),
      .b_form = dgrad ? Form::kPlain : Form::kTransposed,
      .mode = t.mode,
      .promote = t.promote};
}

// Tensor cores cut terms 2^-13 below the largest of 32 (kernels/fp8/tensor_core.h).
Bound BoundFor(GemmImpl impl, DType out) { return impl == GemmImpl::kPlain ? Bound{} : BoundOf(out, 1e-3); }

void Compare(GemmImpl impl, const Fp8Case& t) {
  SCOPED_TRACE(testing::Message() << t.m << " x " << t.n << " x " << t.k << ", product " << static_cast<int>(t.role)
                                  << ", implementation " << static_cast<int>(impl));
  CompareWithReference(
      [&](DeviceCase& c) {
        auto& out = c.Make(t.out, t.m, t.n);
        Fp8Gemm(c.ctx(), DescOf(c, t, out, 1));
        c.Show("c", out);
      },
      BoundFor(impl, t.out));
}

TEST_P(CudaFp8Gemm, BySize) {
  constexpr int64_t kSizes[][3] = {{0, 8, 8}, {8, 0, 8}, {5, 8, 0}, {1, 1, 1}, {3, 5, 17}, {127, 40, 129}, {140, 72, 260}};
  for (const auto& [m, n, k] : kSizes)
    for (const Role role : kRoles) Compare(impl(), {m, n, k, role});
}

TEST_P(CudaFp8Gemm, ByModeAndType) {
  for (const Role role : kRoles)
    for (const WriteMode mode : kWriteModes)
      for (const DType out : kRealTypes) {
        Compare(impl(), {34, 56, 160, role, mode, out});
        if (impl() == GemmImpl::kWgmma) Compare(impl(), {5, 50, 20, role, mode, out});
      }
}

// Nobody serves in its place where rows begin at multiples of 16 bytes, whatever the number of tokens.
TEST_P(CudaFp8Gemm, ServesWhatIsAligned) {
  int64_t products = 0;
  for (const Role role : kRoles)
    for (const int64_t tokens : {16, 64, 77})
      for (const WriteMode mode : kWriteModes) {
        const bool wgrad = role == Role::kWgrad;
        const Fp8Case t = {wgrad ? 48 : tokens, 64, wgrad ? tokens : 144, role, mode, wgrad ? DType::kF32 : DType::kBF16};
        DeviceCase c(Device::kCuda, Addresses::kAligned);
        auto& out = c.Make(t.out, t.m, t.n);
        Fp8Gemm(c.ctx(), DescOf(c, t, out, 1));
        ++products;
      }
  ExpectServed(products);
}

TEST_F(CudaTest, Fp8GemmWithoutPromotionHasTheBitsOfTheModel) {
  for (const Role role : kRoles) {
    const Fp8Case t = {9, 17, 300, role, WriteMode::kAdd, DType::kBF16, false};
    const Beginning beginning(GemmImpl::kCublasLt);
    CompareWithReference(
        [&](DeviceCase& c) {
          auto& out = c.Make(t.out, t.m, t.n);
          Fp8Gemm(c.ctx(), DescOf(c, t, out, 1));
          c.Show("c", out);
        },
        {});
  }
}

// A weight that was turned when it was made gives dgrad the bits of one that is turned at each call, and takes no room then: beside
// the library's workspace, all that is left to arrange are the scales of dy.
TEST_P(CudaFp8Gemm, TakesAWeightTurnedOnce) {
  for (const auto& [n, k] : {std::pair{512, 144}, {176, 48}, {130, 20}}) {
    SCOPED_TRACE(testing::Message() << n << " x " << k << ", implementation " << static_cast<int>(impl()));
    BeforeCudaRepeat(n);
    constexpr int64_t kRows = 16;
    DeviceCase c(Device::kCuda, Addresses::kAligned);
    const OpContext ctx = c.ctx();
    auto& value = c.Make(DType::kBF16, n, k).Fill(1);
    value.Set(n - 1, k - 1, 100);
    const Fp8Operand dy = MakeOperand(c, kRows, n, Tiling::kRows1x128, 2);
    auto &plain = c.MakeContiguous(DType::kF32, kRows, k), &turned = c.MakeContiguous(DType::kF32, kRows, k);
    const int64_t before = ctx.scratch->used_bytes();
    const Fp8Weight weight = AllocateFp8Weight(*ctx.scratch, Device::kCuda, n, k);
    EXPECT_EQ(ctx.scratch->used_bytes() - before, Fp8WeightBytes(Device::kCuda, n, k));
    QuantizeWeights(ctx, {{{value.tensor(), weight}}}, nullptr);
    Fp8Gemm(ctx, {.a = dy, .b = weight.plain, .c = plain.tensor(), .b_form = Form::kPlain});
    ctx.scratch->ResetPeak();
    Fp8Gemm(ctx, {.a = dy, .b = weight.turned, .c = turned.tensor(), .b_form = Form::kTransposed});
    if (n == 512) {
      EXPECT_LE(ctx.scratch->peak_bytes() - ctx.scratch->used_bytes(),
                Arena::SliceBytes(DType::kF32, {TilesOf(n), kRows}) +
                    Arena::SliceBytes(DType::kU8, {cuda::kLtWorkspaceBytes + cuda::kLtWorkspaceAlignment}));
    }
    c.Show("plain", plain);
    c.Show("turned", turned);
    EXPECT_TRUE(SameValues(c.outputs()[0].values, c.outputs()[1].values));
  }
}

// Every pair of tilings that quantisation makes.
TEST_P(CudaFp8Gemm, TakesEveryTiling) {
  for (const Tiling a : {Tiling::kRows1x128, Tiling::kBlocks128x128, Tiling::kColumns128x1})
    for (const Tiling b : {Tiling::kRows1x128, Tiling::kBlocks128x128, Tiling::kColumns128x1})
      CompareWithReference(
          [&](DeviceCase& c) {
            auto& out = c.Make(DType::kF32, 129, 24);
            Fp8Gemm(c.ctx(), {.a = MakeOperand(c, 129, 140, a, 1), .b = MakeOperand(c, 24, 140, b, 3), .c = out.tensor()});
            c.Show("c", out);
          },
          BoundFor(impl(), DType::kF32));
}

TEST_P(CudaFp8Gemm, OfGroups) {
  for (const Role role : kRoles) {
    CompareWithReference(
        [&](DeviceCase& c) {
          std::vector<Fp8GemmDesc> descs;
          std::vector<DeviceCase::Matrix*> outs;
          for (const int64_t tokens : {0, 1, 127, 128, 129}) {
            const Fp8Case t =
                role == Role::kWgrad ? Fp8Case{48, 32, tokens, role, WriteMode::kAdd} : Fp8Case{tokens, 48, 144, role};
            outs.push_back(&c.Make(t.out, t.m, t.n));
            descs.push_back(DescOf(c, t, *outs.back(), 10 * static_cast<uint64_t>(tokens) + 1));
            if (outs.size() == 4 && role == Role::kDgrad) descs.back().b = descs[2].b;  // two segments of one expert
          }
          GroupedFp8Gemm(c.ctx(), descs);
          for (DeviceCase::Matrix* out : outs) c.Show("c", *out);
        },
        BoundFor(impl(), DType::kF32));
  }
}

// Tiles that are dealt to whoever comes first are added once each: of one product, and of several with sums of one stage.
TEST_F(CudaTest, WgmmaComputesEveryTileOnce) {
  const Beginning beginning(GemmImpl::kWgmma);
  CompareWithReference(
      [&](DeviceCase& c) {
        std::vector<Fp8GemmDesc> descs;
        std::vector<DeviceCase::Matrix*> outs;
        for (const auto& [m, n, k] : {std::array{300, 520, 20}, {1, 1, 1}, {10, 2100, 17}, {40, 600, 140}}) {
          outs.push_back(&c.Make(DType::kF32, m, n));
          descs.push_back(DescOf(c, {m, n, k, Role::kForward, WriteMode::kAdd}, *outs.back(), static_cast<uint64_t>(m)));
        }
        GroupedFp8Gemm(c.ctx(), {{descs[0]}});
        GroupedFp8Gemm(c.ctx(), std::span(descs).subspan(1));
        for (DeviceCase::Matrix* out : outs) c.Show("c", *out);
      },
      BoundFor(GemmImpl::kWgmma, DType::kF32));
}

// More than fit a launch.
TEST_F(CudaTest, WgmmaTakesMoreProductsThanALaunch) {
  const Beginning beginning(GemmImpl::kWgmma);
  CompareWithReference(
      [&](DeviceCase& c) {
        std::vector<Fp8GemmDesc> descs;
        std::vector<DeviceCase::Matrix*> outs;
        for (int i = 0; i < 70; ++i) {
          outs.push_back(&c.Make(DType::kF32, 1 + i % 3, 8));
          descs.push_back(DescOf(c, {1 + i % 3, 8, 16 + 16 * (i % 2)}, *outs.back(), 20 * static_cast<uint64_t>(i)));
        }
        GroupedFp8Gemm(c.ctx(), descs);
        for (DeviceCase::Matrix* out : outs) c.Show("c", *out);
      },
      BoundFor(GemmImpl::kWgmma, DType::kF32));
}

// What this program's own kernel computes, bit by bit, if tensor cores are as their model has them.
TEST_F(CudaTest, TheWgmmaKernelHasTheBitsOfTheModel) {
  const Beginning beginning(GemmImpl::kWgmma);
  for (const Role role : kRoles) {
    BeforeCudaRepeat(static_cast<int>(role));
    DeviceCase c(Device::kCuda, Addresses::kAligned), host(Device::kCpu, Addresses::kAligned);
    const Fp8Case t = {140, 264, 1040, role};  // several times round the ring of stages
    auto &out = c.Make(t.out, t.m, t.n), &unused = host.Make(t.out, t.m, t.n);
    const Fp8GemmDesc desc = DescOf(c, t, out, 1), same = DescOf(host, t, unused, 1);
    ASSERT_TRUE(cuda::WgmmaServes(desc));
    Fp8Gemm(c.ctx(), desc);
    out.Fetch();
    const ScaleView sa = same.a_scales(), sb = same.b_scales();
    int others = 0;
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < t.m; i += 7) {
      for (int64_t j = 0; j < t.n; j += 11) {
        float sum = 0;
        for (int64_t block = 0; block < TilesOf(t.k); ++block) {
          const int64_t begin = block * kTileSize, n = std::min(kTileSize, t.k - begin);
          uint8_t column[kTileSize];
          for (int64_t l = 0; l < n; ++l)
            column[l] = role == Role::kDgrad ? same.b.codes.row<uint8_t>(begin + l)[j] : same.b.codes.row<uint8_t>(j)[begin + l];
          const float product = TensorCoreDot<E4M3, E4M3>(same.a.codes.row<uint8_t>(i) + begin, column, n, kNoPromotion);
          sum = std::fma(product, sa(i, block) * sb(j, block), sum);
        }
        const double got = out.Get(i, j), want = double{sum};
        others += got != want;
        worst = std::max(worst, std::abs(got - want));
        largest = std::max(largest, std::abs(want));
      }
    }
    std::printf("deviation TheWgmmaKernelHasTheBitsOfTheModel, product %d: %d elements have other bits, by %.3g of the largest\n",
                static_cast<int>(role), others, worst / largest);
    EXPECT_EQ(others, 0);
  }
}

// At each width of tile, tiles cut by the ends of C and by blocks of columns that share a scale, in all modes and types.
TEST_F(CudaTest, WgmmaAtEveryWidth) {
  constexpr int64_t kSizes[][3] = {{5, 51, 20}, {70, 333, 140}};
  for (const int width : cuda::kWgmmaWidths)
    for (const auto& [m, odd_n, k] : kSizes)
      for (const Role role : kRoles)
        for (const WriteMode mode : kWriteModes)
          for (const DType out : kRealTypes) {
            const int64_t n = role == Role::kWgrad ? odd_n / 4 * 4 : odd_n;  // of scales by lines
            SCOPED_TRACE(testing::Message() << m << " x " << n << " x " << k << ", width " << width << ", product "
                                            << static_cast<int>(role));
            CompareWithReference(
                [&, m = m, k = k](DeviceCase& c) {
                  auto& to = c.Make(out, m, n);
                  const Fp8GemmDesc desc = DescOf(c, {m, n, k, role, mode, out}, to, 1);
                  if (c.ctx().stream.device == Device::kCpu) {
                    Fp8Gemm(c.ctx(), desc);
                  } else if (cuda::WgmmaServes(desc)) {
                    cuda::WgmmaFp8Gemms(c.ctx(), {&desc, 1}, width);
                  } else {
                    ADD_FAILURE() << "not served";
                  }
                  c.Show("c", to);
                },
                BoundFor(GemmImpl::kWgmma, out), {Addresses::kAligned});
          }
}

// A row's bits depend on neither the number of rows nor the other products of the launch.
TEST_F(CudaTest, TheWgmmaKernelComputesRowsAlone) {
  const Beginning beginning(GemmImpl::kWgmma);
  DeviceCase c(Device::kCuda, Addresses::kAligned);
  auto &all = c.Make(DType::kBF16, 150, 136), &some = c.Make(DType::kBF16, 40, 136);
  Fp8GemmDesc whole = DescOf(c, {150, 136, 256, Role::kForward, WriteMode::kOverwrite, DType::kBF16}, all, 1);
  Fp8GemmDesc part = whole;
  part.a.codes = whole.a.codes.Rows(97, 40);
  part.a.scales = whole.a.scales.Rows(97, 40);
  part.c = some.tensor();
  GroupedFp8Gemm(c.ctx(), {{part, whole}});
  all.Fetch();
  some.Fetch();
  for (int64_t i = 0; i < 40; ++i)
    for (int64_t j = 0; j < 136; ++j) ASSERT_EQ(some.Get(i, j), all.Get(97 + i, j));
  // Nor on the width of tiles.
  for (const int width : cuda::kWgmmaWidths) {
    auto& other = c.Make(DType::kBF16, 150, 136);
    whole.c = other.tensor();
    cuda::WgmmaFp8Gemms(c.ctx(), {&whole, 1}, width);
    other.Fetch();
    for (int64_t i = 0; i < 150; ++i)
      for (int64_t j = 0; j < 136; ++j) ASSERT_EQ(other.Get(i, j), all.Get(i, j)) << width;
  }
}

TEST_P(CudaFp8Gemm, KeepsNanInItsRowAndColumn) {
  DeviceCase c(Device::kCuda, Addresses::kAligned);
  auto &a = MakeCodes(c, 21, 144, 1), &b = MakeCodes(c, 40, 144, 2), &out = c.Make(DType::kF32, 21, 40);
  a.Set(7, 140, 0xFF);
  b.Set(33, 3, 0x7F);
  Fp8Gemm(c.ctx(), {.a = {a.tensor(), MakeScales(c, {21, 2}, 3).tensor(), Tiling::kRows1x128},
                    .b = {b.tensor(), MakeScales(c, {1, 2}, 4).tensor(), Tiling::kBlocks128x128},
                    .c = out.tensor()});
  out.Fetch();
  for (int64_t i = 0; i < 21; ++i)
    for (int64_t j = 0; j < 40; ++j) ASSERT_EQ(std::isnan(out.Get(i, j)), i == 7 || j == 33) << i << ", " << j;
}

}  // namespace
}  // namespace jevons
