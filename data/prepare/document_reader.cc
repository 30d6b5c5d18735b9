#include "data/prepare/document_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;
constexpr absl::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::pair<absl::string_view, DocumentRule> kRules[] = {{"blank-line", DocumentRule::kBlankLine},
                                                                 {"form-feed", DocumentRule::kFormFeed},
                                                                 {"file", DocumentRule::kFile}};

bool IsBlank(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) { return absl::ascii_isspace(c); });
}

}  // namespace

absl::StatusOr<InputFile> InputFileFor(const std::string& path) {
  absl::string_view stem = path;
  const Compression compression = absl::EndsWith(stem, ".zst") ? Compression::kZstd : Compression::kNone;
  if (compression == Compression::kZstd) stem.remove_suffix(4);
  if (absl::EndsWith(stem, ".txt")) return InputFile{path, TextFormat::kPlain, compression};
  if (absl::EndsWith(stem, ".jsonl")) return InputFile{path, TextFormat::kJsonLines, compression};
  return UsageError(absl::StrFormat(
      "%s: unknown kind of input; the name must end in .txt, .jsonl, .txt.zst or .jsonl.zst", path));
}

absl::StatusOr<DocumentRule> DocumentRuleFor(absl::string_view name) {
  for (const auto& [known, rule] : kRules) {
    if (name == known) return rule;
  }
  return UsageError(
      absl::StrFormat("document rule \"%s\" is unknown; use blank-line, form-feed or file", name));
}

absl::string_view DocumentRuleName(DocumentRule rule) {
  return std::find_if(std::begin(kRules), std::end(kRules),
                      [rule](const auto& r) { return r.second == rule; })
      ->first;
}

DocumentReader::DocumentReader(const InputFile& input, DocumentRule rule, ByteStream stream)
    : input_(input), rule_(rule), stream_(std::move(stream)), buffer_(kBufferBytes), document_({"", 1, 0}) {}

absl::StatusOr<DocumentReader> DocumentReader::Open(const InputFile& input, DocumentRule rule) {
  JEVONS_ASSIGN_OR_RETURN(ByteStream stream, ByteStream::Open(input.path, input.compression));
  DocumentReader reader(input, rule, std::move(stream));
  JEVONS_RETURN_IF_ERROR(reader.Fill());
  if (absl::StartsWith(absl::string_view(reader.buffer_.data(), reader.end_), kByteOrderMark)) {
    reader.begin_ = reader.next_offset_ = kByteOrderMark.size();
  }
  return reader;
}

absl::StatusOr<std::optional<RawDocument>> DocumentReader::Next() {
  return input_.format == TextFormat::kPlain ? NextPlain() : NextLine();
}

absl::StatusOr<std::optional<RawDocument>> DocumentReader::NextLine() {
  while (true) {
    JEVONS_ASSIGN_OR_RETURN(const absl::string_view line, NextSegment());
    if (line.empty()) return std::nullopt;
    if (!IsBlank(line)) return RawDocument{std::string(line), at_.line, at_.offset};
  }
}

absl::StatusOr<std::optional<RawDocument>> DocumentReader::NextPlain() {
  while (true) {
    JEVONS_ASSIGN_OR_RETURN(absl::string_view segment, NextSegment());
    if (segment.empty()) return Take();
    bool separates = false;
    if (rule_ != DocumentRule::kFile) {
      separates = absl::ConsumeSuffix(&segment, "\f");
      if (IsBlank(segment) && (rule_ == DocumentRule::kBlankLine || document_.bytes.empty())) {
        separates = separates || rule_ == DocumentRule::kBlankLine;
        segment = "";
      }
    }
    JEVONS_RETURN_IF_ERROR(Append(segment));
    if (!separates) continue;
    if (std::optional<RawDocument> document = Take()) return document;
  }
}

absl::Status DocumentReader::Append(absl::string_view bytes) {
  if (bytes.empty()) return absl::OkStatus();
  if (document_.bytes.empty()) document_ = {"", at_.line, at_.offset};
  if (document_.bytes.size() + bytes.size() > kMaxDocumentBytes) return TooLong(document_.line);
  document_.bytes.append(bytes.data(), bytes.size());
  return absl::OkStatus();
}

std::optional<RawDocument> DocumentReader::Take() {
  RawDocument document = std::exchange(document_, {"", 1, 0});
  if (IsBlank(document.bytes)) return std::nullopt;
  if (rule_ != DocumentRule::kFile) {
    document.bytes.erase(document.bytes.find_last_not_of("\r\n") + 1);
  }
  return document;
}

absl::StatusOr<absl::string_view> DocumentReader::NextSegment() {
  size_t size = SegmentSize(0);
  while (size == 0) {
    const size_t searched = end_ - begin_;
    if (searched > kMaxDocumentBytes) return TooLong(next_line_);
    JEVONS_RETURN_IF_ERROR(Fill());
    if (end_ - begin_ == searched) {  // the end of the file
      size = searched;
      break;
    }
    size = SegmentSize(searched);
  }
  const absl::string_view segment(buffer_.data() + begin_, size);
  at_.line = next_line_;
  at_.offset = next_offset_;
  begin_ += size;
  next_offset_ += static_cast<int64_t>(size);
  if (absl::EndsWith(segment, "\n")) ++next_line_;
  return segment;
}

// The size of the segment at begin_, of which `searched` bytes are known to hold no end; 0 if it ends beyond
// end_.
size_t DocumentReader::SegmentSize(size_t searched) const {
  const char* const from = buffer_.data() + begin_ + searched;
  const char* const last = buffer_.data() + end_;
  const auto find = [from](char c, const char* limit) {
    const void* const found =
        limit == from ? nullptr : std::memchr(from, c, static_cast<size_t>(limit - from));
    return static_cast<const char*>(found);
  };
  const char* found = find('\n', last);
  if (input_.format == TextFormat::kPlain && rule_ != DocumentRule::kFile) {
    if (const char* feed = find('\f', found == nullptr ? last : found); feed != nullptr) found = feed;
  }
  return found == nullptr ? 0 : static_cast<size_t>(found + 1 - (buffer_.data() + begin_));
}

// Moves what is left to the front, makes room if that is half of the buffer, and reads more behind it.
absl::Status DocumentReader::Fill() {
  std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  if (end_ > buffer_.size() / 2) buffer_.resize(2 * buffer_.size());
  JEVONS_ASSIGN_OR_RETURN(const size_t n, stream_.Read(std::span(buffer_).subspan(end_)));
  end_ += n;
  return absl::OkStatus();
}

absl::Status DocumentReader::TooLong(int64_t line) const {
  return IntegrityError(absl::StrFormat(
      "%s:%d: a document of more than %d MiB begins here; separate the documents%s", input_.path, line,
      kMaxDocumentBytes >> 20, input_.format == TextFormat::kPlain ? " by blank lines or form feeds" : ""));
}

}  // namespace jevons
