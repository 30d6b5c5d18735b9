#include "parallel/comm/mpi.h"

#define OMPI_SKIP_MPICXX 1  // the C interface alone
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "parallel/comm/heartbeat.h"
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
void CheckMpi(int code, const char* what) { JEVONS_CHECK(code == MPI_SUCCESS, "%s: %s", what, ErrorText(code).c_str()); }

int PieceBytes(size_t left) { return static_cast<int>(std::min<int64_t>(g_max_message_bytes, static_cast<int64_t>(left))); }

// A message is looked at before it is received: Open MPI 4.1 writes past the end of a posted buffer when a
// longer message comes through shared memory (process_vm_readv of the sender's size), so sizes must agree
// before a byte moves.
class MpiTransfer : public Transfer {
 public:
  MpiTransfer(MPI_Comm comm, int tag) : comm_(comm), tag_(tag) {}

  void Send(int peer, int world_rank, std::span<const std::byte> data) {
    while (!data.empty() && status_.ok()) {
      const int count = PieceBytes(data.size());
      Note(world_rank, MPI_Isend(data.data(), count, MPI_BYTE, peer, tag_, comm_, NewRequest(world_rank)));
      data = data.subspan(count);
    }
  }
  void Receive(int peer, int world_rank, std::span<std::byte> data) { inflows_.push_back({peer, world_rank, data}); }

  absl::StatusOr<bool> Poll() override {
    std::set<int> incomplete;  // peers: what comes next from one belongs to its first inflow that is not complete
    for (Inflow& inflow : inflows_) {
      if (inflow.rest.empty() || incomplete.contains(inflow.peer)) continue;
      TakeArrived(inflow);
      if (!inflow.rest.empty()) incomplete.insert(inflow.peer);
    }
    const bool all_arrived = incomplete.empty();
    if (status_.ok() && open_ > 0) Progress();
    if (!status_.ok()) return status_;
    return all_arrived && open_ == 0;
  }

  std::vector<int> MissingPeers() const override {
    std::vector<int> missing;
    for (const Inflow& inflow : inflows_) {
      if (!inflow.rest.empty()) missing.push_back(inflow.world_rank);
    }
    for (size_t i = 0; i < requests_.size(); ++i) {
      if (requests_[i] != MPI_REQUEST_NULL) missing.push_back(world_ranks_[i]);
    }
    return missing;
  }

 private:
  struct Inflow {
    int peer, world_rank;
    std::span<std::byte> rest;  // for which no message has come yet
  };

  // Receives the pieces that have come, in order.
  void TakeArrived(Inflow& inflow) {
    while (!inflow.rest.empty() && status_.ok()) {
      int found = 0, count = 0;
      MPI_Message message;
      MPI_Status seen;
      Note(inflow.world_rank, MPI_Improbe(inflow.peer, tag_, comm_, &found, &message, &seen));
      if (!status_.ok() || !found) return;
      MPI_Get_count(&seen, MPI_BYTE, &count);
      const int expected = PieceBytes(inflow.rest.size());
      if (count != expected) {
        status_ = PeerLostError(
            absl::StrFormat("rank %d sent %d bytes, this rank expects %d from it", inflow.world_rank, count, expected));
        return;
      }
      Note(inflow.world_rank, MPI_Imrecv(inflow.rest.data(), count, MPI_BYTE, &message, NewRequest(inflow.world_rank)));
      inflow.rest = inflow.rest.subspan(count);
    }
  }

  void Progress() {
    int completed = 0;
    indices_.resize(requests_.size());
    statuses_.resize(requests_.size());
    const int code =
        MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &completed, indices_.data(), statuses_.data());
    if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) return Note(-1, code);
    for (int i = 0; i < completed && code == MPI_ERR_IN_STATUS; ++i) {
      Note(world_ranks_[indices_[i]], statuses_[i].MPI_ERROR);
    }
    open_ -= completed;
  }

  MPI_Request* NewRequest(int world_rank) {
    ++open_;
    world_ranks_.push_back(world_rank);
    return &requests_.emplace_back(MPI_REQUEST_NULL);
  }

  void Note(int world_rank, int code) {
    if (code != MPI_SUCCESS) status_ = PeerLostError(absl::StrFormat("rank %d: %s", world_rank, ErrorText(code)));
  }

  const MPI_Comm comm_;
  const int tag_;
  absl::Status status_;  // the first failure
  std::vector<Inflow> inflows_;
  std::vector<MPI_Request> requests_;
  std::vector<int> world_ranks_;  // of the requests' peers
  int open_ = 0;                  // requests not completed
  std::vector<int> indices_;
  std::vector<MPI_Status> statuses_;
};

class MpiTransport : public Transport {
 public:
  // Takes over `comm`. nodes: the machine of each rank of the world.
  MpiTransport(MPI_Comm comm, std::vector<int> world_ranks, std::shared_ptr<const std::vector<int>> nodes)
      : comm_(comm), world_ranks_(std::move(world_ranks)), nodes_(std::move(nodes)) {
    CheckMpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    CheckMpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    int* bound = nullptr;
    int found = 0;
    CheckMpi(MPI_Comm_get_attr(comm_, MPI_TAG_UB, &bound, &found), "MPI_Comm_get_attr");
    tags_ = (found ? int64_t{*bound} + 1 : 32768) / 2 * 2;  // even: a tag keeps its parity when it wraps around
  }

  ~MpiTransport() override {
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (!finalized) MPI_Comm_free(&comm_);
  }

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(world_ranks_.size()); }
  int WorldRank(int rank) const override { return world_ranks_[rank]; }
  int NodeOf(int rank) const override { return (*nodes_)[WorldRank(rank)]; }

  std::unique_ptr<Transfer> Start(std::span<const Outgoing> sends, std::span<const Incoming> receives, int64_t tag) override {
    auto transfer = std::make_unique<MpiTransfer>(comm_, static_cast<int>(tag % tags_));
    for (const Outgoing& message : sends) transfer->Send(message.peer, WorldRank(message.peer), message.data);
    for (const Incoming& message : receives) transfer->Receive(message.peer, WorldRank(message.peer), message.data);
    return transfer;
  }

  std::unique_ptr<Transport> MakeGroup(std::span<const int> members) override {
    MPI_Comm made;
    CheckMpi(MPI_Comm_split(comm_, members[0], rank_, &made), "MPI_Comm_split");
    std::vector<int> world_ranks;
    for (const int member : members) world_ranks.push_back(WorldRank(member));
    return std::make_unique<MpiTransport>(made, std::move(world_ranks), nodes_);
  }

 private:
  MPI_Comm comm_;
  std::vector<int> world_ranks_;
  std::shared_ptr<const std::vector<int>> nodes_;
  int rank_ = 0;
  int64_t tags_ = 0;
};

// Tasks that a launcher says it started; 0 where none speaks. mpirun's own word goes first: it may run inside
// Slurm.
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
  return UsageError(
      absl::StrFormat("%s = %d, but MPI sees a single process: the launcher and this Open MPI do not speak "
                      "the same protocol. Start with `%s`, or "
                      "set %s=1 for one process.",
                      launcher.variable, launcher.tasks,
                      slurm ? absl::StrFormat("srun --mpi=pmix -n %d ...` or `mpirun -np %d ...", launcher.tasks, launcher.tasks)
                            : absl::StrFormat("mpirun -np %d ...", launcher.tasks),
                      launcher.variable));
}

}  // namespace

std::string MpiLibraryVersion() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  CheckMpi(MPI_Get_library_version(text, &length), "MPI_Get_library_version");
  const std::string version(text, static_cast<size_t>(length));
  return version.substr(0, version.find(','));  // "Open MPI v4.1.4, package: ..., ident: ..."
}

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
  MPI_Comm world, machine;
  CheckMpi(MPI_Comm_dup(MPI_COMM_WORLD, &world), "MPI_Comm_dup");
  CheckMpi(MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &machine), "MPI_Comm_split_type");
  int first_here = rank;  // a machine is known by its first rank
  CheckMpi(MPI_Bcast(&first_here, 1, MPI_INT, 0, machine), "MPI_Bcast");
  const auto nodes = std::make_shared<std::vector<int>>(static_cast<size_t>(size));
  CheckMpi(MPI_Allgather(&first_here, 1, MPI_INT, nodes->data(), 1, MPI_INT, world), "MPI_Allgather");
  // Of ranks that wait in a chain the deadlines pass one soon after the other, and the launcher ends all once one has ended: the one that
  // waited for the culprit is to have said so by then.
  auto log = std::make_shared<CallLog>(rank, size, [](int exit_code) {
    std::this_thread::sleep_for(std::chrono::seconds(1));
    Abort(exit_code);
  });
  const auto group = [&](MPI_Comm comm, const char* name) {
    int members = 0;
    CheckMpi(MPI_Comm_size(comm, &members), "MPI_Comm_size");
    std::vector<int> world_ranks(static_cast<size_t>(members));
    CheckMpi(MPI_Allgather(&rank, 1, MPI_INT, world_ranks.data(), 1, MPI_INT, comm), "MPI_Allgather");
    return std::make_unique<MessageCommunicator>(std::make_unique<MpiTransport>(comm, std::move(world_ranks), nodes), log, name);
  };
  return std::unique_ptr<MpiSession>(new MpiSession(group(world, "world"), group(machine, "machine")));
}

MpiSession::MpiSession(std::unique_ptr<Communicator> world, std::unique_ptr<Communicator> machine)
    : world_(std::move(world)), machine_(std::move(machine)) {}

MpiSession::~MpiSession() {
  world_->Barrier();  // under the watchdog, which MPI_Finalize is not
  machine_.reset();
  world_.reset();
  MPI_Finalize();
}

void MpiSession::Abort(int exit_code) {
  HeartbeatExit(exit_code);
  int initialized = 0, finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (initialized && !finalized) MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

}  // namespace jevons

// Open MPI 4.1 keeps memory until the process ends, in plugins that MPI_Finalize unloads, so that
// LeakSanitizer cannot even name them. A program that links MPI goes without it; what runs over loopback is
// still checked.
extern "C" int __lsan_is_turned_off() { return 1; }
