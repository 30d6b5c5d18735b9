#include "data/prepare/byte_stream.h"

#include <sys/stat.h>
#include <zstd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"

namespace jevons {

void ByteStream::Free::operator()(std::FILE* file) const { std::fclose(file); }
void ByteStream::Free::operator()(ZSTD_DCtx_s* context) const { ZSTD_freeDCtx(context); }

absl::StatusOr<ByteStream> ByteStream::Open(const std::string& path, Compression compression) {
  struct stat info;
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    return UsageError(absl::StrFormat("%s: not a regular file; inputs are read twice, so name files", path));
  }
  ByteStream stream;
  stream.path_ = path;
  stream.file_.reset(std::fopen(path.c_str(), "rbe"));
  if (stream.file_ == nullptr) {
    return UsageError(absl::StrFormat("%s: cannot open: %s", path, std::strerror(errno)));
  }
  if (compression == Compression::kZstd) {
    stream.context_.reset(ZSTD_createDCtx());
    JEVONS_CHECK(stream.context_ != nullptr);
    stream.compressed_.resize(ZSTD_DStreamInSize());
  }
  return stream;
}

absl::StatusOr<size_t> ByteStream::Read(std::span<char> out) {
  return context_ == nullptr ? ReadFile(out) : Decompress(out);
}

absl::StatusOr<size_t> ByteStream::ReadFile(std::span<char> out) {
  const size_t size = std::fread(out.data(), 1, out.size(), file_.get());
  if (size < out.size() && std::ferror(file_.get())) {
    return FailureError(absl::StrFormat("%s: cannot read: %s", path_, std::strerror(errno)));
  }
  position_ += static_cast<int64_t>(size);
  return size;
}

absl::StatusOr<size_t> ByteStream::Decompress(std::span<char> out) {
  ZSTD_outBuffer output = {out.data(), out.size(), 0};
  while (output.pos < output.size) {
    if (compressed_begin_ == compressed_end_) {
      compressed_begin_ = 0;
      JEVONS_ASSIGN_OR_RETURN(compressed_end_, ReadFile(compressed_));
    }
    ZSTD_inBuffer input = {compressed_.data(), compressed_end_, compressed_begin_};
    if (compressed_end_ == 0 && !frame_open_) break;
    const size_t before = output.pos;
    const size_t hint = ZSTD_decompressStream(context_.get(), &output, &input);
    if (ZSTD_isError(hint)) {
      return IntegrityError(absl::StrFormat("%s: damaged zstd data before byte %d of the file: %s", path_,
                                            position_, ZSTD_getErrorName(hint)));
    }
    compressed_begin_ = input.pos;
    frame_open_ = hint != 0;
    if (compressed_end_ == 0 && output.pos == before) {
      return IntegrityError(absl::StrFormat("%s: ends inside a zstd frame; the file is not complete", path_));
    }
  }
  return output.pos;
}

}  // namespace jevons
