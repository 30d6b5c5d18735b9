// The formats against the conversions of CUDA's headers, which run on the host.
#include <cuda_fp8.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/fp8/formats.h"
#include "tests/kernels/fp8/sweep.h"

namespace jevons {
namespace {

float ToolkitDecode(uint8_t code, __nv_fp8_interpretation_t format) {
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(code, format)));
}

template <class F>
void CompareWithToolkit(__nv_fp8_interpretation_t format) {
  for (uint32_t code = 0; code < 256; ++code) {
    const float ours = Decode<F>(static_cast<uint8_t>(code)), theirs = ToolkitDecode(static_cast<uint8_t>(code), format);
    if (std::isnan(theirs)) {
      EXPECT_TRUE(std::isnan(ours)) << code;
    } else {
      EXPECT_EQ(std::bit_cast<uint32_t>(ours), std::bit_cast<uint32_t>(theirs)) << code;
    }
  }
  uint64_t wrong = 0;
  ForFloats(
      [&](uint32_t bits) { wrong += Encode<F>(FloatOf(bits)) != __nv_cvt_float_to_fp8(FloatOf(bits), __NV_SATFINITE, format); });
  EXPECT_EQ(wrong, 0u);
}

TEST(Toolkit, E4M3) { CompareWithToolkit<E4M3>(__NV_E4M3); }
TEST(Toolkit, E5M2) { CompareWithToolkit<E5M2>(__NV_E5M2); }

TEST(Toolkit, UE8M0) {
  for (uint32_t code = 0; code < 255; ++code) {
    const uint32_t theirs = uint32_t{__nv_cvt_e8m0_to_bf16raw(static_cast<uint8_t>(code)).x} << 16;
    EXPECT_EQ(std::bit_cast<uint32_t>(DecodeUE8M0(static_cast<uint8_t>(code))), theirs) << code;
  }
  uint64_t wrong = 0;
  ForFloats([&](uint32_t bits) {
    wrong += EncodeUE8M0(FloatOf(bits)) != __nv_cvt_float_to_e8m0(FloatOf(bits), __NV_SATFINITE, cudaRoundPosInf);
  });
  EXPECT_EQ(wrong, 0u);
}

}  // namespace
}  // namespace jevons
