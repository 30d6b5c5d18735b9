#include "data/prepare/byte_stream.h"

#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

constexpr size_t kCompressedBytes = size_t{1} << 17;
// The largest window of the format's own tool (`zstd --long=31`). It costs memory only where a frame asks for it.
constexpr int kMaxWindowLog = 31;
constexpr int kGzipWindowBits = 15 + 16;  // zlib's largest; 16 more: gzip and nothing else
constexpr char kGzipPadding = 0;          // behind the last member, as tapes leave it and gzip(1) allows

}  // namespace

Compression CompressionOf(absl::string_view front) {
  if (absl::StartsWith(front, "\x1F\x8B")) return Compression::kGzip;
  if (absl::StartsWith(front, "\x28\xB5\x2F\xFD")) return Compression::kZstd;
  const bool skippable = front.size() >= 4 && (front[0] & 0xF0) == 0x50 && front.substr(1, 3) == "\x2A\x4D\x18";
  return skippable ? Compression::kZstd : Compression::kNone;
}

absl::string_view CompressionName(Compression compression) {
  switch (compression) {
    case Compression::kZstd: return "zstd";
    case Compression::kGzip: return "gzip";
    case Compression::kNone: break;
  }
  return "none";
}

absl::StatusOr<std::string> FileFront(const std::string& path, size_t size) {
  JEVONS_ASSIGN_OR_RETURN(ByteStream stream, ByteStream::Open(path, Compression::kNone));
  std::string front(size, '\0');
  JEVONS_ASSIGN_OR_RETURN(const size_t read, stream.Read(front));
  front.resize(read);
  return front;
}

void ByteStream::Free::operator()(std::FILE* file) const { std::fclose(file); }
void ByteStream::Free::operator()(ZSTD_DCtx_s* context) const { ZSTD_freeDCtx(context); }
void ByteStream::Free::operator()(z_stream_s* stream) const {
  inflateEnd(stream);
  delete stream;
}

absl::StatusOr<ByteStream> ByteStream::Open(const std::string& path, Compression compression) {
  struct stat info;
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    return UsageError(absl::StrFormat("%s: not a regular file; inputs are read twice, so name files", path));
  }
  ByteStream stream;
  stream.path_ = path;
  stream.compression_ = compression;
  stream.file_.reset(std::fopen(path.c_str(), "rbe"));
  if (stream.file_ == nullptr) {
    return IntegrityError(absl::StrFormat("%s: cannot open: %s", path, std::strerror(errno)));
  }
  if (compression == Compression::kZstd) {
    stream.zstd_.reset(ZSTD_createDCtx());
    JEVONS_CHECK(stream.zstd_ != nullptr);
    JEVONS_CHECK(!ZSTD_isError(ZSTD_DCtx_setParameter(stream.zstd_.get(), ZSTD_d_windowLogMax, kMaxWindowLog)));
  } else if (compression == Compression::kGzip) {
    stream.gzip_.reset(new z_stream_s{});
    JEVONS_CHECK(inflateInit2(stream.gzip_.get(), kGzipWindowBits) == Z_OK);
  }
  if (compression != Compression::kNone) stream.compressed_.resize(kCompressedBytes);
  return stream;
}

absl::StatusOr<size_t> ByteStream::Read(std::span<char> out) {
  return compression_ == Compression::kNone ? ReadFile(out) : Decompress(out);
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
  size_t done = 0;
  while (done < out.size()) {
    if (compressed_begin_ == compressed_end_) {
      compressed_begin_ = 0;
      JEVONS_ASSIGN_OR_RETURN(compressed_end_, ReadFile(compressed_));
    }
    if (compressed_end_ == 0 && !frame_open_) break;
    const std::span<char> rest = out.subspan(done);
    auto written = compression_ == Compression::kZstd ? DecompressZstd(rest) : DecompressGzip(rest);
    if (!written.ok()) return written.status();
    done += *written;
    if (compressed_end_ == 0 && *written == 0 && frame_open_) {
      return IntegrityError(absl::StrFormat("%s: ends inside a %s; the file is not complete", path_,
                                            compression_ == Compression::kZstd ? "zstd frame" : "gzip member"));
    }
  }
  return done;
}

absl::StatusOr<size_t> ByteStream::DecompressZstd(std::span<char> out) {
  ZSTD_outBuffer output = {out.data(), out.size(), 0};
  ZSTD_inBuffer input = {compressed_.data(), compressed_end_, compressed_begin_};
  const size_t hint = ZSTD_decompressStream(zstd_.get(), &output, &input);
  if (ZSTD_isError(hint)) return Damaged(ZSTD_getErrorName(hint));
  compressed_begin_ = input.pos;
  frame_open_ = hint != 0;
  return output.pos;
}

absl::StatusOr<size_t> ByteStream::DecompressGzip(std::span<char> out) {
  z_stream_s& stream = *gzip_;
  if (!frame_open_) {
    while (compressed_begin_ < compressed_end_ && compressed_[compressed_begin_] == kGzipPadding) ++compressed_begin_;
    if (compressed_begin_ == compressed_end_) return 0;
    JEVONS_CHECK(inflateReset(&stream) == Z_OK);
    frame_open_ = true;
  }
  constexpr size_t kMost = size_t{1} << 30;  // zlib counts in 32 bits
  stream.next_in = reinterpret_cast<unsigned char*>(compressed_.data()) + compressed_begin_;
  stream.avail_in = static_cast<unsigned>(compressed_end_ - compressed_begin_);
  stream.next_out = reinterpret_cast<unsigned char*>(out.data());
  const auto room = static_cast<unsigned>(std::min(out.size(), kMost));
  stream.avail_out = room;
  const int result = inflate(&stream, Z_NO_FLUSH);
  // Without input or room left it makes no progress, which is no error.
  if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) {
    return Damaged(stream.msg == nullptr ? zError(result) : stream.msg);
  }
  compressed_begin_ = compressed_end_ - stream.avail_in;
  frame_open_ = result != Z_STREAM_END;
  return size_t{room - stream.avail_out};
}

absl::Status ByteStream::Damaged(absl::string_view why) const {
  return IntegrityError(absl::StrFormat("%s: damaged %s data before byte %d of the file: %s", path_,
                                        CompressionName(compression_), position_, why));
}

}  // namespace jevons
