// The bytes of a file, decompressed on the way.
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
#include "absl/strings/string_view.h"

struct ZSTD_DCtx_s;
struct z_stream_s;

namespace jevons {

enum class Compression { kNone, kZstd, kGzip };

// By the first bytes of a file: a zstd frame (or a skippable one), a gzip member, or neither.
Compression CompressionOf(absl::string_view front);
absl::string_view CompressionName(Compression compression);  // "zstd", "gzip", "none"

// The first bytes of a file, at most `size`. Errors as ByteStream::Open's and Read's.
absl::StatusOr<std::string> FileFront(const std::string& path, size_t size);

class ByteStream {
 public:
  // Integrity error if the file cannot be opened, usage error if it is not a regular file (it is read twice, so a pipe will not
  // do).
  static absl::StatusOr<ByteStream> Open(const std::string& path, Compression compression);

  // Fills `out` from the front and returns how much; less than all of it only at the end of the file. Frames of
  // zstd and members of gzip follow each other as one text; zstd's windows may have up to 2 GiB, which costs that
  // much memory. Integrity error if the compressed data is damaged, ends too soon or has anything else behind it.
  absl::StatusOr<size_t> Read(std::span<char> out);

  int64_t file_position() const { return position_; }  // bytes of the file that were read

 private:
  struct Free {
    void operator()(std::FILE* file) const;
    void operator()(ZSTD_DCtx_s* context) const;
    void operator()(z_stream_s* stream) const;
  };
  ByteStream() = default;
  absl::StatusOr<size_t> ReadFile(std::span<char> out);
  absl::StatusOr<size_t> Decompress(std::span<char> out);
  // Decompresses from compressed_ to the front of `out`, or skips what carries nothing; returns the bytes written.
  absl::StatusOr<size_t> DecompressZstd(std::span<char> out);
  absl::StatusOr<size_t> DecompressGzip(std::span<char> out);
  absl::Status Damaged(absl::string_view why) const;

  std::string path_;
  std::unique_ptr<std::FILE, Free> file_;
  int64_t position_ = 0;
  Compression compression_ = Compression::kNone;
  std::unique_ptr<ZSTD_DCtx_s, Free> zstd_;
  std::unique_ptr<z_stream_s, Free> gzip_;
  std::vector<char> compressed_;  // read, and consumed up to compressed_begin_
  size_t compressed_begin_ = 0;
  size_t compressed_end_ = 0;
  bool frame_open_ = false;  // the end of the file would be too soon
};

}  // namespace jevons

#endif  // JEVONS_DATA_PREPARE_BYTE_STREAM_H_
