// Communicator: a group of ranks and the calls they make together. Three transports implement it: MPI
// (processes), loopback (N ranks as threads of one process, for tests) and NCCL (GPUs). MPI and NCCL headers
// appear nowhere outside this folder.
//
// Every rank of the group makes the same calls in the same order. A transport failure, a rank that does not
// arrive within the watchdog's deadline or a mismatch of sizes ends the process group with exit code 5 and
// one line that names rank, call and step; so these calls return no status. Sums over ranks are offered for
// integers alone: those of floating point would depend on an order (parallel/zero/exchange.h).
//
// Calls that take a stream move data where the stream works: on Device::kCuda their buffers are device memory, the
// transfer begins after what the stream was given before, and the host waits for nothing. Only communicators over
// NCCL take such streams. Everything else, and the same calls without a stream, is of the host.
#ifndef JEVONS_PARALLEL_COMM_COMMUNICATOR_H_
#define JEVONS_PARALLEL_COMM_COMMUNICATOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "kernels/tensor/stream.h"

namespace jevons {

class CallLog;  // watchdog.h

// A transfer under way. Finish it with Communicator::Wait before touching its buffers.
struct CommRequest {
  int64_t id = -1;
};

// What a message is to its two ends: "2RF7" here, "1SF7" at the peer. At most 23 characters each; both or none.
struct MessageNames {
  std::string here, there;
};

// One all-to-all among those that travel together. Bytes [sum(send_bytes[0..r)), +send_bytes[r]) of `send` go to rank r; what rank r
// sent arrives at sum(recv_bytes[0..r)) of `recv`. Zero is a legal size.
struct Exchange {
  std::span<const std::byte> send;
  std::span<const int64_t> send_bytes;  // [size]
  std::span<std::byte> recv;
  std::span<const int64_t> recv_bytes;  // [size]
};

class Communicator {
 public:
  using ConstBytes = std::span<const std::byte>;
  using Bytes = std::span<std::byte>;
  using Sizes = std::span<const int64_t>;

  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const std::string& name() const = 0;  // the axis it serves: "world", "ep", ...; the watchdog prints it

  // The machine of a rank of the group: ranks of one share its memory and have one number.
  virtual int NodeOf(int rank) const = 0;

  virtual void Barrier() = 0;

  // Rank r's `send` arrives at recv[r * send.size()] everywhere; recv.size() == size() * send.size().
  virtual void AllGather(ConstBytes send, Bytes recv) = 0;

  // recv_bytes[r] bytes of rank r's `send` arrive at offset sum(recv_bytes[0..r)), everywhere: AllGather of
  // uneven parts. What `stream` is given afterwards finds them there.
  virtual void AllGatherV(const Stream& stream, ConstBytes send, Bytes recv, Sizes recv_bytes) = 0;
  void AllGatherV(ConstBytes send, Bytes recv, Sizes recv_bytes) { AllGatherV({}, send, recv, recv_bytes); }

  // All `exchanges` as one transfer, the same number of them on every rank. It returns at once where the transport can; Wait ends it.
  virtual CommRequest BeginAllToAllV(const Stream& stream, std::span<const Exchange> exchanges) = 0;
  CommRequest BeginAllToAllV(const Stream& stream, ConstBytes send, Sizes send_bytes, Bytes recv, Sizes recv_bytes) {
    const Exchange exchange{send, send_bytes, recv, recv_bytes};
    return BeginAllToAllV(stream, {&exchange, 1});
  }
  CommRequest BeginAllToAllV(ConstBytes send, Sizes send_bytes, Bytes recv, Sizes recv_bytes) {
    return BeginAllToAllV({}, send, send_bytes, recv, recv_bytes);
  }

  // One message to or from another rank of the group; nobody else takes part. The n-th message that a rank sends to
  // a peer is the n-th that the peer receives from it, and has the same size. On a device a rank's messages and other
  // transfers run one after the other: two ranks must not both send first.
  // Who waits for a named message in vain names it. On the host its sender's name and its size go ahead of it, and the
  // receiver compares: another name ends the job as another size does. On a device nobody compares.
  virtual CommRequest BeginSend(const Stream& stream, ConstBytes data, int peer, const MessageNames& names) = 0;
  virtual CommRequest BeginReceive(const Stream& stream, Bytes data, int peer, const MessageNames& names) = 0;
  CommRequest BeginSend(const Stream& stream, ConstBytes data, int peer) { return BeginSend(stream, data, peer, {}); }
  CommRequest BeginReceive(const Stream& stream, Bytes data, int peer) { return BeginReceive(stream, data, peer, {}); }

  // What `stream` is given from here on finds the transfer done. The stream's device is that of the Begin.
  virtual void Wait(const Stream& stream, CommRequest request) = 0;
  void Wait(CommRequest request) { Wait({}, request); }
  // Whether the transfer is done: Wait, which is still to be called, then waits for nothing. On the host it also moves
  // on all transfers of the group: messages come in while somebody asks.
  virtual bool Done(const Stream& stream, CommRequest request) = 0;

  // From here on transfers of the host move on while this rank computes, where the transport needs somebody to ask for them: a thread
  // does as long as some are under way. It costs a little of a core, so whoever has something to compute meanwhile calls this.
  virtual void MoveInBackground() {}

  void AllToAllV(const Stream& stream, ConstBytes send, Sizes send_bytes, Bytes recv, Sizes recv_bytes) {
    Wait(stream, BeginAllToAllV(stream, send, send_bytes, recv, recv_bytes));
  }
  void AllToAllV(ConstBytes send, Sizes send_bytes, Bytes recv, Sizes recv_bytes) {
    AllToAllV({}, send, send_bytes, recv, recv_bytes);
  }

  virtual void AllReduceSum(std::span<int64_t> values) = 0;  // integers: exact in any order
  virtual void AllReduceMax(std::span<int64_t> values) = 0;

  // recv[i] = the sum over ranks r of r's send[rank() * recv.size() + i]; send.size() == size() * recv.size(). Integers:
  // exact in any order. `recv` may be this rank's own part of `send`. What `stream` is given afterwards finds it there.
  virtual void ReduceScatterSum(const Stream& stream, std::span<const int64_t> send, std::span<int64_t> recv) = 0;
  void ReduceScatterSum(std::span<const int64_t> send, std::span<int64_t> recv) { ReduceScatterSum({}, send, recv); }

  virtual void Broadcast(const Stream& stream, Bytes data, int root) = 0;
  void Broadcast(Bytes data, int root) { Broadcast({}, data, root); }

  // The ranks of equal `color` become a group of their own, ordered by rank here. Collective.
  virtual std::unique_ptr<Communicator> Split(int color, const std::string& name) = 0;

  // The last calls of this rank, which all its communicators share.
  virtual const std::shared_ptr<CallLog>& call_log() const = 0;

 protected:
  Communicator() = default;
};

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_COMMUNICATOR_H_
