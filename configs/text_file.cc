#include "configs/text_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_format.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

constexpr std::streamsize kLargestFile = 1 << 20;  // a description is a few KiB: anything beyond is another file

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path, const std::string& wanted) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return UsageError(absl::StrFormat("%s: cannot open: %s; name %s", path, std::strerror(errno), wanted));
  }
  std::string text(kLargestFile + 1, '\0');
  file.read(text.data(), kLargestFile + 1);
  if (file.bad()) return UsageError(absl::StrFormat("%s: cannot read (is it a folder?)", path));
  if (file.gcount() > kLargestFile) {
    return UsageError(absl::StrFormat("%s: larger than %d bytes: not %s", path, kLargestFile, wanted));
  }
  text.resize(file.gcount());
  return text;
}

}  // namespace jevons
