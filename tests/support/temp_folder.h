// A folder of the test's own, removed at its end: nothing stays behind, and two runs of a test at once do not meet.
#ifndef JEVONS_TESTS_SUPPORT_TEMP_FOLDER_H_
#define JEVONS_TESTS_SUPPORT_TEMP_FOLDER_H_

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/string_view.h"
#include "kernels/base/check.h"

namespace jevons {

class TempFolder {
 public:
  TempFolder() {
    std::string name = std::filesystem::temp_directory_path().string() + "/jevons_test_XXXXXX";
    JEVONS_CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(absl::string_view name) const { return path_ + "/" + std::string(name); }

  // Writes a file and returns its path.
  std::string Write(absl::string_view name, absl::string_view contents) const {
    std::ofstream(*this / name, std::ios::binary) << contents;
    return *this / name;
  }

 private:
  std::string path_;
};

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_TEMP_FOLDER_H_
