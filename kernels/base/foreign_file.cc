#include "kernels/base/foreign_file.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

using absl::string_view;

// The bytes with their size: some are NUL.
struct Signature {
  string_view bytes;
  const char* kind;
};
constexpr char kAppleDouble[] = "metadata that macOS keeps beside a file (AppleDouble), not the file; delete it or leave it out";
constexpr char kBzip2[] = "compressed with bzip2; decompress it first";
constexpr char kUtf16[] = "text in UTF-16; convert it to UTF-8, for example with iconv -f UTF-16 -t UTF-8";
constexpr char kUtf32[] = "text in UTF-32; convert it to UTF-8, for example with iconv -f UTF-32 -t UTF-8";

// What is longer comes first where one begins with another.
constexpr Signature kSignatures[] = {
    {string_view("version https://git-lfs.github.com/spec/", 40),
     "a Git LFS pointer, which stands for the file in a clone made without git-lfs; run `git lfs pull` there"},
    {string_view("\x00\x05\x16\x07", 4), kAppleDouble},
    {string_view("\x1F\x8B", 2), "compressed with gzip; decompress it first"},
    {string_view("\x28\xB5\x2F\xFD", 4), "compressed with zstd; decompress it first"},
    {string_view("\xFD\x37zXZ\0", 6), "compressed with xz; decompress it first"},
    {string_view("\x04\x22\x4D\x18", 4), "compressed with lz4; decompress it first"},
    {string_view("PK\x03\x04", 4), "a zip archive; unpack it first"},
    {string_view("7z\xBC\xAF\x27\x1C", 6), "a 7-zip archive; unpack it first"},
    {string_view("PAR1", 4), "a Parquet table; write its text as JSON lines first"},
    {string_view("ARROW1\0", 7), "an Arrow table; write its text as JSON lines first"},
    {string_view("\x89HDF\r\n\x1A\n", 8), "an HDF5 file; write its text as JSON lines first"},
    {string_view("%PDF-", 5), "a PDF; extract its text first"},
    {string_view("\xFF\xFE\0\0", 4), kUtf32},
    {string_view("\0\0\xFE\xFF", 4), kUtf32},
    {string_view("\xFF\xFE", 2), kUtf16},
    {string_view("\xFE\xFF", 2), kUtf16},
};

bool IsBzip2(string_view front) {  // "BZh", a digit, and the digits of pi
  return front.size() >= 10 && absl::StartsWith(front, "BZh") && front[3] >= '1' && front[3] <= '9' &&
         absl::StartsWith(front.substr(4), "1AY&SY");
}

}  // namespace

bool IsAppleDoubleName(string_view path) { return absl::StartsWith(path.substr(path.rfind('/') + 1), "._"); }

std::string ForeignFileKind(string_view path, string_view front) {
  if (IsAppleDoubleName(path)) return kAppleDouble;
  if (IsBzip2(front)) return kBzip2;
  for (const Signature& signature : kSignatures) {
    if (absl::StartsWith(front, signature.bytes)) return signature.kind;
  }
  return "";
}

absl::Status RefuseForeignFile(string_view path, string_view front) {
  const std::string kind = ForeignFileKind(path, front);
  if (kind.empty()) return absl::OkStatus();
  return IntegrityError(absl::StrCat(path, ": is ", kind));
}

}  // namespace jevons
