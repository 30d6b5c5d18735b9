#include "data/prepare/survey.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "data/prepare/document_text.h"
#include "data/prepare/ordered_pipeline.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

constexpr int64_t kMostBadNamed = 5;

struct BatchSurvey {
  absl::Status status;
  int64_t input_index = 0;
  std::vector<absl::Status> bad;
  int64_t documents = 0;
  int64_t empty_documents = 0;
  int64_t bytes = 0;
  int64_t sample_bytes = 0;
};

// How far into each (decompressed) file its words are counted.
std::vector<int64_t> SampleEnds(const Corpus& corpus, int64_t sample_bytes) {
  std::vector<int64_t> ends = FileSizes(corpus);
  const double total = static_cast<double>(std::max<int64_t>(1, std::accumulate(ends.begin(), ends.end(), int64_t{0})));
  for (int64_t& end : ends) {
    end = static_cast<int64_t>(static_cast<double>(sample_bytes) * (static_cast<double>(end) / total)) + 1;
  }
  return ends;
}

}  // namespace

absl::StatusOr<Survey> SurveyCorpus(const Corpus& corpus, int64_t sample_bytes) {
  std::vector<int64_t> sample_ends(corpus.files.size(), 0);
  if (sample_bytes > 0) sample_ends = SampleEnds(corpus, sample_bytes);
  std::vector<WordCounter> counters(corpus.threads, WordCounter(Pretokenizer::DeepSeekV3()));
  CorpusReader reader(corpus, "reading");
  Survey survey;
  survey.documents_of_file.assign(corpus.files.size(), 0);

  const auto examine = [&](int worker, DocumentBatch batch) {
    BatchSurvey result;
    result.input_index = batch.input_index;
    for (RawDocument& raw : batch.documents) {
      const bool sampled = raw.offset < sample_ends[batch.input_index];
      const absl::StatusOr<std::string> text = DocumentText(std::move(raw), *batch.input, corpus.text_field);
      if (!text.ok() && corpus.on_bad_line == BadLine::kSkip) {
        result.bad.push_back(text.status());
        continue;
      }
      if (!text.ok()) {
        result.status = text.status();
        return result;
      }
      const int64_t size = static_cast<int64_t>(text->size());
      result.documents += size > 0;
      result.empty_documents += size == 0;
      result.bytes += size;
      if (!sampled) continue;
      result.sample_bytes += size;
      counters[worker].Add(*text);
    }
    return result;
  };
  const auto add = [&](const BatchSurvey& result) {
    survey.documents += result.documents;
    survey.documents_of_file[result.input_index] += result.documents;
    survey.empty_documents += result.empty_documents;
    for (const absl::Status& bad : result.bad) {
      if (++survey.bad_documents <= kMostBadNamed) LogWarning(absl::StrCat("left out: ", bad.message()));
    }
    survey.bytes += result.bytes;
    survey.sample_bytes += result.sample_bytes;
    return result.status;
  };
  JEVONS_RETURN_IF_ERROR((RunOrdered<DocumentBatch, BatchSurvey>(
      corpus.threads, [&] { return reader.Next(); }, examine, add)));
  for (size_t i = 1; i < counters.size(); ++i) counters[0].Absorb(counters[i]);
  survey.words = counters[0].TakeCounts();
  return survey;
}

}  // namespace jevons
