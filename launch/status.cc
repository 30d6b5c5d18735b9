// jevons status: how a run is doing.
#include <CLI/CLI.hpp>
#include <memory>

#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/supervise/run_status.h"

namespace jevons {
namespace {

constexpr char kExamples[] =
    "jevons status run            step, speed, ETA, cost, ranks, checkpoints, and what befell it\n"
    "jevons status run --json";

struct Options {
  std::string run;
  bool json = false;
};

int Run(const Options& options) {
  const absl::StatusOr<RunStatus> status = ReadRunStatus(options.run);
  if (!status.ok()) return Finish(status.status());
  WriteOut(options.json ? StatusJson(*status) : StatusText(*status));
  return 0;
}

}  // namespace

void RegisterStatus(CLI::App& program, int* exit_code) {
  CLI::App* command = AddCommand(program, "status",
                                 "How a run is doing, while it runs and after; of a supervised one every rank too.", kExamples);
  auto options = std::make_shared<Options>();
  command->add_option("RUN", options->run, "what was given to --output")->required();
  command->add_flag("--json", options->json, "print JSON");
  command->callback([options, exit_code] { *exit_code = Run(*options); });
}

}  // namespace jevons
