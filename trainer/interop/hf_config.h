// config.json of a published checkpoint (model_type deepseek_v3): from and to our description of the network.
#ifndef JEVONS_TRAINER_INTEROP_HF_CONFIG_H_
#define JEVONS_TRAINER_INTEROP_HF_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "kernels/base/status.h"

namespace jevons {

struct HfConfig {
  ModelConfig model;
  int64_t max_positions = 0;               // max_position_embeddings
  std::vector<std::string> warnings = {};  // of what was read: each names a field that may mean something and was not followed
};

// Reads both the published form (rope_theta, rope_scaling) and that of transformers 5 (rope_parameters). IntegrityError that
// lists, by name, every field that is missing, of the wrong type, or says what this model is not (attention biases, softmax
// routing, tied embeddings, another activation, ...), and where two fields contradict each other. Fields of training and of
// generation are passed over by name; any other field that is not known gets a warning. `path` is for messages.
absl::StatusOr<HfConfig> ParseHfConfig(absl::string_view json, const std::string& path);

enum class HfPrecision { kFp32, kBf16, kFp8 };

// The published form. bos, eos: token ids, -1 where there is no tokenizer.
std::string HfConfigJson(const HfConfig& config, HfPrecision precision, int64_t bos, int64_t eos);

}  // namespace jevons

#endif  // JEVONS_TRAINER_INTEROP_HF_CONFIG_H_
