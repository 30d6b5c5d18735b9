#include "trainer/checkpoint/agreement.h"

#include <cstdint>
#include <cstring>
#include <span>
#include <string>

namespace jevons {

absl::Status AgreeOnStatus(Communicator& world, const absl::Status& mine) {
  // The lowest failing rank is the one farthest from the end.
  int64_t from_end = mine.ok() ? 0 : world.size() - world.rank();
  world.AllReduceMax({&from_end, 1});
  if (from_end == 0) return absl::OkStatus();
  const int root = world.size() - static_cast<int>(from_end);
  int64_t head[2] = {static_cast<int64_t>(mine.code()), static_cast<int64_t>(mine.message().size())};  // code, length
  world.Broadcast(std::as_writable_bytes(std::span(head)), root);
  std::string message(static_cast<size_t>(head[1]), '\0');
  if (world.rank() == root) std::memcpy(message.data(), mine.message().data(), message.size());
  world.Broadcast(std::as_writable_bytes(std::span(message)), root);
  return absl::Status(static_cast<absl::StatusCode>(head[0]), message);
}

}  // namespace jevons
