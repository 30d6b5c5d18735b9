#include "trainer/run/run_inputs.h"

#include <filesystem>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "data/prepare/dataset_info.h"
#include "data/tokenizer/text_file.h"
#include "trainer/files/file_system.h"
#include "trainer/files/hf_files.h"
#include "trainer/spec/schedules.h"

namespace jevons {
namespace {

constexpr int64_t kMaxTokenizerBytes = int64_t{1} << 30;  // the largest have some ten MB
constexpr int64_t kVocabularyMultiple = 64;               // of an inferred vocabulary: matrices like round numbers

absl::Status ResolveVocabulary(const Tokenizer& tokenizer, const std::string& path, ModelConfig& model) {
  const int64_t needed = tokenizer.vocab_size();
  if (model.vocab_size() == 0)
    model.set_vocab_size((needed + kVocabularyMultiple - 1) / kVocabularyMultiple * kVocabularyMultiple);
  if (model.vocab_size() >= needed) return absl::OkStatus();
  return UsageError(absl::StrFormat("model.vocab_size = %d: the tokenizer %s has %d tokens; set it to %d or more, or to 0",
                                    model.vocab_size(), path, needed, needed));
}

// A folder that `jevons prepare` made says which tokenizer its tokens are of, and what their files are; those that have sums are checked as they
// are read.
absl::Status CheckData(const RunInputs& inputs) {
  const std::string& folder = inputs.config.data().path();
  if (std::error_code error; folder.empty() || !std::filesystem::exists(JoinPath(folder, kDatasetInfoFile), error))
    return absl::OkStatus();
  JEVONS_ASSIGN_OR_RETURN(const DatasetInfo info, LoadDatasetInfo(folder));
  JEVONS_RETURN_IF_ERROR(VerifyFilesWithoutSums(folder, info));
  const auto made_with = info.files.find(kTokenizerFile);
  if (made_with == info.files.end() || made_with->second.xxh3_128 == inputs.tokenizer_hash) return absl::OkStatus();
  return IntegrityError(absl::StrFormat(
      "%s: its hash is %s, but the data in %s was made with a tokenizer of hash %s; give that one, or prepare the data anew",
      inputs.tokenizer_path, inputs.tokenizer_hash, folder, made_with->second.xxh3_128));
}

// The file's path and hash, and paths that are absolute.
absl::StatusOr<RunInputs> LocateTokenizer(const RunConfig& config) {
  RunInputs inputs{.config = config, .stream = {}, .validation_prefix = {}, .tokenizer_path = {}, .tokenizer_hash = {}};
  // Absolute, for the checkpoint keeps it and is used from other folders.
  DataConfig& data = *inputs.config.mutable_data();
  for (std::string* path : {data.mutable_path(), data.mutable_tokenizer()})
    if (!path->empty()) *path = std::filesystem::absolute(*path).lexically_normal();
  inputs.tokenizer_path = data.tokenizer();
  if (inputs.tokenizer_path.empty() && !data.path().empty()) inputs.tokenizer_path = data.path() + "/tokenizer.json";
  if (inputs.tokenizer_path.empty())
    return UsageError("data.tokenizer is not set: without data.path, name a tokenizer.json with --set data.tokenizer=FILE");
  if (std::error_code error; !std::filesystem::exists(inputs.tokenizer_path, error))
    return IntegrityError(absl::StrFormat(
        "there is no %s; make the folder with `jevons prepare`, name the one it has moved to with --set data.path=FOLDER, or the "
        "file with --set data.tokenizer=FILE",
        inputs.tokenizer_path));
  JEVONS_ASSIGN_OR_RETURN(const FileRecord tokenizer_file, DescribeFile(inputs.tokenizer_path));
  inputs.tokenizer_hash = tokenizer_file.xxh3_128;
  return inputs;
}

absl::Status ReadTokenizer(RunInputs& inputs) {
  JEVONS_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(inputs.tokenizer_path));
  JEVONS_RETURN_IF_ERROR(ResolveVocabulary(tokenizer, inputs.tokenizer_path, *inputs.config.mutable_model()));
  inputs.stream.eos = tokenizer.eos_id();
  if (const DataConfig& data = inputs.config.data(); data.fim_rate() > 0) {
    const auto fim = tokenizer.fim_ids();
    if (!fim)
      return UsageError(absl::StrFormat("data.fim_rate = %g: the tokenizer %s has no fill-in-the-middle tokens; set it to 0",
                                        data.fim_rate(), inputs.tokenizer_path));
    inputs.stream.fim_begin = fim->begin;
    inputs.stream.fim_hole = fim->hole;
    inputs.stream.fim_end = fim->end;
  }
  return absl::OkStatus();
}

// Where the stages of a run change its stream of samples.
std::vector<LaterSamples> LaterSamplesOf(const RunSchedule& schedule) {
  std::vector<LaterSamples> later;
  for (const StreamStage& change : schedule.StreamStages()) {
    const DataConfig& data = schedule.stage(change.stage).data();
    LaterSamples& samples =
        later.emplace_back(LaterSamples{.first_sample = change.first_sample, .seq_len = data.sequence_length(), .weights = {}});
    for (const DatasetConfig& dataset : data.mixture()) samples.weights.push_back(dataset.weight());
    if (samples.weights.empty()) samples.weights = {1};  // data.path's own
  }
  return later;
}

}  // namespace

absl::StatusOr<RunInputs> ResolveTokenizer(const RunConfig& config, const Labels& labels) {
  JEVONS_ASSIGN_OR_RETURN(RunInputs inputs, LocateTokenizer(config));
  JEVONS_RETURN_IF_ERROR(CheckTokenizer(inputs, labels));
  JEVONS_RETURN_IF_ERROR(ReadTokenizer(inputs));
  return inputs;
}

absl::StatusOr<RunInputs> ResolveInputs(const RunConfig& config, const Labels& labels) {
  if (config.data().path().empty() && config.data().mixture().empty())
    return UsageError("data.path is not set: name the folder that `jevons prepare` made, with --set data.path=FOLDER");
  JEVONS_ASSIGN_OR_RETURN(RunInputs inputs, LocateTokenizer(config));
  JEVONS_RETURN_IF_ERROR(CheckTokenizer(inputs, labels));
  JEVONS_RETURN_IF_ERROR(CheckData(inputs));
  JEVONS_RETURN_IF_ERROR(ReadTokenizer(inputs));
  const DataConfig& data = inputs.config.data();
  StreamConfig& stream = inputs.stream;
  for (const DatasetConfig& dataset : data.mixture()) stream.datasets.push_back({dataset.prefix(), dataset.weight()});
  if (stream.datasets.empty()) stream.datasets.push_back({data.path() + "/train", 1.0});
  if (std::error_code error; !data.path().empty() && std::filesystem::exists(data.path() + "/validation.idx", error))
    inputs.validation_prefix = data.path() + "/validation";
  stream.seq_len = data.sequence_length();
  stream.seed = data.seed();
  stream.document_mask = data.document_mask();
  stream.fim_rate = data.fim_rate();
  stream.shuffle_samples = data.shuffle_samples();
  stream.vocab_size = inputs.config.model().vocab_size();
  if (inputs.config.train().stage_size() > 0) stream.later = LaterSamplesOf(RunSchedule(inputs.config));
  return inputs;
}

absl::Status CheckTokenizer(const RunInputs& inputs, const Labels& labels) {
  const auto saved = labels.find(kTokenizerLabel);
  if (saved == labels.end() || saved->second == inputs.tokenizer_hash) return absl::OkStatus();
  return IntegrityError(
      absl::StrFormat("%s: its hash is %s, but the checkpoint was trained with a tokenizer of hash %s; give that one with --set "
                      "data.tokenizer=FILE",
                      inputs.tokenizer_path, inputs.tokenizer_hash, saved->second));
}

absl::Status KeepTokenizer(const RunInputs& inputs, const std::string& run) {
  FileSystem& files = PosixFileSystem();
  const std::string kept = JoinPath(run, kTokenizerJson);
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> present, files.Stat(kept));
  if (present) {
    JEVONS_ASSIGN_OR_RETURN(const FileRecord record, DescribeFile(kept));
    if (record.xxh3_128 == inputs.tokenizer_hash) return absl::OkStatus();
    return IntegrityError(absl::StrFormat(
        "%s: its hash is %s, but the run trains with a tokenizer of hash %s, %s; remove it, or choose another --output", kept,
        record.xxh3_128, inputs.tokenizer_hash, inputs.tokenizer_path));
  }
  const auto copy = [&](const std::string& from, const char* name) -> absl::Status {
    JEVONS_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(files, from, kMaxTokenizerBytes));
    return WriteTextFile(JoinPath(run, name), text);
  };
  for (const char* name : kTokenizerFiles) {
    const std::string beside = JoinPath(ParentPath(inputs.tokenizer_path), name);
    JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> found, files.Stat(beside));
    JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> there, files.Stat(JoinPath(run, name)));
    if (found && !there && name != absl::string_view(kTokenizerJson)) JEVONS_RETURN_IF_ERROR(copy(beside, name));
  }
  return copy(inputs.tokenizer_path, kTokenizerJson);  // last: where it is, all are
}

std::string KeptTokenizer(const std::string& checkpoint) {
  const std::string checkpoints = ParentPath(std::filesystem::absolute(checkpoint).lexically_normal().string());
  const std::string kept = JoinPath(ParentPath(checkpoints), kTokenizerJson);
  std::error_code error;
  return absl::EndsWith(checkpoints, "/checkpoints") && std::filesystem::exists(kept, error) ? kept : "";
}

absl::Status CheckValidation(const DataConfig& data) {
  if (data.path().empty())
    return UsageError(
        "data.path is not set: the validation set is in the folder that `jevons prepare` made; name it with --set "
        "data.path=FOLDER");
  if (std::error_code error; std::filesystem::exists(data.path() + "/validation.idx", error)) return absl::OkStatus();
  return IntegrityError(
      absl::StrFormat("data.path = \"%s\": there is no validation set (validation.idx); name another folder with --set "
                      "data.path=FOLDER, or make one: `jevons prepare "
                      "--validation-fraction`, of two documents or more",
                      data.path()));
}

absl::StatusOr<ValidationSet> OpenValidation(const RunInputs& inputs) {
  JEVONS_RETURN_IF_ERROR(CheckValidation(inputs.config.data()));
  return ValidationSet::Open(inputs.validation_prefix, inputs.stream.seq_len, inputs.stream.vocab_size);
}

absl::StatusOr<double> ValidationBytesPerToken(const RunInputs& inputs) {
  const std::string& folder = inputs.config.data().path();
  if (std::error_code error; !std::filesystem::exists(folder + "/dataset.json", error)) return 0.0;
  JEVONS_ASSIGN_OR_RETURN(const DatasetInfo info, LoadDatasetInfo(folder));
  if (info.validation.tokens <= 0 || info.validation.bytes <= 0) return 0.0;
  return static_cast<double>(info.validation.bytes) / static_cast<double>(info.validation.tokens);
}

}  // namespace jevons
