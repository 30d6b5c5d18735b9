#include "launch/data_files.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

bool Exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

}  // namespace

absl::StatusOr<std::string> ConfigsFolder() {
  std::error_code error;
  const fs::path above = fs::read_symlink("/proc/self/exe", error).parent_path().parent_path();
  const fs::path installed = above / "share/jevons/configs", source = above / "configs";
  for (const fs::path& folder : {installed, source, fs::path("configs")})
    if (Exists(folder / "published/models.textproto")) return folder.string();
  return UsageError(absl::StrFormat(
      "published/models.textproto: neither in %s nor in %s nor in configs; install again, or run from the source folder",
      installed.string(), source.string()));
}

std::string FindFile(const std::string& path) {
  constexpr char kFolder[] = "configs/";
  if (Exists(path) || !absl::StartsWith(path, kFolder)) return path;
  const absl::StatusOr<std::string> folder = ConfigsFolder();
  if (!folder.ok()) return path;
  const std::string found = *folder + "/" + path.substr(sizeof kFolder - 1);
  return Exists(found) ? found : path;
}

}  // namespace jevons
