// jevons plan: what a run will need and cost, before anything is rented.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/cluster.h"
#include "configs/load.h"
#include "configs/text_file.h"
#include "configs/validate.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/data_files.h"
#include "trainer/plan/counted_search.h"
#include "trainer/plan/layout_fields.h"
#include "trainer/plan/planner.h"
#include "trainer/plan/published.h"
#include "trainer/plan/report.h"
#include "trainer/plan/reproduce.h"
#include "trainer/plan/search.h"
#include "trainer/plan/timeline_files.h"
#include "trainer/spec/schedules.h"
#include "trainer/step/planned_memory.h"

namespace jevons {
namespace {

constexpr char kExamples[] =
    "jevons plan --config configs/presets/deepseek_v3_671b.textproto --cluster configs/clusters/h800_2048.textproto\n"
    "jevons plan --config FILE --cluster FILE --search      all legal layouts: those that can be trained first, then the "
    "cheapest token\n"
    "jevons plan --reproduce deepseek-v3                    the published 2,788K GPU hours beside the prediction\n"
    "jevons plan --validate configs/published/throughput.csv";

constexpr double kGiB = 1024.0 * 1024 * 1024;

struct Options {
  ConfigOptions config;
  std::string cluster, reproduce, validate, trace, html;
  double imbalance = Constants().expert_imbalance;
  bool json = false, stages = false, constants = false, search = false;
  int shown = 10;
};

absl::StatusOr<RunConfig> LoadConfig(const std::string& path, const std::vector<std::string>& overrides) {
  JEVONS_ASSIGN_OR_RETURN(RunConfig config, LoadRunConfig(path, overrides));
  JEVONS_RETURN_IF_ERROR(ValidationStatus(config, /*world_size=*/0));
  JEVONS_RETURN_IF_ERROR(RunSchedule(config).CheckStages());
  if (config.model().vocab_size() == 0)
    return UsageError("model.vocab_size = 0: the data decides; add --set model.vocab_size=2048");
  return config;
}

nlohmann::ordered_json CandidateJson(const Candidate& c) {
  return {{"layout", c.layout.ToString()},
          {"train", c.refusal.empty()},
          {"refusal", c.refusal},
          {"set", c.assignments},
          {"step_seconds", c.step_seconds},
          {"dollars_per_million_tokens", c.dollars_per_million_tokens},
          {"mfu_causal", c.mfu},
          {"memory_bytes", c.memory},
          {"counted_bytes", c.counted ? nlohmann::ordered_json(c.counted->bytes) : nullptr},
          {"fits", !c.overfull()}};
}

absl::Status Search(const Options& options, const RunConfig& config, const ClusterConfig& cluster) {
  SearchResult result = SearchLayouts(config, cluster);
  CountBest(config, cluster, options.shown, result);
  if (!options.json) {
    WriteOut(SearchText(result, LayoutOf(config, cluster.gpus()), cluster, options.shown));
  } else {
    nlohmann::ordered_json json = {
        {"tried", result.tried}, {"fitting", nlohmann::ordered_json::array()}, {"rejected", nlohmann::ordered_json::object()}};
    for (const Candidate& c : result.fitting) json["fitting"].push_back(CandidateJson(c));
    for (const auto& [reason, r] : result.rejected)
      json["rejected"][reason] = {{"count", r.count}, {"nearest", r.example}, {"excess_bytes", r.excess}};
    WriteOut(json.dump(2) + "\n");
  }
  return FitStatus(result);
}

// UsageError where the plan does not fit: by how much, and the nearest layout that does, with what makes it.
absl::Status PlanStatus(const Plan& plan, const SearchResult& others, const Candidate* nearest) {
  if (plan.fits()) return absl::OkStatus();
  const double excess = (plan.memory[plan.fullest].total() - plan.memory_limit()) / kGiB;
  if (nearest == nullptr) {
    const absl::Status by_formulas = FitStatus(others);  // which are the first stage's: counted are all
    return UsageError(absl::StrFormat("this layout does not fit, %.1f GiB too much; nor does any other%s", excess,
                                      by_formulas.ok() ? " that was counted" : absl::StrCat(": ", by_formulas.message())));
  }
  return UsageError(absl::StrFormat(
      "this layout does not fit, %.1f GiB too much; the nearest that does%s: %s, %.3f s a step, by %s%s; --search lists all",
      excess, nearest->counted ? "" : " by formulas", nearest->layout.ToString(), nearest->step_seconds, SetText(*nearest),
      nearest->refusal.empty() ? "" : " (which train refuses)"));
}

// Bytes from the program's own step, if it executes the layout.
void CountMemory(const RunConfig& config, Plan& plan) {
  const auto mesh = MeshOn(config, plan.cluster, plan.layout);
  if (!mesh.ok()) return;
  const auto planned = PlanPipelineMemory(config, *mesh, plan.constants.expert_imbalance);
  if (!planned.ok()) return;
  std::vector<MemoryPlan> counted;
  for (const auto& [use, ledger] : *planned) {
    int64_t temporary = 0;
    for (const auto& [name, bytes] : ledger.temporary) temporary += bytes;
    counted.push_back({.weights = static_cast<double>(use.weights),
                       .gradients = static_cast<double>(use.gradients),
                       .optimizer = static_cast<double>(use.optimizer),
                       .activations = static_cast<double>(use.activations - temporary),
                       .temporary = static_cast<double>(temporary),
                       .host = static_cast<double>(use.host)});
  }
  plan.SetCountedMemory(std::move(counted));
}

absl::Status PlanRun(const Options& options) {
  if (options.config.path.empty() || options.cluster.empty()) return UsageError("plan: name --config FILE and --cluster FILE");
  JEVONS_ASSIGN_OR_RETURN(const RunConfig config, LoadConfig(options.config.path, options.config.overrides));
  JEVONS_ASSIGN_OR_RETURN(const ClusterConfig cluster, LoadCluster(options.cluster));
  if (options.search) return Search(options, config, cluster);
  const ModelShape model = ShapeOf(config.model());
  JEVONS_RETURN_IF_ERROR(
      ValidateLayout(LayoutOf(config, cluster.gpus()), model, cluster));  // before the cut, which depends on it
  JEVONS_ASSIGN_OR_RETURN(const Layout layout, CutLayoutOf(config, cluster.gpus()));
  Constants constants;
  constants.expert_imbalance = options.imbalance;
  JEVONS_ASSIGN_OR_RETURN(Plan plan, MakePlan(model, layout, cluster, constants));
  CountMemory(config, plan);
  const RunPlan run = PlanRun(plan, config);
  if (!options.trace.empty()) JEVONS_RETURN_IF_ERROR(WriteFile(options.trace, TraceJson(plan)));
  if (!options.html.empty()) JEVONS_RETURN_IF_ERROR(WriteFile(options.html, PlanHtml(plan, run)));
  const std::string refusal = TrainRefusal(config, plan.layout);
  SearchResult others = plan.fits() ? SearchResult() : SearchLayouts(config, cluster);
  const Candidate* nearest = NearestThatFits(config, cluster, others, plan.layout);
  if (options.json) {
    nlohmann::ordered_json json = PlanJson(plan, run);
    json["train"] = refusal.empty();
    json["refusal"] = refusal;
    if (nearest != nullptr) json["nearest_fitting"] = CandidateJson(*nearest);
    WriteOut(json.dump(2) + "\n");
  } else {
    WriteOut(PlanText(plan, run));
    if (!refusal.empty()) WriteOut(absl::StrFormat("\n`jevons train` refuses this layout: %s\n", refusal));
    if (options.stages) WriteOut("\n" + StagesText(plan));
    if (options.constants) WriteOut("\n" + ConstantsText({}));
  }
  return PlanStatus(plan, others, nearest);
}

absl::Status Reproduce(const Options& options) {
  if (options.reproduce != "deepseek-v3")
    return UsageError(absl::StrFormat("--reproduce %s: unknown claim; legal: deepseek-v3", options.reproduce));
  JEVONS_ASSIGN_OR_RETURN(const std::string configs, ConfigsFolder());
  JEVONS_ASSIGN_OR_RETURN(const RunConfig config, LoadConfig(configs + "/presets/deepseek_v3_671b.textproto", {}));
  JEVONS_ASSIGN_OR_RETURN(const ClusterConfig cluster, LoadCluster(configs + "/clusters/h800_2048.textproto"));
  JEVONS_ASSIGN_OR_RETURN(const ClusterConfig h100, LoadCluster(configs + "/clusters/h100_1024.textproto"));
  JEVONS_ASSIGN_OR_RETURN(const Claim claim, ReproduceDeepSeekV3(config, cluster, h100));
  WriteOut(options.json ? ClaimJson(claim).dump(2) + "\n" : ClaimText(claim) + "\n" + ConstantsText({}));
  return absl::OkStatus();
}

absl::Status ValidatePublished(const Options& options) {
  JEVONS_ASSIGN_OR_RETURN(const std::string text,
                          ReadTextFile(options.validate, "a table such as configs/published/throughput.csv"));
  JEVONS_ASSIGN_OR_RETURN(const std::vector<PublishedRun> runs, ParsePublished(text, options.validate));
  JEVONS_ASSIGN_OR_RETURN(const std::string configs, ConfigsFolder());
  JEVONS_ASSIGN_OR_RETURN(const PublishedWorld world, PublishedWorld::Load(configs));
  std::vector<Prediction> predictions;
  for (const PublishedRun& run : runs) predictions.push_back(Predict(run, world));
  WriteOut(options.json ? ValidationJson(predictions).dump(2) + "\n" : ValidationText(predictions));
  return absl::OkStatus();
}

absl::Status Run(const Options& options) {
  if (!options.reproduce.empty()) return Reproduce(options);
  if (!options.validate.empty()) return ValidatePublished(options);
  return PlanRun(options);
}

}  // namespace

void RegisterPlan(CLI::App& program, int* exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* command = AddCommand(program, "plan", "time, memory and money of a run, before it is run", kExamples);
  AddConfigOptions(*command, options->config, /*required=*/false);
  command->add_option("--cluster", options->cluster, "what it would run on: a table such as configs/clusters/h800_2048.textproto")
      ->type_name("FILE")
      ->transform(FindFile);
  CLI::Option* search = command->add_flag(
      "--search", options->search,
      "rank all legal layouts by the cost of a token, those that can be trained first, with the --set line of each");
  command->add_option("--shown", options->shown, "lines of the ranking, and how many layouts are counted until so many fit")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str()
      ->needs(search);
  CLI::Option* reproduce =
      command->add_option("--reproduce", options->reproduce, "a published claim beside its prediction: deepseek-v3")
          ->type_name("CLAIM");
  CLI::Option* validate = command->add_option("--validate", options->validate, "published speeds (CSV) beside their predictions")
                              ->type_name("FILE")
                              ->transform(FindFile)
                              ->excludes(reproduce);
  command->add_option("--trace", options->trace, "write the simulated step for chrome://tracing or Perfetto")->type_name("FILE");
  command->add_option("--html", options->html, "write one page with time line and breakdown")->type_name("FILE");
  CLI::Option* imbalance = command
                               ->add_option("--imbalance", options->imbalance,
                                            "rows of the fullest rank of an expert-parallel group, relative to the mean")
                               ->check(CLI::Range(1.0, 100.0))
                               ->capture_default_str()
                               ->excludes(search);
  for (CLI::Option* other : {reproduce, validate}) imbalance->excludes(other);
  command->add_flag("--json", options->json, "print JSON");
  command->add_flag("--stages", options->stages, "also: which layers lie on which stage");
  command->add_flag("--constants", options->constants, "also: the model's constants and their sources");
  for (const char* name : {"--trace", "--html", "--stages"})  // of one layout
    for (CLI::Option* other : {search, reproduce, validate}) command->get_option(name)->excludes(other);
  for (const char* name : {"--config", "--set", "--cluster", "--search", "--constants"})  // of a run of one's own
    for (CLI::Option* other : {reproduce, validate}) command->get_option(name)->excludes(other);
  search->excludes(command->get_option("--constants"));
  command->callback([options, exit_code] { *exit_code = Finish(Run(*options)); });
}

}  // namespace jevons
