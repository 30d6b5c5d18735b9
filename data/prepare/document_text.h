// From what stands in a file to the text of a document.
#ifndef JEVONS_DATA_PREPARE_DOCUMENT_TEXT_H_
#define JEVONS_DATA_PREPARE_DOCUMENT_TEXT_H_

#include <string>

#include "absl/status/statusor.h"
#include "data/prepare/document_reader.h"

namespace jevons {

// The text of a document of `input`: valid UTF-8; empty if `field` of a JSON line is. `field` is for JSON
// lines only. Integrity error with file and line for what is not a JSON object with that field, a string;
// with file and byte for what is not UTF-8.
absl::StatusOr<std::string> DocumentText(RawDocument document, const InputFile& input,
                                         const std::string& field);

}  // namespace jevons

#endif  // JEVONS_DATA_PREPARE_DOCUMENT_TEXT_H_
