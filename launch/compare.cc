// jevons compare: runs side by side.
#include <CLI/CLI.hpp>
#include <memory>

#include "launch/cli.h"
#include "launch/commands.h"
#include "trainer/report/comparison.h"

namespace jevons {
namespace {

constexpr char kExamples[] =
    "jevons compare run_a run_b                        what differs, what they reached, at what cost\n"
    "jevons compare run_a run_b --at dollars --price 2 losses at equal dollars\n"
    "jevons compare runs/* --seeds --loss 3.5          mean and spread over seeds; what it took to reach a loss\n"
    "jevons compare run_a run_b --json";

struct Options {
  std::vector<std::string> runs;
  std::string at = kAxisNames[0];
  CompareOptions compare;
  bool json = false;
};

absl::Status Run(const Options& options) {
  CompareOptions compare = options.compare;
  compare.at = static_cast<Axis>(std::find(kAxisNames.begin(), kAxisNames.end(), options.at) - kAxisNames.begin());
  std::vector<RunHistory> runs;
  for (const std::string& path : options.runs) {
    JEVONS_ASSIGN_OR_RETURN(RunHistory run, ReadRunHistory(path));
    runs.push_back(std::move(run));
  }
  JEVONS_ASSIGN_OR_RETURN(const RunComparison comparison, CompareRuns(runs, compare));
  WriteOut(options.json ? RunComparisonJson(comparison) : RunComparisonText(comparison));
  return absl::OkStatus();
}

}  // namespace

void RegisterCompare(CLI::App& program, int* exit_code) {
  CLI::App* command =
      AddCommand(program, "compare",
                 "Runs side by side: configs, losses at equal budgets, experts, cost; while they run and after.", kExamples);
  auto options = std::make_shared<Options>();
  command->add_option("RUN", options->runs, "what was given to train's --output; the first is what others are told against")
      ->required();
  command->add_option("--at", options->at, "what budgets are equal in; reference: dollars at cost.reference_mfu")
      ->check(CLI::IsMember(std::vector<std::string>(kAxisNames.begin(), kAxisNames.end())))
      ->capture_default_str();
  command->add_option("--loss", options->compare.loss, "tell what it took to reach this loss, in nats per token");
  command->add_flag("--seeds", options->compare.by_seeds,
                    "runs whose configs differ in seeds alone are one column: mean +/- standard deviation");
  command
      ->add_option("--price", options->compare.prices,
                   "dollars for a device's hour, in place of what was paid; may be repeated: the others get rows of their own")
      ->check(CLI::NonNegativeNumber)
      ->type_size(1)
      ->allow_extra_args(false);
  command->add_flag("--json", options->json, "print JSON");
  command->callback([options, exit_code] { *exit_code = Finish(Run(*options)); });
}

}  // namespace jevons
