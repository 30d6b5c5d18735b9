#include "kernels/base/status.h"

#include "absl/strings/str_cat.h"

namespace jevons {

absl::Status UsageError(absl::string_view message) { return absl::InvalidArgumentError(message); }
absl::Status IntegrityError(absl::string_view message) { return absl::DataLossError(message); }
absl::Status NumericalError(absl::string_view message) { return absl::OutOfRangeError(message); }
absl::Status PeerLostError(absl::string_view message) { return absl::UnavailableError(message); }
absl::Status PreemptedError(absl::string_view message) { return absl::CancelledError(message); }
absl::Status FailureError(absl::string_view message) { return absl::InternalError(message); }

ExitCode ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk: return ExitCode::kOk;
    case absl::StatusCode::kInvalidArgument: return ExitCode::kUsage;
    case absl::StatusCode::kDataLoss: return ExitCode::kIntegrity;
    case absl::StatusCode::kOutOfRange: return ExitCode::kNumerical;
    case absl::StatusCode::kUnavailable: return ExitCode::kPeerLost;
    case absl::StatusCode::kCancelled: return ExitCode::kPreempted;
    default: return ExitCode::kFailure;
  }
}

absl::Status Annotate(const absl::Status& status, absl::string_view context) {
  return status.ok() ? status : absl::Status(status.code(), absl::StrCat(context, ": ", status.message()));
}

}  // namespace jevons
