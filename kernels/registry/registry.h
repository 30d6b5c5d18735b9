// The tables of the CPU, best first, and which of them serves. The scalar reference comes last and runs everywhere. JEVONS_OPS=NAME in
// the environment forces one; its products too, unless JEVONS_GEMM names theirs (kernels/cpu/gemm_impl.h). Streams of CUDA have one
// table. Those of kNone have one for each backend that is counted: its operators take of ctx.scratch what that backend's take, and
// compute nothing.
#ifndef JEVONS_KERNELS_REGISTRY_REGISTRY_H_
#define JEVONS_KERNELS_REGISTRY_REGISTRY_H_

#include <span>

#include "kernels/ops/op_table.h"

namespace jevons {

std::span<const OpTable* const> OpTables();  // best first, "ref" last

// Makes `table` serve the CPU's streams in this process. Not thread-safe: for tests and benchmarks.
void SelectOps(const OpTable& table);

}  // namespace jevons

#endif  // JEVONS_KERNELS_REGISTRY_REGISTRY_H_
