// Products by their definitions: slow, and able to serve anything.
#include "kernels/ref/gemm.h"

#include "kernels/ref/fp8_gemm.h"
#include "kernels/ref/ref_ops.h"

namespace jevons::ref {
namespace {

template <typename In, typename Out>
void RunProduct(const GemmDesc& d) {
  Gemm<float, In, Out>(d.m(), d.n(), d.k(), {d.a.as<In>(), d.a.pitch, d.a_form}, {d.b.as<In>(), d.b.pitch, d.b_form}, d.mode,
                       d.c.as<Out>(), d.c.pitch);
}

}  // namespace

void GroupedGemm(const OpContext&, std::span<const GemmDesc> descs) {
  for (const GemmDesc& desc : descs) {
    const bool in_f32 = desc.a.dtype == DType::kF32, out_f32 = desc.c.dtype == DType::kF32;
    const auto run = in_f32 ? (out_f32 ? RunProduct<float, float> : RunProduct<float, bf16>)
                            : (out_f32 ? RunProduct<bf16, float> : RunProduct<bf16, bf16>);
    run(desc);
  }
}

void GroupedFp8Gemm(const OpContext&, std::span<const Fp8GemmDesc> descs) {
  for (const Fp8GemmDesc& desc : descs) (desc.c.dtype == DType::kF32 ? Fp8Gemm<float, float> : Fp8Gemm<float, bf16>)(desc);
}

}  // namespace jevons::ref
