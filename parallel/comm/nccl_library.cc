// NCCL itself: compiled against its header, found when it is first asked for, so that a program built with it runs
// where it is missing.
#include <dlfcn.h>
#include <nccl.h>

#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "parallel/comm/nccl.h"
#include "parallel/comm/nccl_api.h"
#include "parallel/comm/nccl_communicator.h"

namespace jevons {
namespace {

static_assert(NcclApi::kSuccess == ncclSuccess && NcclApi::kInProgress == ncclInProgress);
static_assert(sizeof(NcclApi::UniqueId) == sizeof(ncclUniqueId));

struct Functions {
  decltype(&ncclGetVersion) get_version;
  decltype(&ncclGetUniqueId) get_unique_id;
  decltype(&ncclCommInitRankConfig) init;
  decltype(&ncclCommGetAsyncError) async_error;
  decltype(&ncclCommCuDevice) device;
  decltype(&ncclCommFinalize) finalize;
  decltype(&ncclCommDestroy) destroy;
  decltype(&ncclCommAbort) abort;
  decltype(&ncclGroupStart) group_start;
  decltype(&ncclGroupEnd) group_end;
  decltype(&ncclSend) send;
  decltype(&ncclRecv) recv;
  decltype(&ncclBroadcast) broadcast;
  decltype(&ncclAllGather) all_gather;
  decltype(&ncclReduceScatter) reduce_scatter;
  decltype(&ncclGetErrorString) error_string;
  decltype(&ncclGetLastError) last_error;
};

std::string VersionText(int code) {  // 22809 is 2.28.9
  return absl::StrFormat("%d.%d.%d", code / 10000, code / 100 % 100, code % 100);
}

class Library : public NcclApi {
 public:
  explicit Library(const Functions& nccl) : nccl_(nccl) {}

  Result NewUniqueId(UniqueId* id) override {
    ncclUniqueId made = {};
    const Result result = nccl_.get_unique_id(&made);
    std::memcpy(id->data(), made.internal, id->size());
    return result;
  }
  Result Init(Comm* comm, int ranks, const UniqueId& id, int rank, const char* name) override {
    ncclUniqueId given = {};
    std::memcpy(given.internal, id.data(), id.size());
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.commName = name;
    ncclComm_t made = nullptr;
    const Result result = nccl_.init(&made, ranks, given, rank, &config);
    *comm = made;
    return result;
  }
  Result AsyncError(Comm comm, Result* state) override {
    ncclResult_t found = ncclSuccess;
    const Result result = nccl_.async_error(Of(comm), &found);
    *state = found;
    return result;
  }
  int DeviceOf(Comm comm) override {
    int device = 0;
    nccl_.device(Of(comm), &device);
    return device;
  }
  Result Finalize(Comm comm) override { return nccl_.finalize(Of(comm)); }
  Result Destroy(Comm comm) override { return nccl_.destroy(Of(comm)); }
  Result Abort(Comm comm) override { return nccl_.abort(Of(comm)); }
  Result GroupStart() override { return nccl_.group_start(); }
  Result GroupEnd() override { return nccl_.group_end(); }

  Result Send(const void* data, int64_t bytes, int peer, Comm comm, void* stream) override {
    return nccl_.send(data, static_cast<size_t>(bytes), ncclUint8, peer, Of(comm), StreamOf(stream));
  }
  Result Receive(void* data, int64_t bytes, int peer, Comm comm, void* stream) override {
    return nccl_.recv(data, static_cast<size_t>(bytes), ncclUint8, peer, Of(comm), StreamOf(stream));
  }
  Result Broadcast(void* data, int64_t bytes, int root, Comm comm, void* stream) override {
    return nccl_.broadcast(data, data, static_cast<size_t>(bytes), ncclUint8, root, Of(comm), StreamOf(stream));
  }
  Result AllGather(const void* send, void* recv, int64_t bytes, Comm comm, void* stream) override {
    return nccl_.all_gather(send, recv, static_cast<size_t>(bytes), ncclUint8, Of(comm), StreamOf(stream));
  }
  Result ReduceScatterSum(const int64_t* send, int64_t* recv, int64_t count, Comm comm, void* stream) override {
    return nccl_.reduce_scatter(send, recv, static_cast<size_t>(count), ncclInt64, ncclSum, Of(comm), StreamOf(stream));
  }

  std::string Explain(Result result, Comm comm) override {
    std::string text = nccl_.error_string(static_cast<ncclResult_t>(result));
    const char* last = nccl_.last_error(Of(comm));
    if (last != nullptr && *last != '\0') absl::StrAppend(&text, "; ", last);
    return text;
  }

  std::string Version() const {
    int code = 0;
    nccl_.get_version(&code);
    return VersionText(code);
  }

 private:
  static ncclComm_t Of(Comm comm) { return static_cast<ncclComm_t>(comm); }
  static cudaStream_t StreamOf(void* stream) { return static_cast<cudaStream_t>(stream); }
  const Functions nccl_;
};

template <typename Function>
bool LookUp(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

// The name of the first function that is missing, or null.
const char* LookUpAll(void* library, Functions& f) {
  if (!LookUp(library, "ncclGetVersion", f.get_version)) return "ncclGetVersion";
  if (!LookUp(library, "ncclGetUniqueId", f.get_unique_id)) return "ncclGetUniqueId";
  if (!LookUp(library, "ncclCommInitRankConfig", f.init)) return "ncclCommInitRankConfig";
  if (!LookUp(library, "ncclCommGetAsyncError", f.async_error)) return "ncclCommGetAsyncError";
  if (!LookUp(library, "ncclCommCuDevice", f.device)) return "ncclCommCuDevice";
  if (!LookUp(library, "ncclCommFinalize", f.finalize)) return "ncclCommFinalize";
  if (!LookUp(library, "ncclCommDestroy", f.destroy)) return "ncclCommDestroy";
  if (!LookUp(library, "ncclCommAbort", f.abort)) return "ncclCommAbort";
  if (!LookUp(library, "ncclGroupStart", f.group_start)) return "ncclGroupStart";
  if (!LookUp(library, "ncclGroupEnd", f.group_end)) return "ncclGroupEnd";
  if (!LookUp(library, "ncclSend", f.send)) return "ncclSend";
  if (!LookUp(library, "ncclRecv", f.recv)) return "ncclRecv";
  if (!LookUp(library, "ncclBroadcast", f.broadcast)) return "ncclBroadcast";
  if (!LookUp(library, "ncclAllGather", f.all_gather)) return "ncclAllGather";
  if (!LookUp(library, "ncclReduceScatter", f.reduce_scatter)) return "ncclReduceScatter";
  if (!LookUp(library, "ncclGetErrorString", f.error_string)) return "ncclGetErrorString";
  if (!LookUp(library, "ncclGetLastError", f.last_error)) return "ncclGetLastError";
  return nullptr;
}

absl::StatusOr<Library*> Load() {
  // What the machine has goes before what this program was built with.
  void* library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) library = dlopen(JEVONS_NCCL_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    return FailureError("no libnccl.so.2 (nor " JEVONS_NCCL_LIBRARY "); install NCCL 2, or add its folder to LD_LIBRARY_PATH");
  Functions functions = {};
  if (const char* missing = LookUpAll(library, functions))
    return FailureError(
        absl::StrFormat("libnccl.so.2 lacks %s; install NCCL %s or later", missing, VersionText(NCCL_VERSION_CODE)));
  return new Library(functions);  // as long as the process: communicators use it until the end
}

absl::StatusOr<Library*>& TheLibrary() {
  static absl::StatusOr<Library*> library = Load();
  return library;
}

}  // namespace

absl::StatusOr<NcclApi*> NcclLibrary() {
  JEVONS_RETURN_IF_ERROR(TheLibrary().status());
  return *TheLibrary();
}

NcclReport ExamineNccl() {
  NcclReport report;
  report.built = true;
  report.compiled = VersionText(NCCL_VERSION_CODE);
  if (TheLibrary().ok()) {
    report.loaded = (*TheLibrary())->Version();
  } else {
    report.problem = std::string(TheLibrary().status().message());
  }
  return report;
}

}  // namespace jevons
