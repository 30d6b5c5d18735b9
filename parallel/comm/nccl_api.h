// What Jevons asks of NCCL, and nothing more: nccl_library.cc answers with the library of this machine, tests with a
// stand-in that fails on demand. Streams are cudaStream_t, data is device memory counted in bytes: FP8, BF16 and FP32
// travel alike, as nobody but our kernels adds them up. NCCL adds integers alone.
#ifndef JEVONS_PARALLEL_COMM_NCCL_API_H_
#define JEVONS_PARALLEL_COMM_NCCL_API_H_

#include <array>
#include <cstdint>
#include <string>

#include "kernels/base/status.h"

namespace jevons {

class NcclApi {
 public:
  using Comm = void*;                      // an ncclComm_t
  using UniqueId = std::array<char, 128>;  // an ncclUniqueId
  // An ncclResult_t; these two decide, the others are only explained.
  using Result = int;
  static constexpr Result kSuccess = 0, kInProgress = 7;

  virtual ~NcclApi() = default;

  virtual Result NewUniqueId(UniqueId* id) = 0;
  // Returns at once, with kInProgress as a rule; AsyncError tells when the communicator is ready. `name` is for NCCL's
  // log and lives as long as the communicator.
  virtual Result Init(Comm* comm, int ranks, const UniqueId& id, int rank, const char* name) = 0;
  virtual Result AsyncError(Comm comm, Result* state) = 0;
  virtual int DeviceOf(Comm comm) = 0;
  virtual Result Finalize(Comm comm) = 0;  // then Destroy, once AsyncError says kSuccess
  virtual Result Destroy(Comm comm) = 0;
  virtual Result Abort(Comm comm) = 0;

  // What is asked for between these two starts together, as one piece of work of the stream; GroupEnd may return
  // kInProgress, and then AsyncError tells when the stream has it.
  virtual Result GroupStart() = 0;
  virtual Result GroupEnd() = 0;
  virtual Result Send(const void* data, int64_t bytes, int peer, Comm comm, void* stream) = 0;
  virtual Result Receive(void* data, int64_t bytes, int peer, Comm comm, void* stream) = 0;
  virtual Result Broadcast(void* data, int64_t bytes, int root, Comm comm, void* stream) = 0;
  // recv[r * bytes] = rank r's send.
  virtual Result AllGather(const void* send, void* recv, int64_t bytes, Comm comm, void* stream) = 0;
  // recv[i] = the sum over all ranks' send[rank * count + i]. In place where recv is the rank's own part of send; else
  // the two do not overlap.
  virtual Result ReduceScatterSum(const int64_t* send, int64_t* recv, int64_t count, Comm comm, void* stream) = 0;

  // "unhandled cuda error; <the library's last words>"
  virtual std::string Explain(Result result, Comm comm) = 0;
};

// The library of this machine, loaded once. FailureError where this program was built without NCCL, or the library is
// missing or lacks a function.
absl::StatusOr<NcclApi*> NcclLibrary();

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_NCCL_API_H_
