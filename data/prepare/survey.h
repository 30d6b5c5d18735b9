// The first pass: is every document sound, how many are there, and which words do they hold?
#ifndef JEVONS_DATA_PREPARE_SURVEY_H_
#define JEVONS_DATA_PREPARE_SURVEY_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "data/prepare/corpus.h"
#include "data/tokenizer/word_counts.h"

namespace jevons {

struct Survey {
  int64_t documents = 0;                   // that are not empty, nor left out
  std::vector<int64_t> documents_of_file;  // the same, by file
  int64_t empty_documents = 0;             // JSON lines whose text is empty: they are left out
  int64_t bad_documents = 0;               // left out, as BadLine::kSkip asks for; warnings name the first of them
  int64_t bytes = 0;                       // of their text
  int64_t sample_bytes = 0;                // of the text whose words were counted
  WordCounts words;
};

// Counts the words of about `sample_bytes` of the inputs (0: of none): of each file the front, in proportion
// to the files' sizes on disk; so of everything if the files together are no larger. Errors are those of the
// documents, but for the bad ones that are left out.
absl::StatusOr<Survey> SurveyCorpus(const Corpus& corpus, int64_t sample_bytes);

}  // namespace jevons

#endif  // JEVONS_DATA_PREPARE_SURVEY_H_
