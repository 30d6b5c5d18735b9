// Dispatcher: token rows to the ranks of their experts and back. Expert e of E lives on the ep rank that owns
// it in contiguous blocks (BlockOf(E, ep, r)); rows are sorted by expert before they are sent, so each rank's
// share is contiguous. The backward pass of a dispatch is a combine with the same handle, and the reverse
// (trainer/DESIGN.md, contract 5).
//
//   dispatcher.BeginPlan(counts);                                    // exchanges counts: the one small collective
//   DispatchHandle handle = dispatcher.FinishPlan();
//   auto r = dispatcher.BeginDispatch(handle, rows, arrived);  dispatcher.Finish(r);
//   handle.ByExpert(arrived, rows_of_experts, parts);  CopyParts(ops, parts);
//   ... experts work on their rows: handle.Expert(expert), of which handle.Segment(expert, source) came from one source ...
//   handle.BySource(results, leaving, parts);  CopyParts(ops, parts);
//   auto c = dispatcher.BeginCombine(handle, leaving, returned);  dispatcher.Finish(c);
//
// Rows arrive and leave by source rank, then by local expert, then as the source sent them; experts have theirs by local
// expert, then by source, so that an expert's rows lie together.
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

namespace jevons {

struct DispatchHandle {
  int64_t send_rows = 0, receive_rows = 0;
  std::vector<int64_t> send_rows_to;       // [ep]
  std::vector<int64_t> receive_rows_from;  // [ep]
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

  // Whether rows arrive in the order in which experts have them.
  bool arrives_by_expert() const { return sources <= 1 || local_experts <= 1; }
  // What to copy so that rows as they arrive lie by expert, and the reverse. Both: receive_rows contiguous rows of one type.
  void ByExpert(const Tensor& arrived, const Tensor& by_expert, std::vector<CopiedPart>& parts) const;
  void BySource(const Tensor& by_expert, const Tensor& leaving, std::vector<CopiedPart>& parts) const;
};

class Dispatcher {
 public:
  // Rows lie on stream.device; transfers are ordered with the stream's work. It outlives the dispatcher. load: on kNone, the rows that
  // come to this rank's experts, relative to an even share.
  Dispatcher(Communicator& ep, int64_t experts, const Stream& stream = {}, double load = 1);

  Range local_experts() const { return local_; }

  // counts: [experts] I64 where the stream works, the rows that this rank will send to each expert; rows: their sum. Collective over
  // ep. One plan is under way at a time; other transfers may begin and end meanwhile.
  void BeginPlan(const Tensor& counts, int64_t rows);
  // On a device the host waits here, and only here, and for the counts alone: what the stream was given after them may go on.
  DispatchHandle FinishPlan();
  DispatchHandle Plan(const Tensor& counts, int64_t rows) {
    BeginPlan(counts, rows);
    return FinishPlan();
  }
  int64_t count_reads() const { return count_reads_; }  // from a device, since construction

  // Rows of any type and width; `send` has handle.send_rows rows, `receive` handle.receive_rows; both
  // contiguous.
  CommRequest BeginDispatch(const DispatchHandle& handle, const Tensor& send, const Tensor& receive);
  // The way back: `send` has handle.receive_rows rows, `receive` handle.send_rows.
  CommRequest BeginCombine(const DispatchHandle& handle, const Tensor& send, const Tensor& receive);
  void Finish(CommRequest request);

  // Sent to other ranks since construction: to experts, and back from them.
  struct Bytes {
    int64_t dispatch = 0, combine = 0;
  };
  const Bytes& bytes_sent() const { return bytes_sent_; }

 private:
  // What would come of an even choice of experts by `rows` rows on every rank, times the load.
  DispatchHandle PlanByLoad(int64_t rows) const;
  void BeginCounts();  // those that the host has
  CommRequest Begin(std::span<const int64_t> send_rows, std::span<const int64_t> receive_rows,
                    const Tensor& send, const Tensor& receive, int64_t& bytes_sent);
  Communicator& ep_;
  int64_t experts_;
  Stream stream_;
  double load_;
  Range local_;
  std::unique_ptr<Staging> host_counts_;  // [experts] I64
  Event counts_are_there_;
  // Of the plan under way.
  bool planning_ = false;
  int64_t planned_rows_ = 0;
  DispatchHandle planned_;
  std::vector<int64_t> received_;  // [source][local expert]
  CommRequest counts_request_;
  int64_t count_reads_ = 0;
  Bytes bytes_sent_;
};

}  // namespace jevons

#endif  // JEVONS_PARALLEL_EP_DISPATCHER_H_
