// Transport: point-to-point messages among the ranks of one group. What MPI and loopback have to offer, and
// all that they have to: the collectives are built on it once (message_communicator.h). That gives every call
// exact checks of its sizes and the names of the ranks that did not come, and no limit at 2^31 bytes.
#ifndef JEVONS_PARALLEL_COMM_TRANSPORT_H_
#define JEVONS_PARALLEL_COMM_TRANSPORT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/base/status.h"

namespace jevons {

// `peer` is a rank of the group, never the own one; `data` is not empty.
struct Outgoing {
  int peer;
  std::span<const std::byte> data;
};
struct Incoming {
  int peer;
  std::span<std::byte> data;
};

// Messages under way. Their buffers belong to the transport until Poll has returned true.
class Transfer {
 public:
  virtual ~Transfer() = default;
  // Moves what can be moved; true once everything has been sent and received. An error names the peer and
  // both sizes.
  virtual absl::StatusOr<bool> Poll() = 0;
  // World ranks whose message has not arrived, or that have not taken theirs; one per message.
  virtual std::vector<int> MissingPeers() const = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual int WorldRank(int rank) const = 0;
  virtual int NodeOf(int rank) const = 0;  // ranks that share a machine have one number

  // Starts all messages and returns at once. A message is received by the call of the same tag on the peer;
  // messages of one tag between two ranks keep their order.
  virtual std::unique_ptr<Transfer> Start(std::span<const Outgoing> sends, std::span<const Incoming> receives, int64_t tag) = 0;

  // The group of `members` (ranks of this group, ascending, the own one among them). All members call it
  // alike, and all groups of one split at once; the other members are known to have arrived.
  virtual std::unique_ptr<Transport> MakeGroup(std::span<const int> members) = 0;
};

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_TRANSPORT_H_
