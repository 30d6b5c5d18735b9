#include "trainer/run_inputs.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"

namespace jevons {
namespace {

constexpr int64_t kVocabularyMultiple = 64;  // of an inferred vocabulary: matrices like round numbers

absl::Status ResolveVocabulary(const Tokenizer& tokenizer, const std::string& path, ModelConfig& model) {
  const int64_t needed = tokenizer.vocab_size();
  if (model.vocab_size() == 0)
    model.set_vocab_size((needed + kVocabularyMultiple - 1) / kVocabularyMultiple * kVocabularyMultiple);
  if (model.vocab_size() >= needed) return absl::OkStatus();
  return UsageError(absl::StrFormat("model.vocab_size = %d: the tokenizer %s has %d tokens; set it to %d or more, or to 0",
                                    model.vocab_size(), path, needed, needed));
}

}  // namespace

absl::StatusOr<RunInputs> ResolveInputs(const RunConfig& config) {
  const DataConfig& data = config.data();
  RunInputs inputs{.config = config, .stream = {}, .validation_prefix = {}, .tokenizer_path = data.tokenizer()};
  if (data.path().empty() && data.mixture().empty())
    return UsageError("data.path is not set: name the folder that `jevons prepare` made, with --set data.path=FOLDER");
  if (inputs.tokenizer_path.empty() && !data.path().empty()) inputs.tokenizer_path = data.path() + "/tokenizer.json";
  if (inputs.tokenizer_path.empty())
    return UsageError("data.tokenizer is not set: with data.mixture and without data.path, name a tokenizer.json");
  if (std::error_code error; !std::filesystem::exists(inputs.tokenizer_path, error))
    return IntegrityError(absl::StrFormat("data.path = \"%s\": there is no %s; make the folder with `jevons prepare`",
                                          data.path(), inputs.tokenizer_path));
  JEVONS_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(inputs.tokenizer_path));
  JEVONS_RETURN_IF_ERROR(ResolveVocabulary(tokenizer, inputs.tokenizer_path, *inputs.config.mutable_model()));

  StreamConfig& stream = inputs.stream;
  for (const DatasetConfig& dataset : data.mixture()) stream.datasets.push_back({dataset.prefix(), dataset.weight()});
  if (stream.datasets.empty()) stream.datasets.push_back({data.path() + "/train", 1.0});
  if (std::error_code error; std::filesystem::exists(data.path() + "/validation.idx", error))
    inputs.validation_prefix = data.path() + "/validation";
  stream.seq_len = data.sequence_length();
  stream.seed = data.seed();
  stream.document_mask = data.document_mask();
  stream.fim_rate = data.fim_rate();
  stream.vocab_size = inputs.config.model().vocab_size();
  stream.eos = tokenizer.eos_id();
  if (stream.fim_rate > 0) {
    const auto fim = tokenizer.fim_ids();
    if (!fim)
      return UsageError(absl::StrFormat("data.fim_rate = %g: the tokenizer %s has no fill-in-the-middle tokens; set it to 0",
                                        stream.fim_rate, inputs.tokenizer_path));
    stream.fim_begin = fim->begin;
    stream.fim_hole = fim->hole;
    stream.fim_end = fim->end;
  }
  return inputs;
}

absl::StatusOr<ValidationSet> OpenValidation(const RunInputs& inputs) {
  if (inputs.validation_prefix.empty())
    return IntegrityError(absl::StrFormat(
        "data.path = \"%s\": there is no validation.idx; `jevons prepare --validation-fraction` makes one of two documents or more",
        inputs.config.data().path()));
  return ValidationSet::Open(inputs.validation_prefix, inputs.stream.seq_len, inputs.stream.vocab_size);
}

absl::StatusOr<double> ValidationBytesPerToken(const RunInputs& inputs) {
  const std::string path = inputs.config.data().path() + "/dataset.json";
  std::ifstream file(path);
  if (!file) return 0.0;
  const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  const auto bad = [&] { return IntegrityError(path + ": no count of validation tokens and bytes; run `jevons prepare` again"); };
  if (!json.is_object() || !json.contains("validation") || !json["validation"].is_object()) return bad();
  const auto& split = json["validation"];
  if (!split.contains("bytes") || !split.contains("tokens") || !split["bytes"].is_number() || !split["tokens"].is_number())
    return bad();
  const double tokens = split["tokens"].get<double>();
  return tokens > 0 ? split["bytes"].get<double>() / tokens : 0.0;
}

}  // namespace jevons
