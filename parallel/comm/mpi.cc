#include "parallel/comm/mpi.h"

#define OMPI_SKIP_MPICXX 1  // the C interface alone
#include <mpi.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "parallel/comm/message_communicator.h"

namespace jevons {
namespace {

int64_t g_max_message_bytes = int64_t{1} << 30;  // MPI counts in int; a longer message travels in pieces

std::string ErrorText(int code) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  return std::string(text, length);
}

// For calls that set up and take down; those of a step report through the watchdog.
void CheckMpi(int code, const char* what) {
  JEVONS_CHECK(code == MPI_SUCCESS, "%s: %s", what, ErrorText(code).c_str());
}

class MpiTransfer : public Transfer {
 public:
  struct Piece {
    int peer;      // world rank
    int expected;  // bytes of a receive; -1 for a send
  };

  explicit MpiTransfer(absl::Status status) : status_(std::move(status)) {}
  MpiTransfer(std::vector<MPI_Request> requests, std::vector<Piece> pieces)
      : requests_(std::move(requests)),
        pieces_(std::move(pieces)),
        open_(requests_.size()),
        indices_(requests_.size()),
        statuses_(requests_.size()) {}

  absl::StatusOr<bool> Poll() override {
    if (!status_.ok()) return status_;
    if (open_ == 0) return true;
    int completed = 0;
    const int code = MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &completed, indices_.data(),
                                  statuses_.data());
    if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) return PeerLostError(ErrorText(code));
    for (int i = 0; i < completed; ++i) {
      const int error = code == MPI_SUCCESS ? MPI_SUCCESS : statuses_[i].MPI_ERROR;
      JEVONS_RETURN_IF_ERROR(Check(pieces_[indices_[i]], statuses_[i], error));
    }
    open_ -= completed;
    return open_ == 0;
  }

  std::vector<int> MissingPeers() const override {
    std::vector<int> missing;
    for (size_t i = 0; i < requests_.size(); ++i) {
      if (requests_[i] != MPI_REQUEST_NULL) missing.push_back(pieces_[i].peer);
    }
    return missing;
  }

 private:
  static absl::Status Check(const Piece& piece, const MPI_Status& status, int error) {
    int kind = MPI_SUCCESS;
    if (error != MPI_SUCCESS) MPI_Error_class(error, &kind);
    if (kind == MPI_ERR_TRUNCATE) {
      return PeerLostError(
          absl::StrFormat("rank %d sent more than the %d bytes that this rank expects from it", piece.peer, piece.expected));
    }
    if (kind != MPI_SUCCESS) return PeerLostError(absl::StrFormat("rank %d: %s", piece.peer, ErrorText(error)));
    if (piece.expected < 0) return absl::OkStatus();
    int received = 0;
    MPI_Get_count(&status, MPI_BYTE, &received);
    if (received == piece.expected) return absl::OkStatus();
    return PeerLostError(absl::StrFormat("rank %d sent %d bytes, this rank expects %d from it", piece.peer, received,
                                         piece.expected));
  }

  absl::Status status_;  // of the start
  std::vector<MPI_Request> requests_;
  std::vector<Piece> pieces_;
  size_t open_ = 0;
  std::vector<int> indices_;
  std::vector<MPI_Status> statuses_;
};

class MpiTransport : public Transport {
 public:
  // Takes over `comm`.
  MpiTransport(MPI_Comm comm, std::vector<int> world_ranks) : comm_(comm), world_ranks_(std::move(world_ranks)) {
    CheckMpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    CheckMpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    int* bound = nullptr;
    int found = 0;
    CheckMpi(MPI_Comm_get_attr(comm_, MPI_TAG_UB, &bound, &found), "MPI_Comm_get_attr");
    tags_ = found ? int64_t{*bound} + 1 : 32768;
  }

  ~MpiTransport() override {
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (!finalized) MPI_Comm_free(&comm_);
  }

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(world_ranks_.size()); }
  int WorldRank(int rank) const override { return world_ranks_[rank]; }

  std::unique_ptr<Transfer> Start(std::span<const Outgoing> sends, std::span<const Incoming> receives,
                                  int64_t tag) override {
    std::vector<MPI_Request> requests;
    std::vector<MpiTransfer::Piece> pieces;
    const int mpi_tag = static_cast<int>(tag % tags_);
    for (const Incoming& message : receives) {  // first, so that what arrives finds its buffer
      for (size_t at = 0; at < message.data.size(); at += g_max_message_bytes) {
        const int count = PieceBytes(message.data.size() - at);
        pieces.push_back({WorldRank(message.peer), count});
        const int code = MPI_Irecv(message.data.data() + at, count, MPI_BYTE, message.peer, mpi_tag, comm_,
                                   &requests.emplace_back());
        if (code != MPI_SUCCESS) return Failed("MPI_Irecv", pieces.back(), code);
      }
    }
    for (const Outgoing& message : sends) {
      for (size_t at = 0; at < message.data.size(); at += g_max_message_bytes) {
        pieces.push_back({WorldRank(message.peer), -1});
        const int code = MPI_Isend(message.data.data() + at, PieceBytes(message.data.size() - at), MPI_BYTE, message.peer,
                                   mpi_tag, comm_, &requests.emplace_back());
        if (code != MPI_SUCCESS) return Failed("MPI_Isend", pieces.back(), code);
      }
    }
    return std::make_unique<MpiTransfer>(std::move(requests), std::move(pieces));
  }

  std::unique_ptr<Transport> MakeGroup(std::span<const int> members) override {
    MPI_Comm made;
    CheckMpi(MPI_Comm_split(comm_, members[0], rank_, &made), "MPI_Comm_split");
    std::vector<int> world_ranks;
    for (const int member : members) world_ranks.push_back(WorldRank(member));
    return std::make_unique<MpiTransport>(made, std::move(world_ranks));
  }

 private:
  static int PieceBytes(size_t left) {
    return static_cast<int>(std::min<int64_t>(g_max_message_bytes, static_cast<int64_t>(left)));
  }
  static std::unique_ptr<Transfer> Failed(const char* what, const MpiTransfer::Piece& piece, int code) {
    return std::make_unique<MpiTransfer>(
        PeerLostError(absl::StrFormat("%s with rank %d: %s", what, piece.peer, ErrorText(code))));
  }

  MPI_Comm comm_;
  std::vector<int> world_ranks_;
  int rank_ = 0;
  int64_t tags_ = 0;
};

// Tasks that a launcher says it started; 0 where none speaks. mpirun's own word goes first: it may run inside Slurm.
struct Launcher {
  std::string variable;
  int tasks = 0;
};
Launcher LauncherOf() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}) {
    const char* value = std::getenv(variable);
    int tasks = 0;
    if (value != nullptr && absl::SimpleAtoi(value, &tasks)) return {variable, tasks};
  }
  return {};
}

absl::Status RefuseSilentSingleton(int world_size) {
  const Launcher launcher = LauncherOf();
  if (world_size > 1 || launcher.tasks <= 1) return absl::OkStatus();
  const bool slurm = launcher.variable.rfind("SLURM", 0) == 0;
  return UsageError(absl::StrFormat(
      "%s = %d, but MPI sees a single process: the launcher and this Open MPI do not speak the same protocol. Start with `%s`, or "
      "set %s=1 for one process.",
      launcher.variable, launcher.tasks,
      slurm ? absl::StrFormat("srun --mpi=pmix -n %d ...` or `mpirun -np %d ...", launcher.tasks, launcher.tasks)
            : absl::StrFormat("mpirun -np %d ...", launcher.tasks),
      launcher.variable));
}

}  // namespace

namespace internal {
void SetMaxMessageBytes(int64_t bytes) { g_max_message_bytes = bytes; }
}  // namespace internal

absl::StatusOr<std::unique_ptr<MpiSession>> MpiSession::Start(int* argc, char*** argv) {
  int initialized = 0;
  MPI_Initialized(&initialized);
  JEVONS_CHECK(!initialized, "MPI is started once per process");
  // Without a launcher Open MPI would start a daemon to serve MPI_Comm_spawn, which we never call.
  setenv("OMPI_MCA_ess_singleton_isolated", "1", /*overwrite=*/0);
  int level = MPI_THREAD_SINGLE;
  // MULTIPLE, because Abort may come from any thread.
  CheckMpi(MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &level), "MPI_Init_thread");
  int size = 0, rank = 0;
  CheckMpi(MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size");
  CheckMpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank");
  absl::Status status = RefuseSilentSingleton(size);
  if (level < MPI_THREAD_MULTIPLE) {
    status = FailureError("this MPI library was built without MPI_THREAD_MULTIPLE; install Debian's libopenmpi-dev");
  }
  if (!status.ok()) {
    MPI_Finalize();
    return status;
  }
  MPI_Comm comm;
  CheckMpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
  std::vector<int> world_ranks;
  for (int r = 0; r < size; ++r) world_ranks.push_back(r);
  auto log = std::make_shared<CallLog>(rank, size, [](int exit_code) { Abort(exit_code); });
  return std::unique_ptr<MpiSession>(new MpiSession(std::make_unique<MessageCommunicator>(
      std::make_unique<MpiTransport>(comm, std::move(world_ranks)), std::move(log), "world")));
}

MpiSession::MpiSession(std::unique_ptr<Communicator> world) : world_(std::move(world)) {}

MpiSession::~MpiSession() {
  world_->Barrier();  // under the watchdog, which MPI_Finalize is not
  world_.reset();
  MPI_Finalize();
}

void MpiSession::Abort(int exit_code) {
  int initialized = 0, finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (initialized && !finalized) MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

}  // namespace jevons

// Open MPI 4.1 keeps memory until the process ends; LeakSanitizer, where built in, should report only ours.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libmpi\nleak:libopen-pal\nleak:libopen-rte\nleak:libpmix\nleak:mca_\nleak:libhwloc\nleak:libevent\n";
}
