// Text in, a dataset out: tokenizer.json, train.bin/.idx, validation.bin/.idx and dataset.json in one folder
// (README.md).
//
//   PrepareOptions options;
//   options.inputs = {"bible.txt"};
//   options.output = "data/bible";
//   options.vocab_size = 4096;
//   JEVONS_ASSIGN_OR_RETURN(const PrepareReport report, Prepare(options));
//
// The files are a pure function of the inputs' contents and order and of the options but `threads`. Memory is
// bounded for inputs of any size: by the documents in flight (a few MiB per thread; one document is at most
// kMaxDocumentBytes) and the distinct words of the tokenizer's sample.
#ifndef JEVONS_DATA_PREPARE_PREPARE_H_
#define JEVONS_DATA_PREPARE_PREPARE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/prepare/dataset_info.h"
#include "data/prepare/document_reader.h"
#include "data/prepare/document_text.h"

namespace jevons {

struct PrepareOptions {
  std::vector<std::string> inputs;  // files, folders and patterns (input_files.h)
  std::string output;               // folder; made, with its parents
  bool overwrite = false;           // replace a dataset that is there already

  // Exactly one of the two: a tokenizer is trained to this many tokens, or this tokenizer.json is used as it
  // is.
  int64_t vocab_size = 0;
  std::string tokenizer;
  // Of a given tokenizer: the token that ends each document, by the text of an added token. Empty: the one that
  // Tokenizer::eos_id() finds by its usual names. The folder's tokenizer.json marks it, so that all who read that agree.
  std::string end_token;
  int64_t tokenizer_sample_bytes = int64_t{512} << 20;  // train the tokenizer on about this much of the inputs

  double validation_fraction = 0.01;                      // of the documents, in [0, 1)
  uint64_t seed = 1;                                      // chooses the validation documents
  DocumentRule document_rule = DocumentRule::kBlankLine;  // of plain text
  std::string document_separator;                         // with kSeparator only: the text that ends a document
  std::string text_field = "text";                        // of JSON lines
  BadLine on_bad_line = BadLine::kError;
  int threads = 0;  // 0: one per core that this process may use
};

struct PrepareReport {
  DatasetInfo info;
  int64_t empty_documents = 0;  // JSON lines whose text is empty
  double seconds = 0;           // wall time
};

// Usage error for options and unusable inputs, integrity error for missing and damaged ones (with file and line or byte
// offset), failure for a disk that refuses. Whatever goes wrong, `output` is left as it was.
absl::StatusOr<PrepareReport> Prepare(const PrepareOptions& options);

}  // namespace jevons

#endif  // JEVONS_DATA_PREPARE_PREPARE_H_
