#include "parallel/comm/nccl.h"

#include "kernels/base/environment.h"
#include "parallel/comm/nccl_communicator.h"

namespace jevons {

absl::StatusOr<std::unique_ptr<Communicator>> MakeNcclCommunicator(Communicator& host) {
  const absl::StatusOr<NcclApi*> nccl = NcclLibrary();
  JEVONS_RETURN_IF_ERROR(nccl.status());
  const NcclOptions options{.shared_gpu = EnvironmentSwitch("JEVONS_SHARED_GPU")};
  return std::make_unique<NcclCommunicator>(**nccl, host.Split(0, host.name()), options);
}

}  // namespace jevons
