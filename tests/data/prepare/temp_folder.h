// A folder of the test's own, removed at its end, and whole files in it.
#ifndef JEVONS_TESTS_DATA_PREPARE_TEMP_FOLDER_H_
#define JEVONS_TESTS_DATA_PREPARE_TEMP_FOLDER_H_

#include <zstd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/string_view.h"
#include "kernels/base/check.h"

namespace jevons {

class TempFolder {
 public:
  TempFolder() {
    std::string name = std::filesystem::temp_directory_path().string() + "/jevons_prepare_XXXXXX";
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

inline std::string ReadWholeFile(const std::string& path) {
  std::stringstream contents;
  contents << std::ifstream(path, std::ios::binary).rdbuf();
  return contents.str();
}

inline std::string ZstdCompress(absl::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

}  // namespace jevons

#endif  // JEVONS_TESTS_DATA_PREPARE_TEMP_FOLDER_H_
