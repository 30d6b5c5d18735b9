// From what stands in a file to the text of a document.
#ifndef JEVONS_DATA_PREPARE_DOCUMENT_TEXT_H_
#define JEVONS_DATA_PREPARE_DOCUMENT_TEXT_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/prepare/document_reader.h"

namespace jevons {

// What becomes of a bad document: one that DocumentText refuses.
enum class BadLine {
  kError,  // it ends the run
  kSkip,   // it is left out, and counted
};

// The policy of a name, "error" or "skip"; a usage error for any other.
absl::StatusOr<BadLine> BadLineFor(absl::string_view name);

// The text of a document of `input`: valid UTF-8; empty if `field` of a JSON line is. `field` is for JSON
// lines only. Integrity error with file and line for a document that is too long, for a line that JsonLineField refuses, and,
// with the byte, for plain text that is not UTF-8.
absl::StatusOr<std::string> DocumentText(RawDocument document, const InputFile& input, const std::string& field);

}  // namespace jevons

#endif  // JEVONS_DATA_PREPARE_DOCUMENT_TEXT_H_
