#include "data/prepare/document_text.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "data/prepare/json_line.h"
#include "data/tokenizer/unicode.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

absl::Status CheckUtf8(const RawDocument& document, const InputFile& input) {
  const size_t bad = FirstInvalidUtf8(document.bytes);
  if (bad == document.bytes.size()) return absl::OkStatus();
  const auto begin = document.bytes.begin();
  return IntegrityError(absl::StrFormat(
      "%s:%d: byte %d%s (0x%02X) is not UTF-8; convert the file to UTF-8 first, for example with iconv", input.path,
      document.line + std::count(begin, begin + static_cast<int64_t>(bad), '\n'), document.offset + static_cast<int64_t>(bad),
      input.compression == Compression::kNone ? "" : " of the decompressed text",
      static_cast<unsigned char>(document.bytes[bad])));
}

}  // namespace

absl::StatusOr<BadLine> BadLineFor(absl::string_view name) {
  if (name == "error") return BadLine::kError;
  if (name == "skip") return BadLine::kSkip;
  return UsageError(absl::StrFormat("bad line policy \"%s\" is unknown; use error or skip", name));
}

absl::StatusOr<std::string> DocumentText(RawDocument document, const InputFile& input, const std::string& field) {
  const bool plain = input.format == TextFormat::kPlain;
  if (document.too_long) {
    return IntegrityError(absl::StrFormat("%s:%d: a %s of more than %d MiB begins here; %s", input.path, document.line,
                                          plain ? "document" : "line", kMaxDocumentBytes >> 20,
                                          plain ? "separate the documents by blank lines, form feeds or a text of their own"
                                                : "write each object on a line of its own, and divide a document of that size"));
  }
  if (plain) {
    JEVONS_RETURN_IF_ERROR(CheckUtf8(document, input));
    return std::move(document.bytes);
  }
  absl::StatusOr<std::string> text = JsonLineField(document.bytes, field);
  if (!text.ok()) return Annotate(text.status(), absl::StrFormat("%s:%d", input.path, document.line));
  return text;
}

}  // namespace jevons
