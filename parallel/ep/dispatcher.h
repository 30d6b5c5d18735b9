// Dispatcher: tokens to the ranks of their experts, as rows by expert, and the experts' results back, summed. Expert e of E lives on the
// ep rank that owns it in contiguous blocks (BlockOf(E, ep, r)). The backward pass of a dispatch is a combine with the same handle, and
// the reverse (trainer/DESIGN.md, contract 5).
//
//   dispatcher.BeginPlan(ops, indices, counts, kept);                 // exchanges counts: the one small collective
//   DispatchHandle handle = dispatcher.FinishPlan(kept);
//   dispatcher.BeginDispatch(ops, handle, {.rows = {{x, rows}}}, transfer);
//   dispatcher.FinishDispatch(ops, handle, transfer);
//   ... experts work on their rows: handle.Expert(expert), of which handle.Segment(expert, source) came from one source ...
//   dispatcher.BeginCombine(ops, handle, results, {}, transfer);
//   dispatcher.FinishCombine(ops, handle, transfer, y, {});           // y += the sum of each token's results
//
// An expert's rows lie together: by local expert, then by source rank, then by token. Rows go straight to the ranks of their experts, or
// over forwarders, each token once to a node: nobody but who built the dispatcher sees which, in no bit (forwarding.h).
//
// On a device nothing of this waits for it but FinishPlan, which reads the counts that the router has left there: once for
// each layer and micro-batch, counted in count_reads() and in HostSynchronizations(). Rows stay on the device. On kNone there are no
// counts: as many rows arrive as the load says.
#ifndef JEVONS_PARALLEL_EP_DISPATCHER_H_
#define JEVONS_PARALLEL_EP_DISPATCHER_H_

#include <memory>
#include <span>
#include <vector>

#include "kernels/base/partition.h"
#include "kernels/ops/elementwise.h"
#include "kernels/tensor/device.h"
#include "kernels/tensor/tensor.h"
#include "parallel/comm/communicator.h"
#include "parallel/ep/forwarding.h"

namespace jevons {

// Which rows go where, of T tokens with K slots each: a token has a row at the expert of each of its slots. Its tensors lie where
// BeginPlan was told to keep them.
struct DispatchHandle {
  Tensor indices;          // [T,K] I32, as planned
  Tensor row_of, pair_of;  // [T*K] I32: its pairs sorted by expert (kernels/ops/permute.h); not where it is forwarded
  ForwardHandle forward;   // where it is
  int64_t send_rows = 0, receive_rows = 0;  // T*K, and those of this rank's experts
  std::vector<int64_t> send_rows_to;        // [ep]
  std::vector<int64_t> receive_rows_from;   // [ep]
  int64_t network_pairs = 0;                // of send_rows, to other nodes
  int64_t local_experts = 0;
  int sources = 0;                       // ep
  std::vector<int64_t> segment_offsets;  // [local_experts * ep + 1], of the rows by expert
  // The rows of a local expert, and those among them that a source rank sent.
  Range Expert(int64_t local_expert) const {
    return {segment_offsets[local_expert * sources], segment_offsets[(local_expert + 1) * sources]};
  }
  Range Segment(int64_t local_expert, int source) const {
    const int64_t i = local_expert * sources + source;
    return {segment_offsets[i], segment_offsets[i + 1]};
  }
};

// Rows under way, between a Begin and its Finish.
struct RowTransfer {
  RowExchange::Request request = {};
  std::vector<CopiedPart> by_expert = {};  // of a dispatch: what is to be copied when all is there
  Tensor rows = {}, values = {};           // of a combine: what comes back, [send_rows, .]
  ForwardTransfer forward = {};            // all there is to it where tokens are forwarded
};

// The ranks that share the experts. rail and local: where tokens are forwarded (forward_plan.h), else null.
struct EpGroups {
  EpGroups(Communicator& ep, int nodes = 1, Communicator* rail = nullptr, Communicator* local = nullptr)
      : ep(ep), nodes(nodes), rail(rail), local(local) {}
  Communicator& ep;
  int nodes;  // over which they lie evenly, neighbours first
  Communicator *rail, *local;
};

class Dispatcher {
 public:
  // groups: outlives the dispatcher, which outlives the work that the stream was given for it. shape: experts, and their groups, by which combine sums (contract 8); how tokens choose matters on
  // kNone alone. Rows lie on stream.device; transfers are ordered with the stream's work.
  struct Options {
    Stream stream = {};
    double load = 1;      // on kNone: the rows that come to this rank's experts, relative to an even share
    bool verify = false;  // transfers (row_exchange.h)
  };
  Dispatcher(const EpGroups& groups, const RoutingShape& shape, const Options& options);
  Dispatcher(const EpGroups& groups, const RoutingShape& shape) : Dispatcher(groups, shape, Options()) {}

  Range local_experts() const { return local_; }

  // indices: [T,K] I32, the experts of each token; counts: [experts] I64, how many of them are which. Both where the stream works, as
  // ops.stream is. Collective over ep. One plan is under way at a time; other transfers may begin and end meanwhile.
  void BeginPlan(const OpContext& ops, const Tensor& indices, const Tensor& counts, Arena& kept);
  // On a device the host waits here, and only here, and for the routing alone: what the stream was given after it may go on.
  DispatchHandle FinishPlan(Arena& kept);
  int64_t count_reads() const { return count_reads_; }  // from a device, since construction

  // Transfers take of ops.scratch what they need until they are finished, and leave it there: the caller has a scope.
  void BeginDispatch(const OpContext& ops, const DispatchHandle& handle, const Dispatched& what, RowTransfer& transfer);
  void FinishDispatch(const OpContext& ops, const DispatchHandle& handle, RowTransfer& transfer);
  // The way back: rows [receive_rows, H] in FP32 or BF16, and values [receive_rows, 1] FP32 or none.
  void BeginCombine(const OpContext& ops, const DispatchHandle& handle, const Tensor& rows, const Tensor& values,
                    RowTransfer& transfer);
  // y [T,H] += the sum of each token's rows, by groups of experts (contract 8); values: [T*K, 1], those that came back; or none.
  void FinishCombine(const OpContext& ops, const DispatchHandle& handle, RowTransfer& transfer, const Tensor& y,
                     const Tensor& values);
  // Either way, in between: where tokens are forwarded, waits for the first hop and begins the second. Finish does it where nobody has.
  void Advance(const OpContext& ops, const DispatchHandle& handle, RowTransfer& transfer);

  // Communicator::MoveInBackground, of all groups that rows travel in.
  void MoveInBackground();

  // Since construction.
  const Traffic& traffic() const { return traffic_; }

 private:
  // What would come of an even choice of experts, times the load.
  void PlanByLoad(Arena& kept);
  void BeginCounts();  // those that the host has
  bool arrives_by_expert() const { return ep_.size() == 1 || local_.size() <= 1; }
  Communicator& ep_;
  const RoutingShape shape_;
  const int nodes_;
  const Stream stream_;
  const double load_;
  const Range local_;
  RowExchange flat_;
  std::unique_ptr<Forwarding> forwarding_;  // null where rows go straight to their experts
  std::unique_ptr<Staging> host_counts_;    // [experts] I64
  std::unique_ptr<Staging> host_indices_;   // [T,K] I32, where tokens are forwarded
  Event routing_is_there_;
  // Of the plan under way.
  bool planning_ = false;
  DispatchHandle planned_;
  std::vector<int64_t> received_;  // [source][local expert]
  CommRequest counts_request_;
  int64_t count_reads_ = 0;
  Traffic traffic_;
};

}  // namespace jevons

#endif  // JEVONS_PARALLEL_EP_DISPATCHER_H_
