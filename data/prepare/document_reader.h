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

namespace jevons {

// A larger one is an error: documents are held in memory, some per thread.
inline constexpr int64_t kMaxDocumentBytes = int64_t{64} << 20;

enum class TextFormat { kPlain, kJsonLines };

struct InputFile {
  std::string path;
  TextFormat format;
  Compression compression;
};

// The format by the suffix; a usage error that lists the legal suffixes for any other.
absl::StatusOr<InputFile> InputFileFor(const std::string& path);

// Where a document of plain text ends.
enum class DocumentRule {
  kBlankLine,  // at a form feed, or at a line of white space only
  kFormFeed,   // at a form feed
  kFile,       // at the end of the file, which is one document to the byte
};

// The rule of a name, "blank-line", "form-feed" or "file"; a usage error for any other.
absl::StatusOr<DocumentRule> DocumentRuleFor(absl::string_view name);
absl::string_view DocumentRuleName(DocumentRule rule);

struct RawDocument {
  std::string bytes;  // text; or a line of JSON
  int64_t line;       // where it begins, from 1
  int64_t offset;     // where it begins, in bytes of the decompressed file, from 0
};

// Separators belong to no document: the line break before them, and blank lines around them, are dropped (but
// not by kFile). Documents of white space only, and blank lines between JSON lines, are passed over. A
// byte-order mark at the start of the file is skipped.
class DocumentReader {
 public:
  static absl::StatusOr<DocumentReader> Open(const InputFile& input, DocumentRule rule);

  // The next document; nothing at the end of the file. Errors as ByteStream's, and an integrity error for a
  // document of more than kMaxDocumentBytes.
  absl::StatusOr<std::optional<RawDocument>> Next();

  int64_t file_position() const { return stream_.file_position(); }

 private:
  DocumentReader(const InputFile& input, DocumentRule rule, ByteStream stream);
  absl::StatusOr<std::optional<RawDocument>> NextLine();
  absl::StatusOr<std::optional<RawDocument>> NextPlain();
  // The next stretch up to and with a line break (or form feed, where that separates); empty at the end of
  // the file.
  absl::StatusOr<absl::string_view> NextSegment();
  absl::Status Fill();
  size_t SegmentSize(size_t searched) const;
  absl::Status Append(absl::string_view bytes);
  std::optional<RawDocument> Take();
  absl::Status TooLong(int64_t line) const;

  InputFile input_;
  DocumentRule rule_;
  ByteStream stream_;
  std::vector<char> buffer_;  // grows to hold the longest segment
  size_t begin_ = 0;          // of the bytes in buffer_ that are not consumed yet
  size_t end_ = 0;
  RawDocument at_ = {"", 1, 0};  // line and offset of the segment last returned
  int64_t next_line_ = 1;        // of begin_
  int64_t next_offset_ = 0;
  RawDocument document_;  // being gathered; empty between documents
};

}  // namespace jevons

#endif  // JEVONS_DATA_PREPARE_DOCUMENT_READER_H_
