// --trace FILE of the commands that run steps.
#ifndef JEVONS_LAUNCH_TRACE_H_
#define JEVONS_LAUNCH_TRACE_H_

#include <string>

#include "kernels/base/status.h"
#include "trainer/plan/step_comparison.h"

namespace CLI {
class App;
}

namespace jevons {

void AddTrace(CLI::App& command, std::string& path);

// Writes the step, as it ran and simulated, and says on stdout how far the two are apart; for rank 0.
absl::Status WriteTrace(const std::string& path, const MeasuredStep& step);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_TRACE_H_
