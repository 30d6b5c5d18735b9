// A file being written: buffered, appended to, made durable by Close. Not seen under its name until then.
#ifndef JEVONS_DATA_INDEX_OUTPUT_FILE_H_
#define JEVONS_DATA_INDEX_OUTPUT_FILE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace jevons {

class OutputFile {
 public:
  // Creates `path`.partial, which Close renames to `path`. FailureError where the disk refuses.
  static absl::StatusOr<OutputFile> Create(const std::string& path);

  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();  // without a Close, the partial file is removed

  absl::Status Append(std::span<const std::byte> bytes);

  // Flushes, fsyncs, closes, renames to the final name, and fsyncs the folder.
  absl::Status Close();

 private:
  OutputFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  absl::Status Flush();
  void Discard();

  std::string path_;
  int fd_ = -1;
  std::vector<std::byte> buffer_;
};

}  // namespace jevons

#endif  // JEVONS_DATA_INDEX_OUTPUT_FILE_H_
