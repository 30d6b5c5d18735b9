#include "trainer/checkpoint/folder.h"

#include <algorithm>
#include <optional>
#include <tuple>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace jevons {
namespace {

// Accepts what FolderName writes and nothing else: "step-12" and "step-00000012.bad" are no checkpoints.
std::optional<CommittedFolder> ParseFolderName(absl::string_view name) {
  absl::string_view text = name;
  if (!absl::ConsumePrefix(&text, "step-")) return std::nullopt;
  CommittedFolder folder;
  const size_t dot = text.find('.');
  if (!absl::SimpleAtoi(text.substr(0, dot), &folder.step) || folder.step < 0) return std::nullopt;
  if (dot != absl::string_view::npos && !absl::SimpleAtoi(text.substr(dot + 1), &folder.generation)) return std::nullopt;
  if (folder.generation < 0 || FolderName(folder.step, folder.generation) != name) return std::nullopt;
  return folder;
}

}  // namespace

std::string FolderName(int64_t step, int64_t generation) {
  return absl::StrFormat("step-%08d%s", step, generation == 0 ? "" : absl::StrCat(".", generation));
}

std::optional<int64_t> StepOfFolder(absl::string_view path) {
  while (absl::ConsumeSuffix(&path, "/")) {
  }
  const std::optional<CommittedFolder> folder = ParseFolderName(path.substr(path.rfind('/') + 1));
  if (!folder) return std::nullopt;
  return folder->step;
}

std::string PartialName(int64_t step, int64_t epoch) {
  return absl::StrCat(FolderName(step, 0), epoch > 0 ? absl::StrCat(".epoch-", epoch) : "", kPartialSuffix);
}

absl::StatusOr<std::vector<CommittedFolder>> ListCommitted(FileSystem& files, const std::string& directory) {
  std::vector<CommittedFolder> found;
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> info, files.Stat(directory));
  if (!info.has_value()) return found;
  JEVONS_ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(directory));
  for (const std::string& name : names) {
    std::optional<CommittedFolder> folder = ParseFolderName(name);
    if (!folder) continue;
    folder->path = JoinPath(directory, name);
    found.push_back(*std::move(folder));
  }
  std::sort(found.begin(), found.end(), [](const CommittedFolder& a, const CommittedFolder& b) {
    return std::tie(a.step, a.generation) < std::tie(b.step, b.generation);
  });
  return found;
}

absl::Status Retire(FileSystem& files, const std::string& path) { return files.Rename(path, path + kPartialSuffix); }

absl::StatusOr<std::string> SetDamagedAside(FileSystem& files, const std::string& path) {
  std::string aside = path + ".damaged";
  for (int number = 1;; ++number) {
    JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> taken, files.Stat(aside));
    if (!taken) break;
    aside = absl::StrCat(path, ".damaged-", number);
  }
  JEVONS_RETURN_IF_ERROR(files.Rename(path, aside));
  return aside;
}

absl::Status RemovePartial(FileSystem& files, const std::string& directory) {
  JEVONS_ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(directory));
  bool durable = false;
  absl::Status first;
  for (const std::string& name : names) {
    if (!absl::StartsWith(name, "step-") || !absl::EndsWith(name, kPartialSuffix)) continue;
    if (!durable) JEVONS_RETURN_IF_ERROR(files.SyncDirectory(directory));
    durable = true;
    first.Update(RemoveTree(files, JoinPath(directory, name)));
  }
  return first;
}

}  // namespace jevons
