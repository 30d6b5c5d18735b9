// Activations on their way through the products, and from forward to backward.
#ifndef JEVONS_TRAINER_MODEL_ACTIVATION_H_
#define JEVONS_TRAINER_MODEL_ACTIVATION_H_

#include "kernels/ops/fp8_gemm.h"
#include "trainer/model/context.h"

namespace jevons {

// What backward reads of an activation of forward: itself, or its codes by 1x128 (report 3.3.3), which take a half or, in
// E5M6, three quarters of BF16. Forward works on `value`; backward on what the codes give back.
struct CacheFormat {
  NumberFormat format;
  ScaleKind scales;
};
// Inputs of SwiGLU: E4M3; its output is computed again.
inline constexpr CacheFormat kSwiGluCache{NumberFormat::kE4M3, ScaleKind::kFp32};
// Attention's output, which its backward pass and the next Linear's weight gradient read.
inline constexpr CacheFormat kAttentionCache{NumberFormat::kE5M6, ScaleKind::kPowerOfTwo};

class CachedActivation {
 public:
  CachedActivation() = default;
  // A place [T,C] for forward to compute in. compress: on scratch, to be kept by Keep; else saved as it is, in `saved`, one of
  // ctx.memory's. The codes are read by BackwardInput alone.
  CachedActivation(const LayerContext& ctx, Arena& saved, const char* name, const Shape& shape, bool compress);
  const Tensor& value() const { return value_; }
  // After forward has computed it and before its scratch is given back.
  void Keep(const LayerContext& ctx, const char* name, const CacheFormat& format);
  // For backward: the value itself, or a copy on ctx.ops.scratch of what was kept.
  Tensor Restore(const LayerContext& ctx, const char* name) const;

  const Tensor& codes() const { return codes_; }  // empty: not compressed

 private:
  Tensor value_, codes_, scales_;
  NumberFormat format_ = NumberFormat::kE4M3;
  bool compress_ = false;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_ACTIVATION_H_
