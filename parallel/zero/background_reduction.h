// Gradients are reduced while other work goes on: on the host by a thread, for messages travel while somebody asks and sums are to be
// added; on a device on a stream of its own, and the host waits for nothing.
//
//   reduction.Begin(stream, {{&mesh.dp(), dense}, {&mesh.edp(), experts}});   // goes on
//   ...                                                                       // other work of `stream`
//   reduction.Finish(stream);                                                 // `stream` finds all totals
#ifndef JEVONS_PARALLEL_ZERO_BACKGROUND_REDUCTION_H_
#define JEVONS_PARALLEL_ZERO_BACKGROUND_REDUCTION_H_

#include <deque>
#include <vector>

#include "kernels/base/worker.h"
#include "kernels/tensor/arena.h"
#include "kernels/tensor/device.h"
#include "parallel/comm/communicator.h"

namespace jevons {

class BackgroundReduction {
 public:
  // For groups of at most so many ranks.
  BackgroundReduction(const Stream& stream, int most_ranks);

  struct Part {  // of ReduceScatterOwned (exchange.h)
    Communicator* group;
    std::vector<Tensor> sums;
  };
  // After what `stream` was given; one call after the other, in the same order on all ranks that have groups in common. To Finish
  // nobody else uses these groups.
  void Begin(const Stream& stream, std::vector<Part> parts);
  void Finish(const Stream& stream);

  // Of each Begin before the last Finish, since the one before: seconds of the machine's steady clock. On a device: when the host gave the work.
  struct Span {
    double begin = 0, end = 0;
  };
  const std::deque<Span>& spans() const { return spans_; }
  const Arena& scratch() const { return scratch_; }

 private:
  void Run(const std::vector<Part>& parts, Span& span);

  OwnedStream own_;
  Event ready_, done_;
  Arena scratch_;
  std::deque<Span> running_, spans_;  // the worker writes to an element, which stays in its place
  Worker worker_;                     // last: it uses all of the above
};

}  // namespace jevons

#endif  // JEVONS_PARALLEL_ZERO_BACKGROUND_REDUCTION_H_
