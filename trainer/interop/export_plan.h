// What an export consists of: each published tensor with the place of its elements in the checkpoint, the bytes that they become,
// and the small files. `export` writes it, `verify-export` compares with it.
#ifndef JEVONS_TRAINER_INTEROP_EXPORT_PLAN_H_
#define JEVONS_TRAINER_INTEROP_EXPORT_PLAN_H_

#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "kernels/tensor/tensor.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/files/safetensors.h"
#include "trainer/interop/hf_config.h"

namespace jevons {

// Where the elements of a published tensor lie in the checkpoint.
struct ExportSource {
  std::string tensor;  // "weight/...", "gate_bias/..."; empty: the published tensor has no elements
  Shape shape;
  int64_t begin = 0;
};

struct ExportItem {
  SafetensorsSpec spec;
  ExportSource source;
  int64_t rows = 0;       // in FP8: of the weight
  bool is_scale = false;  // the scales of the FP8 codes of `source`, which are the item before
};

// All tensors of the published checkpoint, in the order of the network. IntegrityError, naming them, where tensors of the
// checkpoint, its moments and averages apart, or elements of them would not be in it exactly once.
absl::StatusOr<std::vector<ExportItem>> PlanExport(const CheckpointReader& reader, const ModelConfig& model,
                                                   HfPrecision precision);

// Makes the bytes of one published tensor after the other. Memory: a few pieces of 4 MiB, or a strip of 128 rows.
class ExportConverter {
 public:
  explicit ExportConverter(CheckpointReader& reader) : reader_(reader) {}

  // Gives all bytes in order to `sink`, in pieces of whole elements. IntegrityError naming the element where a weight is NaN or
  // infinite, or would be in BF16; else what the sink or the disk says.
  using Sink = std::function<absl::Status(std::span<const std::byte>)>;
  absl::Status Convert(const ExportItem& item, const Sink& sink);

 private:
  absl::Status Read(const ExportItem& item, int64_t begin, int64_t count);
  absl::Status ConvertFp8(const ExportItem& item, const Sink& sink);

  CheckpointReader& reader_;
  std::vector<float> piece_;
  std::vector<bf16> rounded_;
};

// The small files by name: config.json, and the tokenizer's where there is one (`tokenizer`: its tokenizer.json, or empty). What
// stands beside tokenizer.json is taken as it is; what is missing is made of what the tokenizer says.
absl::StatusOr<std::map<std::string, std::string>> ExportTexts(FileSystem& files, const RunConfig& config, HfPrecision precision,
                                                               const std::string& tokenizer);

}  // namespace jevons

#endif  // JEVONS_TRAINER_INTEROP_EXPORT_PLAN_H_
