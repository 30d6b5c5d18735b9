// The bytes of a file, decompressed on the way if it is zstd.
#ifndef JEVONS_DATA_PREPARE_BYTE_STREAM_H_
#define JEVONS_DATA_PREPARE_BYTE_STREAM_H_

#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

struct ZSTD_DCtx_s;

namespace jevons {

enum class Compression { kNone, kZstd };

class ByteStream {
 public:
  // Usage error if the file cannot be opened or is not a regular file (it is read twice, so a pipe will not
  // do).
  static absl::StatusOr<ByteStream> Open(const std::string& path, Compression compression);

  // Fills `out` from the front and returns how much; less than all of it only at the end of the file.
  // Integrity error if the compressed data is damaged or ends too soon.
  absl::StatusOr<size_t> Read(std::span<char> out);

  int64_t file_position() const { return position_; }  // bytes of the file that were read

 private:
  struct Free {
    void operator()(std::FILE* file) const;
    void operator()(ZSTD_DCtx_s* context) const;
  };
  ByteStream() = default;
  absl::StatusOr<size_t> ReadFile(std::span<char> out);
  absl::StatusOr<size_t> Decompress(std::span<char> out);

  std::string path_;
  std::unique_ptr<std::FILE, Free> file_;
  int64_t position_ = 0;
  std::unique_ptr<ZSTD_DCtx_s, Free> context_;  // of a zstd stream only
  std::vector<char> compressed_;                // read, and consumed up to compressed_begin_
  size_t compressed_begin_ = 0;
  size_t compressed_end_ = 0;
  bool frame_open_ = false;  // the end of the file would be too soon
};

}  // namespace jevons

#endif  // JEVONS_DATA_PREPARE_BYTE_STREAM_H_
