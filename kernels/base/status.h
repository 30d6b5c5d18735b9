// Errors that a user, a file or a peer can cause travel as absl::Status (error tiers 1 and 2 of the architecture).
//
//   absl::StatusOr<Config> LoadConfig(const std::string& path) {
//     JEVONS_ASSIGN_OR_RETURN(std::string text, ReadFile(path));
//     if (text.empty()) return UsageError(absl::StrFormat("%s: the file is empty; write a run config", path));
//     ...
//
// A message names the file, the field, the value and the remedy. The kind of error decides the exit code of the
// program; the documented codes are ExitCode's.
#ifndef JEVONS_KERNELS_BASE_STATUS_H_
#define JEVONS_KERNELS_BASE_STATUS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace jevons {

enum class ExitCode : int {
  kOk = 0,
  kFailure = 1,     // anything without a code of its own (disk full, no permission, ...)
  kUsage = 2,       // command line or config
  kIntegrity = 3,   // data or checkpoint damaged, missing, or not what the config says
  kNumerical = 4,   // NaN or Inf in a loss or gradient
  kPeerLost = 5,    // a rank hangs or died, or its machine computes other bits: another start may go well
  kPreempted = 75,  // stopped by a signal with a committed checkpoint (EX_TEMPFAIL): run the same command again
};

absl::Status UsageError(absl::string_view message);
absl::Status IntegrityError(absl::string_view message);
absl::Status NumericalError(absl::string_view message);
absl::Status PeerLostError(absl::string_view message);
absl::Status PreemptedError(absl::string_view message);
absl::Status FailureError(absl::string_view message);

// The exit code of a status made by the functions above; kFailure for every other error.
ExitCode ExitCodeOf(const absl::Status& status);

// `status` with "context: " put before its message, its kind kept.
absl::Status Annotate(const absl::Status& status, absl::string_view context);

}  // namespace jevons

#define JEVONS_RETURN_IF_ERROR(expression)                                                    \
  do {                                                                                        \
    if (absl::Status jevons_status = (expression); !jevons_status.ok()) return jevons_status; \
  } while (false)

#define JEVONS_CONCAT_INNER(a, b) a##b
#define JEVONS_CONCAT(a, b) JEVONS_CONCAT_INNER(a, b)
#define JEVONS_ASSIGN_OR_RETURN(declaration, expression) \
  JEVONS_ASSIGN_OR_RETURN_IMPL(JEVONS_CONCAT(jevons_result_, __LINE__), declaration, expression)
#define JEVONS_ASSIGN_OR_RETURN_IMPL(result, declaration, expression) \
  auto result = (expression);                                         \
  if (!result.ok()) return std::move(result).status();                \
  declaration = *std::move(result)

#endif  // JEVONS_KERNELS_BASE_STATUS_H_
