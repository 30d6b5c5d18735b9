// What goes ahead of a named message between ranks, so that its receiver finds one that is not the one it expects.
#ifndef JEVONS_PARALLEL_COMM_MESSAGE_HEAD_H_
#define JEVONS_PARALLEL_COMM_MESSAGE_HEAD_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"

namespace jevons {

// As it travels.
struct MessageHead {
  std::array<char, 24> name = {};  // zeros follow
  int64_t bytes = 0;               // of the data
  bool operator==(const MessageHead&) const = default;
};

// REQUIRES: the name is shorter than the field.
inline MessageHead HeadOf(const std::string& name, size_t bytes) {
  MessageHead head{.bytes = static_cast<int64_t>(bytes)};
  JEVONS_CHECK(name.size() < head.name.size(), "a message of name '%s'", name.c_str());
  std::copy(name.begin(), name.end(), head.name.begin());
  return head;
}

// "1SF7 of 4096 bytes"; whatever has come.
inline std::string ToString(const MessageHead& head) {
  const std::string name(head.name.begin(), std::find(head.name.begin(), head.name.end(), '\0'));
  return absl::StrFormat("%s of %d bytes", name, head.bytes);
}

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_MESSAGE_HEAD_H_
