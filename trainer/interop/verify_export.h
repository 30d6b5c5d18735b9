// Whether a folder in the published layout holds exactly what a checkpoint does.
#ifndef JEVONS_TRAINER_INTEROP_VERIFY_EXPORT_H_
#define JEVONS_TRAINER_INTEROP_VERIFY_EXPORT_H_

#include <string>

#include "configs/run.pb.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/interop/hf_config.h"

namespace jevons {

struct VerifyExportReport {
  int64_t tensors = 0;
  int64_t bytes = 0;  // of tensors
  HfPrecision precision = HfPrecision::kBf16;
};

// Converts the checkpoint anew, in the precision that the folder's tensors have, and compares: every tensor that an export of it
// writes is in `folder` with the same type, shape and bits; there is no other tensor; config.json, the index's size and
// tokenizer.json are those of the export. How tensors are spread over files does not matter. IntegrityError that names each
// difference. `tokenizer`: as ExportOptions'. Memory: as an export's.
absl::StatusOr<VerifyExportReport> VerifyExport(FileSystem& files, CheckpointReader& reader, const RunConfig& config,
                                                const std::string& tokenizer, const std::string& folder);

}  // namespace jevons

#endif  // JEVONS_TRAINER_INTEROP_VERIFY_EXPORT_H_
