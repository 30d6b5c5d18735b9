#include "trainer/checkpoint/epoch.h"

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "trainer/checkpoint/folder.h"

namespace jevons {
namespace {

constexpr int kAttempts = 16;  // others may take epochs at the same moment

std::string EpochName(int64_t epoch) { return absl::StrFormat("epoch-%08d", epoch); }

// 0 where the name is no epoch's.
int64_t EpochOf(absl::string_view name) {
  int64_t epoch = 0;
  return absl::ConsumePrefix(&name, "epoch-") && absl::SimpleAtoi(name, &epoch) ? epoch : 0;
}

absl::StatusOr<int64_t> NewestEpoch(FileSystem& files, const std::string& directory) {
  JEVONS_ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(directory));
  int64_t newest = 0;
  for (const std::string& name : names) newest = std::max(newest, EpochOf(name));
  return newest;
}

}  // namespace

absl::StatusOr<int64_t> TakeEpoch(FileSystem& files, const std::string& directory) {
  JEVONS_RETURN_IF_ERROR(MakeDirectories(files, directory));
  int64_t epoch = 0;
  absl::Status made;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    JEVONS_ASSIGN_OR_RETURN(const int64_t newest, NewestEpoch(files, directory));
    epoch = newest + 1;
    made = files.MakeDirectory(JoinPath(directory, EpochName(epoch)));
    if (made.ok()) break;
  }
  JEVONS_RETURN_IF_ERROR(made);
  JEVONS_RETURN_IF_ERROR(files.SyncDirectory(directory));
  JEVONS_ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(directory));
  for (const std::string& name : names) {
    const std::string path = JoinPath(directory, name);
    if (const int64_t older = EpochOf(name); older > 0 && older < epoch) files.RemoveDirectory(path).IgnoreError();
    if (absl::EndsWith(name, kPartialSuffix))
      files.Rename(path, absl::StrFormat("%s.%d%s", path, epoch, kPartialSuffix)).IgnoreError();
  }
  RemovePartial(files, directory).IgnoreError();  // what cannot be removed is in nobody's way
  return epoch;
}

absl::Status CheckEpoch(FileSystem& files, const std::string& directory, int64_t epoch) {
  JEVONS_ASSIGN_OR_RETURN(const int64_t newest, NewestEpoch(files, directory));
  if (newest <= epoch) return absl::OkStatus();
  return PeerLostError(
      absl::StrFormat("%s: the run was started again (epoch %d) while this process was cut off (epoch %d): it must not commit a "
                      "checkpoint any more",
                      directory, newest, epoch));
}

}  // namespace jevons
