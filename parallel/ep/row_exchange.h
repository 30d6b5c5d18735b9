// Rows between the ranks of one group, as one transfer: counted by the links they take and, where that is asked for, hashed on both
// sides.
#ifndef JEVONS_PARALLEL_EP_ROW_EXCHANGE_H_
#define JEVONS_PARALLEL_EP_ROW_EXCHANGE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/tensor/tensor.h"
#include "parallel/comm/communicator.h"
#include "parallel/ep/traffic.h"

namespace jevons {

class RowExchange {
 public:
  // What a rank of the group is to this one.
  struct Peer {
    int ep_rank = 0;
    bool on_other_node = false;
  };
  // Rows lie on stream.device. verify: a 64-bit hash of all that goes to a rank follows it, and is compared when it has come; another one
  // ends the job with exit code 5 and a line that names group and rank. On a device what travels is read back for it: slow.
  RowExchange(Communicator& group, std::vector<Peer> peers, const Stream& stream, bool verify);

  Communicator& group() { return group_; }

  // [rows, C] contiguous, of one type and width: to[r] rows of `send`, in the order of ranks, go to rank r; from[r] of `receive` come
  // from it.
  struct Move {
    Tensor send, receive;
    std::span<const int64_t> to, from;
  };
  // A transfer under way.
  struct Request {
    CommRequest rows = {};
    struct Check;
    std::shared_ptr<Check> check;  // where it is verified
  };
  // All moves together. The first is of tokens' rows, and is counted as such.
  Request Begin(std::span<const Move> moves, LinkTraffic& traffic);
  // What the stream is given from here on finds the rows there.
  void Finish(Request& request);

 private:
  Communicator& group_;
  const std::vector<Peer> peers_;
  const Stream stream_;
  const bool verify_;
};

}  // namespace jevons

#endif  // JEVONS_PARALLEL_EP_ROW_EXCHANGE_H_
