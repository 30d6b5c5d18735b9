#include "tests/fuzz/targets.h"

#include "kernels/base/check.h"

namespace jevons {

const FuzzTarget* FindTarget(const std::string& name) {
  for (const auto targets : {CheckpointTargets(), DataTargets(), ConfigTargets(), JobTargets()})
    for (const FuzzTarget& target : targets)
      if (target.name == name) return &target;
  return nullptr;
}

void PutFile(FileSystem& files, const std::string& path, const std::string& contents) {
  const auto file = files.Open(path, OpenMode::kWrite);
  JEVONS_CHECK(file.ok(), "%s", path.c_str());
  const bool written = contents.empty() || WriteAll(**file, std::as_bytes(std::span(contents)), path).ok();
  JEVONS_CHECK(written && (*file)->Close().ok(), "%s", path.c_str());
}

}  // namespace jevons
