// The log goes to stderr, one line per event: "12:34:56 I message". Callers format with absl::StrFormat.
// Data that a program may read goes to stdout, and not through here.
#ifndef JEVONS_KERNELS_BASE_LOG_H_
#define JEVONS_KERNELS_BASE_LOG_H_

#include "absl/strings/string_view.h"

namespace jevons {

void LogInfo(absl::string_view message);
void LogWarning(absl::string_view message);
void LogError(absl::string_view message);

// Ranks other than 0 keep their information lines to themselves; warnings and errors carry the rank.
void SetLogRank(int rank, int world_size);

}  // namespace jevons

#endif  // JEVONS_KERNELS_BASE_LOG_H_
