// Communicator: a group of ranks and the calls they make together. Three transports implement it: MPI
// (processes), loopback (N ranks as threads of one process, for tests) and NCCL (GPUs). MPI and NCCL headers
// appear nowhere outside this folder.
//
// Every rank of the group makes the same calls in the same order. A transport failure, a rank that does not
// arrive within the watchdog's deadline or a mismatch of sizes ends the process group with exit code 5 and
// one line that names rank, call and step; so these calls return no status. Sums over ranks are not offered
// for floating point: their order would depend on the layout. Exchange bytes and sum over the fixed tree
// instead (parallel/zero/sum_tree.h).
#ifndef JEVONS_PARALLEL_COMM_COMMUNICATOR_H_
#define JEVONS_PARALLEL_COMM_COMMUNICATOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace jevons {

// A transfer under way. Finish it with Communicator::Wait before touching its buffers.
struct CommRequest {
  int64_t id = -1;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const std::string& name()
      const = 0;  // the axis it serves: "world", "ep", ...; the watchdog prints it

  virtual void Barrier() = 0;

  // Rank r's `send` arrives at recv[r * send.size()] everywhere; recv.size() == size() * send.size().
  virtual void AllGather(std::span<const std::byte> send, std::span<std::byte> recv) = 0;

  // recv_bytes[r] bytes of rank r's `send` arrive at offset sum(recv_bytes[0..r)), everywhere: AllGather of
  // uneven parts.
  virtual void AllGatherV(std::span<const std::byte> send, std::span<std::byte> recv,
                          std::span<const int64_t> recv_bytes) = 0;

  // Bytes [sum(send_bytes[0..r)), +send_bytes[r]) go to rank r; what rank r sent arrives at
  // sum(recv_bytes[0..r)). Zero is a legal size. BeginAllToAllV returns at once where the transport can; Wait
  // ends it.
  virtual CommRequest BeginAllToAllV(std::span<const std::byte> send, std::span<const int64_t> send_bytes,
                                     std::span<std::byte> recv, std::span<const int64_t> recv_bytes) = 0;
  virtual void Wait(CommRequest request) = 0;
  void AllToAllV(std::span<const std::byte> send, std::span<const int64_t> send_bytes,
                 std::span<std::byte> recv, std::span<const int64_t> recv_bytes) {
    Wait(BeginAllToAllV(send, send_bytes, recv, recv_bytes));
  }

  virtual void AllReduceSum(std::span<int64_t> values) = 0;  // integers: exact in any order
  virtual void AllReduceMax(std::span<int64_t> values) = 0;
  virtual void Broadcast(std::span<std::byte> data, int root) = 0;

  // The ranks of equal `color` become a group of their own, ordered by rank here. Collective.
  virtual std::unique_ptr<Communicator> Split(int color, const std::string& name) = 0;

 protected:
  Communicator() = default;
};

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_COMMUNICATOR_H_
