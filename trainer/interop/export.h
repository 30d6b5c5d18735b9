// From a checkpoint to the published layout (Hugging Face's): what transformers, vLLM and evaluation harnesses load.
#ifndef JEVONS_TRAINER_INTEROP_EXPORT_H_
#define JEVONS_TRAINER_INTEROP_EXPORT_H_

#include <string>

#include "configs/run.pb.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/interop/hf_config.h"

namespace jevons {

struct ExportOptions {
  std::string output = {};
  HfPrecision precision = HfPrecision::kBf16;
  std::string tokenizer = {};           // tokenizer.json; empty: there is none
  int64_t shard_bytes = 5'000'000'000;  // of a file's tensors, at most, but for a larger tensor
};

struct ExportReport {
  int64_t tensors = 0;
  int64_t bytes = 0;  // of tensors
  int shards = 0;
};

// Makes the folder `options.output`: config.json, generation_config.json, model-*.safetensors with their index, and the
// tokenizer's files; written beside and renamed when it is whole. Names, shapes and types are those of the published
// DeepSeek-V3: one tensor per expert, MTP modules with their copies of embedding and head, gate biases in FP32; in FP8 the
// projections of attention and FFNs with weight_scale_inv per block of 128x128, the rest in BF16.
//
// UsageError where the output exists and is not an empty folder. IntegrityError where the checkpoint has tensors that would not
// be written, or a weight that is not finite. Memory: a few pieces of 4 MiB, or a strip of 128 rows, whatever the model.
absl::StatusOr<ExportReport> ExportCheckpoint(FileSystem& files, CheckpointReader& reader, const RunConfig& config,
                                              const ExportOptions& options);

}  // namespace jevons

#endif  // JEVONS_TRAINER_INTEROP_EXPORT_H_
