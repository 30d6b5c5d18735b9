// Cuts the products of a call into rectangles and gives these to the threads as one list of tasks. The cut
// follows the number of threads, which no bit of the result may depend on: see gemm_tile.h.
#ifndef JEVONS_KERNELS_CPU_GEMM_PLAN_H_
#define JEVONS_KERNELS_CPU_GEMM_PLAN_H_

#include <span>

#include "absl/functional/function_ref.h"
#include "kernels/cpu/gemm_tile.h"

namespace jevons::cpu {

// Runs run_tile over all of the products, which have operands of one type. Uses the OpenMP team, or the
// calling thread alone if it is already inside a parallel region or the work is too little.
void RunTiles(std::span<const GemmDesc> descs, absl::FunctionRef<void(const GemmTile&, const GemmScratch&)> run_tile);

}  // namespace jevons::cpu

#endif  // JEVONS_KERNELS_CPU_GEMM_PLAN_H_
