#include "launch/trace.h"

#include <CLI/CLI.hpp>

#include "launch/cli.h"

namespace jevons {

void AddTrace(CLI::App& command, std::string& path) {
  command
      .add_option("--trace", path,
                  "write what every rank did in the last step, and the same simulated with its durations, for chrome://tracing or Perfetto")
      ->type_name("FILE");
}

absl::Status WriteTrace(const std::string& path, const MeasuredStep& step) {
  if (path.empty() || step.ranks.empty()) return absl::OkStatus();
  const StepComparison comparison = Compare(step);
  WriteOut(ComparisonText(comparison));
  return WriteFile(path, TraceJson(step, comparison));
}

}  // namespace jevons
