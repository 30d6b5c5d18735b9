#include "parallel/comm/places.h"

#include <span>

#include "absl/strings/str_format.h"
#include "kernels/base/machine.h"

namespace jevons {

std::vector<std::string> PlacesOf(Communicator& group, int world_rank) {
  constexpr size_t kMost = 96;  // bytes: names of hosts have up to 64
  std::string mine = absl::StrFormat("rank %d (%s)", world_rank, HostName());
  mine.resize(kMost, '\0');
  mine.back() = '\0';
  std::string all(kMost * static_cast<size_t>(group.size()), '\0');
  group.AllGather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)));
  std::vector<std::string> places;
  for (size_t begin = 0; begin < all.size(); begin += kMost) places.emplace_back(all.substr(begin, kMost).c_str());
  return places;
}

}  // namespace jevons
