// Products of BF16 and FP32 on CUDA.
#include <gmock/gmock.h>

#include "tests/kernels/cuda/product_test.h"

namespace jevons {
namespace {

struct GemmCase {
  int64_t m, n, k;
  Form a_form = Form::kPlain, b_form = Form::kTransposed;
  WriteMode mode = WriteMode::kOverwrite;
  DType in = DType::kBF16, out = DType::kF32;
};

using CudaGemm = CudaProductTest;
INSTANTIATE_TEST_SUITE_P(By, CudaGemm, testing::Values(cuda::GemmImpl::kCublasLt, cuda::GemmImpl::kPlain), NameOfImpl);

GemmDesc DescOf(DeviceCase& c, const GemmCase& t, DeviceCase::Matrix& out, uint64_t seed) {
  const bool a_plain = t.a_form == Form::kPlain, b_plain = t.b_form == Form::kPlain;
  auto& a = c.Make(t.in, a_plain ? t.m : t.k, a_plain ? t.k : t.m).Fill(seed);
  auto& b = c.Make(t.in, b_plain ? t.k : t.n, b_plain ? t.n : t.k).Fill(seed + 1);
  if (t.mode == WriteMode::kAdd) out.Fill(seed + 2);
  return {a.tensor(), b.tensor(), out.tensor(), t.a_form, t.b_form, t.mode};
}

void Compare(cuda::GemmImpl impl, const GemmCase& t) {
  SCOPED_TRACE(testing::Message() << t.m << " x " << t.n << " x " << t.k);
  CompareWithReference(
      [&](DeviceCase& c) {
        auto& out = c.Make(t.out, t.m, t.n);
        Gemm(c.ctx(), DescOf(c, t, out, 1));
        c.Show("c", out);
      },
      impl == cuda::GemmImpl::kPlain ? Bound{} : BoundOf(t.out, 4e-6));
}

constexpr int64_t kSizes[][3] = {{0, 3, 5},   {3, 0, 5},    {4, 5, 0},      {1, 1, 1},     {7, 9, 5},
                                 {16, 24, 8}, {64, 64, 16}, {65, 130, 100}, {127, 33, 129}};
constexpr Form kForms[] = {Form::kPlain, Form::kTransposed};

TEST_P(CudaGemm, OfEveryFormTypeAndMode) {
  for (const DType in : kRealTypes)
    for (const DType out : kRealTypes)
      for (const Form a : kForms)
        for (const Form b : kForms)
          for (const WriteMode mode : kWriteModes) Compare(impl(), {20, 24, 40, a, b, mode, in, out});
}

TEST_P(CudaGemm, OfEverySize) {
  for (const auto& [m, n, k] : kSizes)
    for (const WriteMode mode : kWriteModes)
      Compare(impl(), {m, n, k, Form::kTransposed, Form::kPlain, mode, DType::kBF16, DType::kF32});
}

// Where rows begin at multiples of 16 bytes nobody serves in its place, the router's FP32 gradient to BF16 included.
TEST_P(CudaGemm, ServesWhatIsAligned) {
  int64_t products = 0;
  for (const DType in : kRealTypes)
    for (const DType out : kRealTypes)
      for (const Form a : kForms)
        for (const Form b : kForms)
          for (const WriteMode mode : kWriteModes) {
            DeviceCase c(Device::kCuda, Addresses::kAligned);
            auto& to = c.Make(out, 32, 48);
            Gemm(c.ctx(), DescOf(c, {32, 48, 64, a, b, mode, in, out}, to, 1));
            ++products;
          }
  ExpectServed(products);
}

TEST_F(CudaTest, GroupedGemm) {
  const Beginning beginning(cuda::GemmImpl::kCublasLt);
  CompareWithReference(
      [&](DeviceCase& c) {
        std::vector<GemmDesc> descs;
        std::vector<DeviceCase::Matrix*> outs;
        for (const int64_t m : {0, 1, 127, 128, 129}) {
          outs.push_back(&c.Make(DType::kBF16, m, 48));
          descs.push_back(DescOf(c, {.m = m, .n = 48, .k = 32}, *outs.back(), 7 + static_cast<uint64_t>(m)));
        }
        GroupedGemm(c.ctx(), descs);
        for (DeviceCase::Matrix* out : outs) c.Show("c", *out);
      },
      BoundOf(DType::kBF16));
}

// The element of an infinite or NaN operand is seen, and no other.
TEST_P(CudaGemm, ShowsNan) {
  DeviceCase c(Device::kCuda, Addresses::kAligned);
  auto &a = c.Make(DType::kBF16, 16, 32).Fill(1), &b = c.Make(DType::kBF16, 24, 32).Fill(2), &out = c.Make(DType::kF32, 16, 24);
  a.Set(5, 7, std::nan(""));
  Gemm(c.ctx(), {.a = a.tensor(), .b = b.tensor(), .c = out.tensor(), .b_form = Form::kTransposed});
  out.Fetch();
  for (int64_t i = 0; i < 16; ++i)
    for (int64_t j = 0; j < 24; ++j) ASSERT_EQ(std::isnan(out.Get(i, j)), i == 5);
}

TEST_F(CudaTest, GemmSaysWhoServes) {
  for (const auto& [impl, name] : {std::pair{cuda::GemmImpl::kCublasLt, "cublaslt "},
                                   {cuda::GemmImpl::kPlain, "plain"},
                                   {cuda::GemmImpl::kWgmma, "wgmma for FP8, cublaslt "}}) {
    const Beginning beginning(impl);
    EXPECT_THAT(GemmImplementation(DType::kBF16, Device::kCuda), testing::StartsWith(name));
  }
}

}  // namespace
}  // namespace jevons
