// Cuts an input file into documents, as a stream. What a document holds is only looked at later, on other
// threads.
#ifndef JEVONS_DATA_PREPARE_DOCUMENT_READER_H_
#define JEVONS_DATA_PREPARE_DOCUMENT_READER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/prepare/byte_stream.h"
#include "data/prepare/input_files.h"

namespace jevons {

// A larger one is a bad document (document_text.h): documents are held in memory, some per thread.
inline constexpr int64_t kMaxDocumentBytes = int64_t{64} << 20;

// Where a document of plain text ends.
enum class DocumentRule {
  kBlankLine,  // at a form feed, or at a line of white space only
  kFormFeed,   // at a form feed
  kFile,       // at the end of the file, which is one document to the byte
  kSeparator,  // at a text that the user names, wherever it stands
};

// The rule of a name, "blank-line", "form-feed" or "file"; a usage error for any other.
absl::StatusOr<DocumentRule> DocumentRuleFor(absl::string_view name);
// The same, and "separator".
absl::string_view DocumentRuleName(DocumentRule rule);

struct RawDocument {
  std::string bytes;      // text; or a line of JSON
  int64_t line;           // where it begins, from 1
  int64_t offset;         // where it begins, in bytes of the decompressed file, from 0
  bool too_long = false;  // it has more than kMaxDocumentBytes, and `bytes` is empty
};

// Separators belong to no document: the line break before them, and blank lines around them, are dropped (but
// not by kFile). Documents of white space only, and blank lines between JSON lines, are passed over. A
// byte-order mark at the start of the file is skipped.
class DocumentReader {
 public:
  // `separator` is for DocumentRule::kSeparator: not empty, on one line. Integrity error also if the decompressed file is one of
  // another kind.
  static absl::StatusOr<DocumentReader> Open(const InputFile& input, DocumentRule rule, absl::string_view separator = "");

  // The next document; nothing at the end of the file. Errors as ByteStream's.
  absl::StatusOr<std::optional<RawDocument>> Next();

  int64_t file_position() const { return stream_.file_position(); }

 private:
  struct Segment {
    absl::string_view bytes;
    bool too_long = false;  // `bytes` is the end of more than kMaxDocumentBytes
  };
  DocumentReader(const InputFile& input, DocumentRule rule, absl::string_view separator, ByteStream stream);
  absl::StatusOr<std::optional<RawDocument>> NextLine();
  absl::StatusOr<std::optional<RawDocument>> NextPlain();
  // The next stretch up to and with a line break or separator_; nothing at the end of the file.
  absl::StatusOr<std::optional<Segment>> NextSegment();
  absl::Status Fill();
  size_t SegmentSize(size_t searched) const;
  void Consume(size_t bytes);
  void Append(const Segment& segment);
  std::optional<RawDocument> Take();

  InputFile input_;
  DocumentRule rule_;
  std::string separator_;  // of plain text, a form feed or the user's; empty: line breaks alone end segments
  ByteStream stream_;
  std::vector<char> buffer_;  // grows to hold the longest segment
  size_t begin_ = 0;          // of the bytes in buffer_ that are not consumed yet
  size_t end_ = 0;
  int64_t line_ = 1;  // of the segment last returned
  int64_t offset_ = 0;
  int64_t next_line_ = 1;  // of begin_
  int64_t next_offset_ = 0;
  std::optional<RawDocument> document_;  // being gathered
};

}  // namespace jevons

#endif  // JEVONS_DATA_PREPARE_DOCUMENT_READER_H_
