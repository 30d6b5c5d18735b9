// The inputs as one sequence of documents, and its reading in batches.
#ifndef JEVONS_DATA_PREPARE_CORPUS_H_
#define JEVONS_DATA_PREPARE_CORPUS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/prepare/document_reader.h"
#include "data/prepare/document_text.h"
#include "data/prepare/progress.h"

namespace jevons {

struct Corpus {
  std::vector<InputFile> files;
  DocumentRule rule = DocumentRule::kBlankLine;
  std::string separator;  // of DocumentRule::kSeparator
  std::string text_field;
  BadLine on_bad_line = BadLine::kError;
  int threads = 1;
};

// About 1 MiB of documents of one file, or a single larger one.
struct DocumentBatch {
  const InputFile* input;
  int64_t input_index;
  std::vector<RawDocument> documents;
};

// Yields the documents of all files in order. The batches are the same each time, whoever works on them.
class CorpusReader {
 public:
  // The corpus must outlive the reader; `label` names the pass in the progress.
  CorpusReader(const Corpus& corpus, const std::string& label);

  // The next batch, which is not empty; nothing at the end.
  absl::StatusOr<std::optional<DocumentBatch>> Next();

 private:
  const Corpus& corpus_;
  Progress progress_;
  size_t file_ = 0;
  int64_t bytes_before_ = 0;  // of the files before the present one, on disk
  std::optional<DocumentReader> reader_;
};

// Bytes on disk of each file, 0 for one that is not there.
std::vector<int64_t> FileSizes(const Corpus& corpus);

}  // namespace jevons

#endif  // JEVONS_DATA_PREPARE_CORPUS_H_
