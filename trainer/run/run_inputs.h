// From a config to what it reads: the data folder's files, the tokenizer's numbers, the vocabulary.
#ifndef JEVONS_TRAINER_RUN_RUN_INPUTS_H_
#define JEVONS_TRAINER_RUN_RUN_INPUTS_H_

#include <map>
#include <string>

#include "configs/run.pb.h"
#include "data/sampler.h"
#include "data/tokenizer/tokenizer.h"
#include "data/validation.h"
#include "kernels/base/status.h"

namespace jevons {

inline constexpr char kTokenizerLabel[] = "tokenizer_xxh3_128";  // of a checkpoint

struct RunInputs {
  RunConfig config;               // vocab_size filled in, paths absolute
  StreamConfig stream;            // of the training samples
  std::string validation_prefix;  // empty: the data folder has no validation set
  std::string tokenizer_path;
  std::string tokenizer_hash;  // of the file's bytes: kept in checkpoints, so that another one is noticed
};

using Labels = std::map<std::string, std::string>;  // of a checkpoint

// Only what follows from the tokenizer: its path and hash, the vocabulary, the stream's special tokens; no data is asked for.
// Errors as ResolveInputs.
absl::StatusOr<RunInputs> ResolveTokenizer(const RunConfig& config, const Labels& labels = {});

// Reads the tokenizer, and tokens whose files have no sums. IntegrityError for damaged or missing files, and for a tokenizer that is another than the data was made with, or than
// `labels` name; only then UsageError where the config does not fit it.
absl::StatusOr<RunInputs> ResolveInputs(const RunConfig& config, const Labels& labels = {});

// IntegrityError where `labels` of a checkpoint name another tokenizer.
absl::Status CheckTokenizer(const RunInputs& inputs, const Labels& labels);

// Whether the data folder has a validation set; else UsageError or IntegrityError.
absl::Status CheckValidation(const DataConfig& data);

// Puts the tokenizer, with the files beside it that belong to it, into the folder of a run, each whole or not at all: whoever sees
// a checkpoint there sees it. What is there already stays; IntegrityError for a tokenizer that is another.
absl::Status KeepTokenizer(const RunInputs& inputs, const std::string& run);

// The tokenizer that the run of a checkpoint RUN/checkpoints/step-N keeps; empty where there is none, as in runs from before any
// did.
std::string KeptTokenizer(const std::string& checkpoint);

absl::StatusOr<ValidationSet> OpenValidation(const RunInputs& inputs);

// Bytes of text per token of the validation set, from the folder's dataset.json; 0 where it is not known.
absl::StatusOr<double> ValidationBytesPerToken(const RunInputs& inputs);

}  // namespace jevons

#endif  // JEVONS_TRAINER_RUN_RUN_INPUTS_H_
