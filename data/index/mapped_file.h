// A whole file mapped read-only into memory.
#ifndef JEVONS_DATA_INDEX_MAPPED_FILE_H_
#define JEVONS_DATA_INDEX_MAPPED_FILE_H_

#include <cstddef>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace jevons {

class MappedFile {
 public:
  // IntegrityError if `path` is missing, unreadable or not a regular file. An empty file maps to no bytes.
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile(const std::byte* data, size_t size) : data_(data), size_(size) {}

  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace jevons

#endif  // JEVONS_DATA_INDEX_MAPPED_FILE_H_
