// What stands in for NCCL in a build without it.
#include "parallel/comm/nccl.h"
#include "parallel/comm/nccl_api.h"

namespace jevons {
namespace {

constexpr char kProblem[] =
    "this program was built without NCCL; install the CUDA toolkit and NCCL 2, and build again, or use the "
    "CPU";

}  // namespace

absl::StatusOr<NcclApi*> NcclLibrary() { return FailureError(kProblem); }

NcclReport ExamineNccl() {
  NcclReport report;
  report.problem = kProblem;
  return report;
}

}  // namespace jevons
