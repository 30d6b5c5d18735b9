#include "launch/version.h"

#include "absl/strings/str_cat.h"
#include "kernels/ops/gemm.h"
#include "launch/revision.h"

namespace jevons {

std::string VersionText() {
  const std::string revision = JEVONS_REVISION;
  return absl::StrCat("jevons ", JEVONS_VERSION, revision.empty() ? "" : " (" + revision + ")", "\ncompiler ", JEVONS_COMPILER,
                      "\nbackends ", JEVONS_BACKENDS);
}

std::string FullVersionText() {
  return absl::StrCat(VersionText(), "\nproducts ", GemmImplementation(DType::kF32), " (FP32), ",
                      GemmImplementation(DType::kBF16), " (BF16)\nmpi ", JEVONS_MPI, "\ncuda ", JEVONS_CUDA_VERSION);
}

}  // namespace jevons
