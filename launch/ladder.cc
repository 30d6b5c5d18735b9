// jevons ladder: a family of models by size, dense and MoE, at known cost; what size brings, and what experts do.
#include "configs/ladder.h"

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "configs/load.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/data_files.h"
#include "launch/ladder_climb.h"
#include "launch/stop_signal.h"

namespace jevons {
namespace {

constexpr char kExamples[] =
    "jevons ladder --config configs/ladders/small_cpu.textproto --dry-run         rungs, rates, hours, dollars\n"
    "jevons ladder --config configs/ladders/small_cpu.textproto --set data.path=runs/data --hours 6 --output runs/ladder";

constexpr char kExplanation[] = R"(
Each rung is a run of its own, OUTPUT/RUNG, trained under `jevons supervise`. SIGTERM, SIGINT and SIGUSR1 have it save a checkpoint and stop (exit code 75);
after them, and after any kill, the same command goes on: finished rungs are skipped. The last size is foretold from the others before it is run
(OUTPUT/prediction.json). A ladder that would take more than --budget or --hours is refused with exit code 2; else exit codes are those of train.)";

struct Options {
  ConfigOptions config;
  ClimbOptions climb;
  std::string launcher;
  int64_t ranks = 1;
  bool dry_run = false, json = false;
};

absl::StatusOr<LadderState> Plan(const Options& options) {
  LadderState state;
  JEVONS_ASSIGN_OR_RETURN(state.ladder, LoadLadder(options.config.path));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig base, LoadRunConfig(FindFile(state.ladder.base()), {}));
  absl::StatusOr<std::vector<Rung>> rungs = PlanRungs(state.ladder, base, options.config.overrides);
  if (!rungs.ok()) return Annotate(rungs.status(), options.config.path);
  state.rungs = *std::move(rungs);
  state.results.resize(state.rungs.size());
  return state;
}

void Show(const LadderState& state, bool results, bool json) {
  if (json) {
    WriteOut(LadderJson(state).dump(2) + "\n");
  } else {
    WriteOut(LadderPlanText(state));
    if (results) WriteOut("\n" + LadderResultsText(state));
  }
}

absl::Status Run(Options options) {
  JEVONS_ASSIGN_OR_RETURN(LadderState state, Plan(options));
  ClimbOptions& climb = options.climb;
  if (options.dry_run) {
    if (!climb.output.empty()) JEVONS_RETURN_IF_ERROR(ReadLadder(climb.output, state));
    Show(state, /*results=*/false, options.json);
    const LadderCost cost = CostOf(state);
    return CheckLimits(climb, state.ladder, "the ladder", cost.spent_seconds + cost.left_seconds,
                       cost.spent_dollars + cost.left_dollars);
  }
  if (climb.output.empty()) return UsageError("--output is not given: name the folder of the ladder, or say --dry-run");
  if (!options.launcher.empty()) climb.supervise = {"--launcher", options.launcher};
  if (options.ranks > 1) climb.supervise = {"--ranks", absl::StrCat(options.ranks)};
  JEVONS_RETURN_IF_ERROR(Climb(climb, state));
  Show(state, /*results=*/true, options.json);
  return absl::OkStatus();
}

}  // namespace

void RegisterLadder(CLI::App& program, int* exit_code) {
  CLI::App* command =
      AddCommand(program, "ladder", "Trains a family of models by size and variant, and fits what size brings.", kExamples);
  auto options = std::make_shared<Options>();
  command
      ->add_option("--config", options->config.path,
                   "the ladder, a text-format file (see configs/ladder.proto and configs/ladders)")
      ->type_name("FILE")
      ->transform(FindFile)
      ->required();
  AddRepeatable(*command, "--set", options->config.overrides,
                "change one field of every rung's run, whatever the ladder and its law say; may be repeated")
      ->type_name("PATH=VALUE");
  command->add_option("--output", options->climb.output, "folder of the ladder; the same command resumes");
  command->add_flag("--dry-run", options->dry_run, "only say what it will take; with --output, what of that is done");
  command->add_option("--budget", options->climb.budget, "dollars that may be spent in all")->check(CLI::NonNegativeNumber);
  command->add_option("--hours", options->climb.hours, "hours that it may take in all")->check(CLI::NonNegativeNumber);
  CLI::Option* ranks = command->add_option("--ranks", options->ranks, "processes of each run, on this machine")
                           ->check(CLI::Range(int64_t{1}, int64_t{1} << 16))
                           ->capture_default_str();
  command->add_option("--launcher", options->launcher, "what starts the ranks instead, as of `jevons supervise`")
      ->type_name("COMMAND")
      ->excludes(ranks);
  command->add_flag("--json", options->json, "print JSON");
  command->footer(kExplanation);
  command->callback([options, exit_code] {
    options->climb.stop = CatchStopSignals();
    *exit_code = Finish(Run(*options));
  });
}

}  // namespace jevons
