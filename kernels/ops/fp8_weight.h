// A weight as FP8 products take it for as long as its values stay: coded once, read by many products.
//
// Forward reads the codes of W[N,K] along K, dgrad along N. Where a device's products read codes along their sum alone, W^T is
// kept too, so that no product has to turn it: blocks of 128x128 turn exactly, so the bits are the same.
#ifndef JEVONS_KERNELS_OPS_FP8_WEIGHT_H_
#define JEVONS_KERNELS_OPS_FP8_WEIGHT_H_

#include <span>

#include "kernels/ops/fp8_gemm.h"

namespace jevons {

struct Fp8Weight {
  Fp8Operand plain;   // W [N,K], in blocks of 128x128
  Fp8Operand turned;  // W^T [K,N], likewise; empty where products read a plain b
};

// Whether products of this backend read a b of Form::kPlain where it lies. Those that do not turn it at each call.
constexpr bool ReadsPlainB(Device backend) { return backend == Device::kCpu; }

// Libraries of tensor cores read codes in lines that begin at multiples of so many bytes: those of W^T do.
inline constexpr int64_t kCodeAlignment = 16;

// A weight [n, k] on the arena, for products of this backend; its codes are undefined. And the bytes that it takes there.
Fp8Weight AllocateFp8Weight(Arena& arena, Device backend, int64_t n, int64_t k);
int64_t Fp8WeightBytes(Device backend, int64_t n, int64_t k);

// Codes of values [N,K], FP32 or BF16. stats as QuantizeDesc's: each element is counted once. A device is given hundreds of weights
// in one launch.
struct QuantizeWeightDesc {
  Tensor value;
  Fp8Weight weight;
};
void QuantizeWeights(const OpContext& ctx, std::span<const QuantizeWeightDesc> descs, QuantStats* stats);

// On the CPU, to = from^T: codes and scales are moved, none is changed. Both in blocks of 128x128; from: [R, C], to: [C, R].
void TransposeBlocks(const Fp8Operand& from, const Fp8Operand& to);

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_FP8_WEIGHT_H_
