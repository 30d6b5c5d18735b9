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
#include "data/tokenizer/unicode.h"
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
    return UsageError(absl::StrFormat("tokenizer_sample_bytes: %d is not above 0", options.tokenizer_sample_bytes));
  }
  if (!(options.validation_fraction >= 0 && options.validation_fraction < 1)) {
    return UsageError(absl::StrFormat("validation_fraction: %g is not in [0, 1)", options.validation_fraction));
  }
  const std::string& separator = options.document_separator;
  if ((options.document_rule == DocumentRule::kSeparator) == separator.empty()) {
    return UsageError("document_separator: is for the rule of that name only, and not empty there");
  }
  if (separator.find_first_of("\r\n") != std::string::npos || FirstInvalidUtf8(separator) != separator.size()) {
    return UsageError("document_separator: must be UTF-8 without line breaks");
  }
  if (!options.end_token.empty() && options.tokenizer.empty()) {
    return UsageError("end_token: is for a given tokenizer; one that is trained has its own");
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
  corpus.separator = options.document_separator;
  corpus.on_bad_line = options.on_bad_line;
  corpus.text_field = options.text_field;
  corpus.threads = options.threads > 0 ? options.threads : UsableCores();
  JEVONS_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ExpandInputs(options.inputs));
  for (const std::string& path : paths) {
    JEVONS_ASSIGN_OR_RETURN(const InputFile file, InputFileFor(path));
    JEVONS_RETURN_IF_ERROR(
        DocumentReader::Open(file, corpus.rule, corpus.separator).status());  // unreadable: said before any work
    for (const InputFile& other : corpus.files) {
      std::error_code error;
      if (std::filesystem::equivalent(path, other.path, error)) {
        return UsageError(absl::StrFormat("%s and %s are the same file; its documents would count twice", other.path, path));
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

absl::StatusOr<TokenizerFile> LoadTokenizer(const std::string& path, const std::string& end_token) {
  constexpr int64_t kMaxBytes = int64_t{1} << 30;
  JEVONS_ASSIGN_OR_RETURN(std::string text, ReadTextFile(path, kMaxBytes));
  if (!end_token.empty()) {
    JEVONS_ASSIGN_OR_RETURN(const Tokenizer unmarked, Tokenizer::FromJson(text, path, EndToken::kOptional));
    absl::StatusOr<Tokenizer> marked = unmarked.WithEndToken(end_token);
    if (!marked.ok()) return Annotate(marked.status(), path);
    text = marked->ToJson();
    return TokenizerFile{*std::move(marked), std::move(text)};
  }
  JEVONS_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::FromJson(text, path));
  return TokenizerFile{std::move(tokenizer), std::move(text)};
}

absl::StatusOr<TokenizerFile> Train(const Survey& survey, const PrepareOptions& options, int threads) {
  LogInfo(absl::StrFormat("training a tokenizer of %d tokens on %.1f MB of text, %d distinct words", options.vocab_size,
                          static_cast<double>(survey.sample_bytes) / 1e6, survey.words.size()));
  Progress progress("training the tokenizer", "tokens", options.vocab_size);
  BpeTrainingOptions training{.vocab_size = options.vocab_size, .threads = threads};
  training.on_progress = [&progress](int64_t tokens) { progress.Update(tokens); };
  JEVONS_ASSIGN_OR_RETURN(Tokenizer tokenizer, TrainTokenizer(survey.words, training));
  if (tokenizer.vocab_size() < options.vocab_size) {
    LogWarning(absl::StrFormat("the text has words for %d tokens only, of the %d asked for", tokenizer.vocab_size(),
                               options.vocab_size));
  }
  std::string text = tokenizer.ToJson();
  return TokenizerFile{std::move(tokenizer), std::move(text)};
}

void WarnOfWhatHasNoEffect(const PrepareOptions& options, const Corpus& corpus) {
  const auto some = [&](TextFormat format) {
    return std::any_of(corpus.files.begin(), corpus.files.end(), [&](const InputFile& file) { return file.format == format; });
  };
  const PrepareOptions defaults;
  if (options.document_rule != defaults.document_rule && !some(TextFormat::kPlain)) {
    LogWarning(
        absl::StrFormat("document rule \"%s\" has no effect: no input is plain text", DocumentRuleName(options.document_rule)));
  }
  if (options.text_field != defaults.text_field && !some(TextFormat::kJsonLines)) {
    LogWarning(absl::StrFormat("text field \"%s\" has no effect: no input is of JSON lines", options.text_field));
  }
}

void WarnOfWhatIsLeftOut(const Corpus& corpus, const Survey& survey) {
  if (survey.bad_documents > 0) LogWarning(absl::StrFormat("%d bad documents in all are left out", survey.bad_documents));
  if (survey.empty_documents > 0) LogWarning(absl::StrFormat("%d documents without text are left out", survey.empty_documents));
  for (size_t f = 0; f < corpus.files.size(); ++f) {
    if (survey.documents_of_file[f] == 0) LogWarning(absl::StrFormat("%s: holds no document", corpus.files[f].path));
  }
}

absl::Status DescribeFiles(const std::string& folder, DatasetInfo& info) {
  std::vector<std::string> names = {kTokenizerFile, "train.bin", "train.idx", "train.sums"};
  if (info.validation.documents > 0) names.insert(names.end(), {"validation.bin", "validation.idx", "validation.sums"});
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
    JEVONS_ASSIGN_OR_RETURN(tokenizer, LoadTokenizer(options.tokenizer, options.end_token));
  }
  JEVONS_ASSIGN_OR_RETURN(const Corpus corpus, OpenCorpus(options));
  WarnOfWhatHasNoEffect(options, corpus);
  JEVONS_ASSIGN_OR_RETURN(OutputFolder output,
                          OutputFolder::Create(options.output, options.overwrite ? Overwrite::kYes : Overwrite::kNo));

  JEVONS_ASSIGN_OR_RETURN(const Survey survey, SurveyCorpus(corpus, tokenizer ? 0 : options.tokenizer_sample_bytes));
  if (survey.documents == 0) {
    return IntegrityError(absl::StrFormat("the inputs hold no text: no document was found in them, %d were bad, %d empty",
                                          survey.bad_documents, survey.empty_documents));
  }
  WarnOfWhatIsLeftOut(corpus, survey);
  if (!tokenizer) {
    JEVONS_ASSIGN_OR_RETURN(tokenizer, Train(survey, options, corpus.threads));
  }
  JEVONS_RETURN_IF_ERROR(WriteTextFile(output.staging() + "/" + kTokenizerFile, tokenizer->text));

  const ValidationSplit split(survey.documents, options.validation_fraction, options.seed);
  if (options.validation_fraction > 0 && !split.has_validation()) {
    LogWarning("a single document: it is for training, and there is no validation set");
  }
  JEVONS_ASSIGN_OR_RETURN(const EncodedCorpus encoded,
                          EncodeCorpus(corpus, tokenizer->tokenizer, split, survey.documents, output.staging()));
  PrepareReport report;
  report.info.vocab_size = tokenizer->tokenizer.vocab_size();
  report.info.train = encoded.train;
  report.info.validation = encoded.validation;
  report.info.bad_documents = survey.bad_documents;
  report.info.document_rule = std::string(DocumentRuleName(options.document_rule));
  report.info.document_separator = options.document_separator;
  report.info.end_token = std::string(tokenizer->tokenizer.TokenBytes(tokenizer->tokenizer.eos_id()));
  report.info.seed = options.seed;
  report.info.validation_fraction = options.validation_fraction;
  JEVONS_RETURN_IF_ERROR(DescribeFiles(output.staging(), report.info));
  JEVONS_RETURN_IF_ERROR(SaveDatasetInfo(output.staging(), report.info));
  JEVONS_RETURN_IF_ERROR(output.Commit());
  report.empty_documents = survey.empty_documents;
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace jevons
