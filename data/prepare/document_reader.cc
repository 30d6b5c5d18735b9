#include "data/prepare/document_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "kernels/base/foreign_file.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;
constexpr absl::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::pair<absl::string_view, DocumentRule> kRules[] = {{"blank-line", DocumentRule::kBlankLine},
                                                                 {"form-feed", DocumentRule::kFormFeed},
                                                                 {"file", DocumentRule::kFile},
                                                                 {"separator", DocumentRule::kSeparator}};

bool IsBlank(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) { return absl::ascii_isspace(c); });
}

}  // namespace

absl::StatusOr<DocumentRule> DocumentRuleFor(absl::string_view name) {
  for (const auto& [known, rule] : kRules) {
    if (name == known && rule != DocumentRule::kSeparator) return rule;
  }
  return UsageError(absl::StrFormat("document rule \"%s\" is unknown; use blank-line, form-feed or file", name));
}

absl::string_view DocumentRuleName(DocumentRule rule) {
  return std::find_if(std::begin(kRules), std::end(kRules), [rule](const auto& r) { return r.second == rule; })->first;
}

DocumentReader::DocumentReader(const InputFile& input, DocumentRule rule, absl::string_view separator, ByteStream stream)
    : input_(input), rule_(rule), stream_(std::move(stream)), buffer_(kBufferBytes) {
  if (input.format != TextFormat::kPlain || rule == DocumentRule::kFile) return;
  separator_ = std::string(rule == DocumentRule::kSeparator ? separator : "\f");
}

absl::StatusOr<DocumentReader> DocumentReader::Open(const InputFile& input, DocumentRule rule, absl::string_view separator) {
  JEVONS_ASSIGN_OR_RETURN(ByteStream stream, ByteStream::Open(input.path, input.compression));
  DocumentReader reader(input, rule, separator, std::move(stream));
  JEVONS_RETURN_IF_ERROR(reader.Fill());
  const absl::string_view front(reader.buffer_.data(), reader.end_);
  JEVONS_RETURN_IF_ERROR(RefuseForeignFile(input.path, front));
  if (absl::StartsWith(front, kByteOrderMark)) reader.Consume(kByteOrderMark.size());
  return reader;
}

absl::StatusOr<std::optional<RawDocument>> DocumentReader::Next() {
  return input_.format == TextFormat::kPlain ? NextPlain() : NextLine();
}

absl::StatusOr<std::optional<RawDocument>> DocumentReader::NextLine() {
  while (true) {
    JEVONS_ASSIGN_OR_RETURN(const std::optional<Segment> line, NextSegment());
    if (!line) return std::nullopt;
    if (line->too_long) return RawDocument{"", line_, offset_, true};
    if (!IsBlank(line->bytes)) return RawDocument{std::string(line->bytes), line_, offset_};
  }
}

absl::StatusOr<std::optional<RawDocument>> DocumentReader::NextPlain() {
  while (true) {
    JEVONS_ASSIGN_OR_RETURN(std::optional<Segment> segment, NextSegment());
    if (!segment) return Take();
    bool separates = !separator_.empty() && absl::ConsumeSuffix(&segment->bytes, separator_);
    const bool blank = rule_ != DocumentRule::kFile && !segment->too_long && IsBlank(segment->bytes);
    if (blank && (rule_ == DocumentRule::kBlankLine || !document_)) {
      separates = separates || rule_ == DocumentRule::kBlankLine;
      segment->bytes = "";
    }
    Append(*segment);
    if (!separates) continue;
    if (std::optional<RawDocument> document = Take()) return document;
  }
}

void DocumentReader::Append(const Segment& segment) {
  if (segment.bytes.empty() && !segment.too_long) return;
  if (!document_) document_ = RawDocument{"", line_, offset_};
  RawDocument& document = *document_;
  document.too_long = document.too_long || segment.too_long ||
                      static_cast<int64_t>(document.bytes.size() + segment.bytes.size()) > kMaxDocumentBytes;
  if (document.too_long) {
    document.bytes = std::string();
  } else {
    document.bytes.append(segment.bytes.data(), segment.bytes.size());
  }
}

std::optional<RawDocument> DocumentReader::Take() {
  std::optional<RawDocument> document = std::exchange(document_, std::nullopt);
  if (!document || document->too_long) return document;
  if (IsBlank(document->bytes)) return std::nullopt;
  if (rule_ != DocumentRule::kFile) document->bytes.erase(document->bytes.find_last_not_of("\r\n") + 1);
  return document;
}

absl::StatusOr<std::optional<DocumentReader::Segment>> DocumentReader::NextSegment() {
  line_ = next_line_;
  offset_ = next_offset_;
  bool too_long = false;
  size_t size = SegmentSize(0);
  while (size == 0) {
    if (end_ - begin_ > kMaxDocumentBytes) {
      too_long = true;
      Consume(end_ - begin_ - separator_.size());  // what stays may be the front of a separator
    }
    const size_t searched = end_ - begin_;
    JEVONS_RETURN_IF_ERROR(Fill());
    if (end_ - begin_ == searched) {  // the end of the file
      size = searched;
      break;
    }
    size = SegmentSize(searched);
  }
  if (size == 0 && !too_long) return std::nullopt;
  too_long = too_long || static_cast<int64_t>(size) > kMaxDocumentBytes;
  const Segment segment = {absl::string_view(buffer_.data() + begin_, size), too_long};
  Consume(size);
  if (absl::EndsWith(segment.bytes, "\n")) ++next_line_;
  return segment;
}

void DocumentReader::Consume(size_t bytes) {
  begin_ += bytes;
  next_offset_ += static_cast<int64_t>(bytes);
}

// The size of the segment at begin_, of which `searched` bytes are known to hold no end; 0 if it ends beyond
// end_.
size_t DocumentReader::SegmentSize(size_t searched) const {
  const absl::string_view bytes(buffer_.data() + begin_, end_ - begin_);
  size_t end = 0;
  if (const void* found = std::memchr(bytes.data() + searched, '\n', bytes.size() - searched); found != nullptr) {
    end = static_cast<size_t>(static_cast<const char*>(found) - bytes.data()) + 1;
  }
  if (separator_.empty()) return end;
  const size_t from = searched - std::min(searched, separator_.size() - 1);
  const size_t limit = end == 0 ? bytes.size() : end;
  const void* found = ::memmem(bytes.data() + from, limit - from, separator_.data(), separator_.size());
  if (found == nullptr) return end;
  return static_cast<size_t>(static_cast<const char*>(found) - bytes.data()) + separator_.size();
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

}  // namespace jevons
