// Forwarded dispatch: the two hops of forward_plan.h, over two groups of messages. Of its own it has no bits: rows, values and sums are
// those of the flat way (trainer/DESIGN.md, contract 8).
#ifndef JEVONS_PARALLEL_EP_FORWARDING_H_
#define JEVONS_PARALLEL_EP_FORWARDING_H_

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/ops/context.h"
#include "kernels/tensor/device.h"
#include "parallel/ep/row_exchange.h"

namespace jevons {

// What one dispatch carries, as one transfer. Rows of any type and width; all contiguous.
struct Dispatched {
  struct Rows {
    Tensor from, by_expert;
  };
  std::vector<Rows> rows = {};  // [T, C] -> [receive_rows, C]: a token's row to each of its experts
  Rows values = {};             // [T*K, 1] -> [receive_rows, 1]: a value of each pair; or none
};

// The plan of a micro-batch: forward_plan.h's, its lists as I32 tensors where the rows lie.
struct ForwardHandle {
  ForwardFlows flows;
  Tensor rail_tokens, rail_pairs, returned_pairs, returned_groups, token_offsets;
  Tensor local_rows, local_pairs, back_pairs, group_units, group_offsets;
  Tensor expert_rows, expert_pairs, unit_rows, unit_offsets;
};

// Rows under way, one way or the other.
struct ForwardTransfer {
  Dispatched what = {};  // of a dispatch
  bool back = false;     // of a combine
  int hop = 0;           // which is under way
  RowExchange::Request request = {};
  std::vector<Tensor> rows = {};  // that come by it
  Tensor values = {};             // likewise
};

class Forwarding {
 public:
  // rail: the ranks of this one's place in each node; local: those of its node.
  Forwarding(const ForwardMap& map, Communicator& ep, Communicator& rail, Communicator& local, const Stream& stream, bool verify);

  const ForwardMap& map() const { return map_; }
  void MoveInBackground();

  // indices: [T * slots], on the host. Begins to tell the others numbers.
  void BeginPlan(std::span<const int32_t> indices, int64_t slots);
  // Tells them lists, once numbers have come. segment_offsets: of the rows by expert (dispatcher.h). kept: for the handle's lists.
  ForwardHandle FinishPlan(Arena& kept, std::vector<int64_t>& segment_offsets);
  // On kNone: of `tokens` tokens on every rank, `arriving` rows at this rank's experts (traffic.h).
  ForwardHandle PlanByLoad(const RoutingShape& shape, int64_t tokens, int64_t arriving, double load, Arena& kept) const;

  // Both ways: Begin; Advance, which waits for the first hop and begins the second; Finish, which advances where nobody has. As in
  // dispatcher.h.
  void BeginDispatch(const OpContext& ops, const ForwardHandle& handle, const Dispatched& what, Traffic& traffic,
                     ForwardTransfer& transfer);
  void BeginCombine(const OpContext& ops, const ForwardHandle& handle, const Tensor& rows, const Tensor& values, Traffic& traffic,
                    ForwardTransfer& transfer);
  void Advance(const OpContext& ops, const ForwardHandle& handle, Traffic& traffic, ForwardTransfer& transfer);
  void FinishDispatch(const OpContext& ops, const ForwardHandle& handle, Traffic& traffic, ForwardTransfer& transfer);
  void FinishCombine(const OpContext& ops, const ForwardHandle& handle, Traffic& traffic, ForwardTransfer& transfer,
                     const Tensor& y, const Tensor& values);

 private:
  // One hop: rows and values, picked or summed by lists.
  struct Hop;
  void Send(const OpContext& ops, const Hop& hop, std::span<const Tensor> rows, const Tensor& values, LinkTraffic& traffic,
            ForwardTransfer& transfer);
  ForwardHandle Place(const ForwardFlows& flows, int64_t tokens, int64_t arriving, Arena& kept) const;

  const ForwardMap map_;
  Communicator& ep_;
  const Stream stream_;
  RowExchange rail_, local_;
  // Of the plan under way.
  std::optional<ForwardSource> source_;
  std::vector<int64_t> numbers_sent_, numbers_, number_bytes_;
  CommRequest numbers_request_;
  std::unique_ptr<Staging> staging_;  // for lists on their way to a device
};

}  // namespace jevons

#endif  // JEVONS_PARALLEL_EP_FORWARDING_H_
