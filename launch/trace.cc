#include "launch/trace.h"

#include <CLI/CLI.hpp>

#include "kernels/base/log.h"
#include "launch/cli.h"

namespace jevons {

void AddTrace(CLI::App& command, std::string& path) {
  command
      .add_option("--trace", path,
                  "at the end, write what every rank did in the last step, and that simulated with its mean durations, for "
                  "chrome://tracing or Perfetto")
      ->type_name("FILE");
}

absl::Status WriteTrace(const std::string& path, const MeasuredStep& step) {
  if (step.ranks.empty()) {
    LogInfo(path + " is not written: no step was run");
    return absl::OkStatus();
  }
  const StepComparison comparison = Compare(step);
  WriteOut(ComparisonText(comparison));
  return WriteFile(path, TraceJson(step, comparison));
}

}  // namespace jevons
