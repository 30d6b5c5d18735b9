#include "parallel/comm/nccl.h"

#include <cstdlib>
#include <string>

#include "parallel/comm/nccl_communicator.h"

namespace jevons {

absl::StatusOr<std::unique_ptr<Communicator>> MakeNcclCommunicator(Communicator& host) {
  const absl::StatusOr<NcclApi*> nccl = NcclLibrary();
  JEVONS_RETURN_IF_ERROR(nccl.status());
  const char* shared = std::getenv("JEVONS_SHARED_GPU");
  const NcclOptions options{.shared_gpu = shared != nullptr && std::string(shared) == "1"};
  return std::make_unique<NcclCommunicator>(**nccl, host.Split(0, host.name()), options);
}

}  // namespace jevons
