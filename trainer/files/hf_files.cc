#include "trainer/files/hf_files.h"

#include "kernels/base/foreign_file.h"

namespace jevons {

absl::StatusOr<std::string> ReadSmallFile(FileSystem& files, const std::string& path) {
  JEVONS_ASSIGN_OR_RETURN(std::string text, ReadWholeFile(files, path, kMaxSmallFileBytes));
  JEVONS_RETURN_IF_ERROR(RefuseForeignFile(path, absl::string_view(text).substr(0, kForeignFileBytes)));
  return text;
}

}  // namespace jevons
