// From a published checkpoint (Hugging Face's layout) to one of ours, from which training, scoring and generation go on.
#ifndef JEVONS_TRAINER_INTEROP_IMPORT_H_
#define JEVONS_TRAINER_INTEROP_IMPORT_H_

#include <string>

#include "trainer/files/file_system.h"

namespace jevons {

struct ImportReport {
  int64_t parameters = 0;  // elements
  int64_t tensors = 0;     // of the published checkpoint
  bool tokenizer = false;  // it came with one
};

// Reads `input` (config.json, *.safetensors with or without index; FP32, BF16, FP16 and FP8 with weight_scale_inv) and makes the run
// folder `output`: config.textproto, the tokenizer's files, and checkpoints/step-00000000 with weights and gate biases in
// FP32, without moments, for nothing has been trained. It is written beside and renamed when it is whole.
//
// Every tensor of `input` is read exactly once, but for copies of embedding and head, which are compared, and rotary frequencies
// (*.rotary_emb.inv_freq), which config.json says. IntegrityError where `input` is not a whole DeepSeek-V3: missing, unexpected and
// mis-shaped tensors are listed by name, all at once, before anything is written. UsageError where `output` exists and is not an empty folder. Memory: a few pieces of
// 4 MiB, or a strip of 128 rows.
absl::StatusOr<ImportReport> ImportCheckpoint(FileSystem& files, const std::string& input, const std::string& output);

}  // namespace jevons

#endif  // JEVONS_TRAINER_INTEROP_IMPORT_H_
