#include "data/prepare/prepare.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>

#include "absl/strings/str_format.h"
#include "data/prepare/corpus.h"
#include "data/prepare/encode.h"
#include "data/prepare/output_folder.h"
#include "data/prepare/split.h"
#include "data/prepare/survey.h"
#include "data/tokenizer/text_file.h"
#include "data/tokenizer/trainer.h"
#include "kernels/base/log.h"
#include "kernels/base/machine.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

absl::Status CheckOptions(const PrepareOptions& options) {
  if (options.inputs.empty()) return UsageError("input: name at least one file");
  if ((options.vocab_size != 0) == !options.tokenizer.empty()) {
    return UsageError("give either vocab_size, to train a tokenizer, or the path of a tokenizer.json");
  }
  if (options.tokenizer.empty()) JEVONS_RETURN_IF_ERROR(CheckVocabSize(options.vocab_size));
  if (options.tokenizer_sample_bytes <= 0) {
    return UsageError(
        absl::StrFormat("tokenizer_sample_bytes: %d is not above 0", options.tokenizer_sample_bytes));
  }
  if (!(options.validation_fraction >= 0 && options.validation_fraction < 1)) {
    return UsageError(
        absl::StrFormat("validation_fraction: %g is not in [0, 1)", options.validation_fraction));
  }
  if (options.text_field.empty()) return UsageError("text_field: name the field that holds the text");
  if (options.threads < 0 || options.threads > 1024) {
    return UsageError(absl::StrFormat("threads: %d is not in 0 (one per core) to 1024", options.threads));
  }
  return absl::OkStatus();
}

absl::StatusOr<Corpus> OpenCorpus(const PrepareOptions& options) {
  Corpus corpus;
  corpus.rule = options.document_rule;
  corpus.text_field = options.text_field;
  corpus.threads = options.threads > 0 ? options.threads : UsableCores();
  for (const std::string& path : options.inputs) {
    JEVONS_ASSIGN_OR_RETURN(const InputFile file, InputFileFor(path));
    JEVONS_RETURN_IF_ERROR(
        DocumentReader::Open(file, corpus.rule).status());  // unreadable: said before any work
    for (const InputFile& other : corpus.files) {
      std::error_code error;
      if (std::filesystem::equivalent(path, other.path, error)) {
        return UsageError(absl::StrFormat("%s and %s are the same file; its documents would count twice",
                                          other.path, path));
      }
    }
    corpus.files.push_back(file);
  }
  return corpus;
}

// The tokenizer and the text of its file: the very bytes of a given one.
struct TokenizerFile {
  Tokenizer tokenizer;
  std::string text;
};

absl::StatusOr<TokenizerFile> LoadTokenizer(const std::string& path) {
  constexpr int64_t kMaxBytes = int64_t{1} << 30;
  JEVONS_ASSIGN_OR_RETURN(std::string text, ReadTextFile(path, kMaxBytes));
  JEVONS_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::FromJson(text, path));
  return TokenizerFile{std::move(tokenizer), std::move(text)};
}

absl::StatusOr<TokenizerFile> Train(const Survey& survey, const PrepareOptions& options, int threads) {
  LogInfo(absl::StrFormat("training a tokenizer of %d tokens on %.1f MB of text, %d distinct words",
                          options.vocab_size, static_cast<double>(survey.sample_bytes) / 1e6,
                          survey.words.size()));
  Progress progress("training the tokenizer", "tokens", options.vocab_size);
  BpeTrainingOptions training{.vocab_size = options.vocab_size, .threads = threads};
  training.on_progress = [&progress](int64_t tokens) { progress.Update(tokens); };
  JEVONS_ASSIGN_OR_RETURN(Tokenizer tokenizer, TrainTokenizer(survey.words, training));
  if (tokenizer.vocab_size() < options.vocab_size) {
    LogWarning(absl::StrFormat("the text has words for %d tokens only, of the %d asked for",
                               tokenizer.vocab_size(), options.vocab_size));
  }
  std::string text = tokenizer.ToJson();
  return TokenizerFile{std::move(tokenizer), std::move(text)};
}

absl::Status DescribeFiles(const std::string& folder, DatasetInfo& info) {
  std::vector<std::string> names = {kTokenizerFile, "train.bin", "train.idx"};
  if (info.validation.documents > 0) names.insert(names.end(), {"validation.bin", "validation.idx"});
  for (const std::string& name : names) {
    JEVONS_ASSIGN_OR_RETURN(info.files[name], DescribeFile(folder + "/" + name));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PrepareReport> Prepare(const PrepareOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  JEVONS_RETURN_IF_ERROR(CheckOptions(options));
  std::optional<TokenizerFile> tokenizer;
  if (!options.tokenizer.empty()) {
    JEVONS_ASSIGN_OR_RETURN(tokenizer, LoadTokenizer(options.tokenizer));
  }
  JEVONS_ASSIGN_OR_RETURN(const Corpus corpus, OpenCorpus(options));
  JEVONS_ASSIGN_OR_RETURN(
      OutputFolder output,
      OutputFolder::Create(options.output, options.overwrite ? Overwrite::kYes : Overwrite::kNo));

  JEVONS_ASSIGN_OR_RETURN(const Survey survey,
                          SurveyCorpus(corpus, tokenizer ? 0 : options.tokenizer_sample_bytes));
  if (survey.documents == 0) return IntegrityError("the inputs hold no text: no document was found in them");
  if (!tokenizer) {
    JEVONS_ASSIGN_OR_RETURN(tokenizer, Train(survey, options, corpus.threads));
  }
  JEVONS_RETURN_IF_ERROR(WriteTextFile(output.staging() + "/" + kTokenizerFile, tokenizer->text));

  const ValidationSplit split(survey.documents, options.validation_fraction, options.seed);
  if (options.validation_fraction > 0 && !split.has_validation()) {
    LogWarning("a single document: it is for training, and there is no validation set");
  }
  JEVONS_ASSIGN_OR_RETURN(const EncodedCorpus encoded, EncodeCorpus(corpus, tokenizer->tokenizer, split,
                                                                    survey.documents, output.staging()));
  PrepareReport report;
  report.info.vocab_size = tokenizer->tokenizer.vocab_size();
  report.info.train = encoded.train;
  report.info.validation = encoded.validation;
  report.info.seed = options.seed;
  report.info.validation_fraction = options.validation_fraction;
  JEVONS_RETURN_IF_ERROR(DescribeFiles(output.staging(), report.info));
  JEVONS_RETURN_IF_ERROR(SaveDatasetInfo(output.staging(), report.info));
  JEVONS_RETURN_IF_ERROR(output.Commit());
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace jevons
