// jevons plan: what a run will need and cost, before anything is rented.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "configs/cluster.h"
#include "configs/load.h"
#include "configs/validate.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "trainer/plan/planner.h"
#include "trainer/plan/report.h"

namespace jevons {
namespace {

constexpr char kExamples[] =
    "jevons plan --config configs/presets/deepseek_v3_671b.textproto --cluster configs/clusters/h800_2048.textproto";

struct Options {
  ConfigOptions config;
  std::string cluster;
  bool json = false, stages = false, constants = false;
};

absl::StatusOr<RunConfig> LoadConfig(const Options& options) {
  JEVONS_ASSIGN_OR_RETURN(RunConfig config, LoadRunConfig(options.config.path, options.config.overrides));
  JEVONS_RETURN_IF_ERROR(ValidationStatus(config, /*world_size=*/0));
  if (config.model().vocab_size() == 0)
    return UsageError("model.vocab_size = 0: the data decides; add --set model.vocab_size=2048");
  return config;
}

absl::Status PlanRun(const Options& options) {
  if (options.config.path.empty() || options.cluster.empty()) return UsageError("plan: name --config FILE and --cluster FILE");
  JEVONS_ASSIGN_OR_RETURN(const RunConfig config, LoadConfig(options));
  JEVONS_ASSIGN_OR_RETURN(const ClusterConfig cluster, LoadCluster(options.cluster));
  JEVONS_ASSIGN_OR_RETURN(const Plan plan, MakePlan(ShapeOf(config.model()), LayoutOf(config, cluster.gpus()), cluster));
  const double tokens = RunTokens(config);
  if (options.json) {
    WriteOut(PlanJson(plan, tokens).dump(2) + "\n");
    return absl::OkStatus();
  }
  WriteOut(PlanText(plan, tokens));
  if (options.stages) WriteOut("\n" + StagesText(plan));
  if (options.constants) WriteOut("\n" + ConstantsText({}));
  return absl::OkStatus();
}

}  // namespace

void RegisterPlan(CLI::App& program, int* exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* command = AddCommand(program, "plan", "time, memory and money of a run, before it is run", kExamples);
  AddConfigOptions(*command, options->config, /*required=*/false);
  command->add_option("--cluster", options->cluster, "what it would run on")->type_name("FILE");
  command->add_flag("--json", options->json, "print JSON");
  command->add_flag("--stages", options->stages, "also: which layers lie on which stage");
  command->add_flag("--constants", options->constants, "also: the model's constants and their sources");
  command->callback([options, exit_code] { *exit_code = Finish(PlanRun(*options)); });
}

}  // namespace jevons
