// The implementations of GroupedGemm and GroupedFp8Gemm behind the table "cpu", best first; the first without refusal and demerit
// serves. That of BF16 serves FP8 codes, which are exact in BF16.
//
//   amx  BF16, on AMX           k in steps of 32, evens and odds apart, denormals taken as zero (amx-inl.h)
//   dot  BF16, by vdpbf16ps     k = 1, 0, 3, 2, ..., denormals taken as zero (gemm_tile.h)
//   cpu  FP32 or BF16, by FMA   k = 0, 1, 2, ...
//   ref  anything               the same, one scalar at a time
//
// JEVONS_GEMM=amx|dot|cpu|ref in the environment forces one wherever it does not refuse, also under JEVONS_OPS=ref. Each keeps a
// row's bits whatever the number of rows and threads, so results may differ only between implementations.
#ifndef JEVONS_KERNELS_CPU_GEMM_IMPL_H_
#define JEVONS_KERNELS_CPU_GEMM_IMPL_H_

#include <span>
#include <string>

#include "absl/strings/string_view.h"
#include "kernels/ops/fp8_gemm.h"
#include "kernels/ops/gemm.h"

namespace jevons::cpu {

struct GemmImpl {
  const char* name;                              // as JEVONS_GEMM spells it
  std::string (*describe)(DType in);             // what GemmImplementation reports: "cpu AVX3"
  std::string (*refusal)(DType in);              // why it cannot serve operands of this type here; empty if it can
  std::string (*demerit)(DType in);              // why it is not chosen unless forced, though it could serve; empty if none
  void (*run)(std::span<const GemmDesc> descs);  // validated, all of one operand type
  void (*run_fp8)(std::span<const Fp8GemmDesc> descs);  // validated, k > 0, promoted
};

extern const GemmImpl kGemmAmx;  // gemm_amx.cc
extern const GemmImpl kGemmDot;  // gemm_fma.cc
extern const GemmImpl kGemmFma;  // gemm_fma.cc
extern const GemmImpl kGemmRef;  // gemm_impl.cc: the products of the table "ref", which serve anything

std::span<const GemmImpl* const> GemmImpls();

// The implementation that serves `in`.
const GemmImpl& ChosenGemmImpl(DType in);

// Whether the environment or a test has named one.
bool GemmImplIsForced();

// Makes `name` serve all products in this process, "" ends that. Returns false if there is no such
// implementation. Not thread-safe: for tests and benchmarks; JEVONS_GEMM does the same at start-up.
bool ForceGemmImpl(absl::string_view name);

}  // namespace jevons::cpu

#endif  // JEVONS_KERNELS_CPU_GEMM_IMPL_H_
