// The scalar definition as an implementation: slow, and able to serve anything.
#include "kernels/cpu/gemm_impl.h"
#include "kernels/ref/gemm.h"

namespace jevons::cpu {
namespace {

template <typename In, typename Out>
void RunProduct(const GemmDesc& d) {
  ref::Gemm<float, In, Out>(d.m(), d.n(), d.k(), {d.a.as<In>(), d.a.pitch, d.a_form},
                            {d.b.as<In>(), d.b.pitch, d.b_form}, d.mode, d.c.as<Out>(), d.c.pitch);
}

void Run(std::span<const GemmDesc> descs) {
  for (const GemmDesc& desc : descs) {
    const bool in_f32 = desc.a.dtype == DType::kF32, out_f32 = desc.c.dtype == DType::kF32;
    const auto run = in_f32 ? (out_f32 ? RunProduct<float, float> : RunProduct<float, bf16>)
                            : (out_f32 ? RunProduct<bf16, float> : RunProduct<bf16, bf16>);
    run(desc);
  }
}

}  // namespace

const GemmImpl kGemmRef = {
    .name = "ref",
    .describe = [](DType) { return std::string("ref"); },
    .refusal = [](DType) { return std::string(); },
    .demerit = [](DType) { return std::string(); },
    .run = Run,
};

}  // namespace jevons::cpu
