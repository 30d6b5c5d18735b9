// Whole files in a folder of the test's own.
#ifndef JEVONS_TESTS_DATA_PREPARE_TEMP_FOLDER_H_
#define JEVONS_TESTS_DATA_PREPARE_TEMP_FOLDER_H_

#include <zstd.h>

#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/string_view.h"
#include "tests/support/temp_folder.h"

namespace jevons {

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
