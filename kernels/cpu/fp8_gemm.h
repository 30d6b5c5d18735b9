// Products of scaled FP8 codes on the CPU (kernels/ops/fp8_gemm.h), cut into rectangles as Gemm cuts its own.
//
//   tiles   codes are decoded where operands are packed; a micro-kernel sums each block of 128 terms in
//           registers, scales it there and adds it to C's sums. The orders of terms are those of gemm_tile.h
//   amx     the same on tiles; the order of terms is theirs (amx-inl.h)
//   chains  what is not promoted: the model of the tensor core (fp8/tensor_core.h), one element a lane
#ifndef JEVONS_KERNELS_CPU_FP8_GEMM_H_
#define JEVONS_KERNELS_CPU_FP8_GEMM_H_

#include <span>

#include "kernels/cpu/gemm_tile.h"
#include "kernels/ops/fp8_gemm.h"

namespace jevons::cpu {

// Validated products with k > 0. They need what kGemmFma or kGemmDot, kGemmAmx resp. kGemmFma need.
void RunFp8Tiles(std::span<const Fp8GemmDesc> descs, TermOrder order);  // fp8_gemm_tile.cc
void RunFp8Amx(std::span<const Fp8GemmDesc> descs);                     // fp8_gemm_amx.cc
void RunFp8Chains(std::span<const Fp8GemmDesc> descs);                  // fp8_gemm_chain.cc

// A call's products: as RunTiles sees them, with codes for operands, and their scales.
struct Fp8Products {
  std::span<const GemmDesc> codes;
  std::span<const Fp8GemmDesc> descs;
  const Fp8GemmDesc& Of(const GemmDesc& product) const { return descs[&product - codes.data()]; }
};

// Runs run_tile(products, tile, scratch) over all of C.
using Fp8TileFunction = void (*)(const Fp8Products& products, const GemmTile& tile, const GemmScratch& scratch);
void RunFp8Products(std::span<const Fp8GemmDesc> descs, Fp8TileFunction run_tile);  // fp8_gemm_tile.cc

}  // namespace jevons::cpu

#endif  // JEVONS_KERNELS_CPU_FP8_GEMM_H_
