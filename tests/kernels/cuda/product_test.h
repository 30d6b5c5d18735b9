// Tests of products on CUDA by one implementation: its list begins there, and the CPU computes by the definition.
#ifndef JEVONS_TESTS_KERNELS_CUDA_PRODUCT_TEST_H_
#define JEVONS_TESTS_KERNELS_CUDA_PRODUCT_TEST_H_

#include "kernels/cpu/gemm_impl.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/report.h"
#include "tests/kernels/cuda/cuda_test.h"

namespace jevons {

class Beginning {
 public:
  explicit Beginning(cuda::GemmImpl impl) : before_(cuda::BeginOfGemmList()) {
    cuda::BeginGemmListAt(impl);
    cpu::ForceGemmImpl("ref");
  }
  ~Beginning() {
    cuda::BeginGemmListAt(before_);
    cpu::ForceGemmImpl("");
  }

 private:
  cuda::GemmImpl before_;
};

class CudaProductTest : public CudaTest, public testing::WithParamInterface<cuda::GemmImpl> {
 protected:
  cuda::GemmImpl impl() const { return GetParam(); }
  // That since the test began the implementation has served `products`, and nobody in its place.
  void ExpectServed(int64_t products) const {
    const cuda::Served now = cuda::ServedSoFar();
    const int64_t by[] = {now.wgmma - before_.wgmma, now.cublaslt - before_.cublaslt, now.plain - before_.plain};
    EXPECT_EQ(now.fallbacks, before_.fallbacks);
    EXPECT_EQ(by[static_cast<int>(impl())], products);
    EXPECT_EQ(by[0] + by[1] + by[2], products);
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    std::printf("served %s: %lld by wgmma, %lld by cublaslt, %lld by plain\n", test->name(), static_cast<long long>(by[0]),
                static_cast<long long>(by[1]), static_cast<long long>(by[2]));
  }

 private:
  Beginning beginning_{GetParam()};
  cuda::Served before_ = cuda::ServedSoFar();
};

inline std::string NameOfImpl(const testing::TestParamInfo<cuda::GemmImpl>& info) {
  constexpr const char* kNames[] = {"wgmma", "cublaslt", "plain"};
  return kNames[static_cast<int>(info.param)];
}

}  // namespace jevons

#endif  // JEVONS_TESTS_KERNELS_CUDA_PRODUCT_TEST_H_
