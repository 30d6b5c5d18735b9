// jevons report: a page that shows runs.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include "absl/strings/str_format.h"
#include "configs/load.h"
#include "kernels/base/log.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/data_files.h"
#include "launch/describe_config.h"
#include "launch/supervise/run_status.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/report/page.h"
#include "trainer/spec/params.h"

namespace jevons {
namespace {

constexpr char kExamples[] =
    "jevons report run --output page.html            curves, cost, experts, memory, config of a run: one file, for any browser\n"
    "jevons report run_a run_b --output page.html    side by side, then each\n"
    "jevons generate --checkpoint run --prompt \"And God said\" > run/samples.txt    is shown too; so is train --trace "
    "run/trace.json";

constexpr size_t kMostSamples = 8000;               // bytes of samples.txt that are shown
constexpr int64_t kMostHashed = int64_t{16} << 30;  // bytes of a checkpoint that are read for its hash

struct Options {
  std::vector<std::string> runs;
  std::string output;
};

// "" where there is none.
std::string TextOf(const std::string& path) {
  std::ostringstream text;
  if (std::ifstream file(path, std::ios::binary); file) text << file.rdbuf();
  return text.str();
}

// The preset that the fewest fields differ from, its model's above all.
void FindPreset(const RunHistory& run, RunFacts& facts) {
  const auto folder = ConfigsFolder();
  if (!folder.ok()) return;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(*folder + "/presets", none)) {
    const auto given = LoadRunConfig(entry.path(), {});
    if (!given.ok()) continue;
    const auto preset = ParseRunConfig(ResolvedText(*given), entry.path(), {});
    const RunConfig both[] = {*preset, run.config};
    std::vector<FieldValues> differing = DifferingFields(both);
    if (!facts.preset.empty() && differing.size() >= facts.from_preset.size()) continue;
    facts.preset = entry.path().stem();
    facts.from_preset = std::move(differing);
  }
}

absl::Status ReadCheckpoint(const std::string& path, const ModelConfig& model, RunFacts& facts) {
  JEVONS_ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(PosixFileSystem(), path));
  std::string hash = "see `jevons inspect --hash`: the checkpoint is large";
  if (reader.bytes() <= kMostHashed) {
    JEVONS_ASSIGN_OR_RETURN(hash, StateHash(reader));
  }
  facts.hashes.emplace_back(absl::StrFormat("hash of step %d", reader.step()), hash);
  facts.biases_step = reader.step();
  const int64_t experts = model.moe().routed_experts();
  for (const std::string& name : GateBiasNames(model)) {
    std::vector<float> values(static_cast<size_t>(experts));
    JEVONS_RETURN_IF_ERROR(reader.Read("gate_bias/" + name, DType::kF32, {experts}, {0, experts}, values.data()));
    facts.biases.emplace_back(name, std::vector<double>(values.begin(), values.end()));
  }
  return absl::OkStatus();
}

RunFacts FactsOf(const RunHistory& run) {
  RunFacts facts{.model = ModelText(run.config),
                 .summary = TextOf(JoinPath(run.path, "summary.json")),
                 .trace = TextOf(JoinPath(run.path, "trace.json")),
                 .samples = TextOf(JoinPath(run.path, "samples.txt")).substr(0, kMostSamples)};
  for (const JournalEvent& event : ReadJournal(run.path)) facts.events.push_back(EventText(event));
  FindPreset(run, facts);
  const std::string checkpoints = JoinPath(run.path, "checkpoints");
  const auto steps = CommittedSteps(PosixFileSystem(), checkpoints);
  if (!steps.ok() || steps->empty()) return facts;
  const auto path = CheckpointPath(PosixFileSystem(), checkpoints, steps->back());
  if (const absl::Status status = path.ok() ? ReadCheckpoint(*path, run.config.model(), facts) : path.status(); !status.ok())
    LogWarning(absl::StrFormat("the page is without hash and gate biases: %s", std::string(status.message())));
  return facts;
}

absl::Status Run(const Options& options) {
  std::vector<RunHistory> runs;
  std::vector<RunFacts> facts;
  for (const std::string& path : options.runs) {
    JEVONS_ASSIGN_OR_RETURN(RunHistory run, ReadRunHistory(path));
    facts.push_back(FactsOf(run));
    runs.push_back(std::move(run));
  }
  RunComparison comparison;
  if (runs.size() > 1) {
    JEVONS_ASSIGN_OR_RETURN(comparison, CompareRuns(runs, {}));
  }
  return WriteFile(options.output, ReportPage(runs, facts, comparison));
}

}  // namespace

void RegisterReport(CLI::App& program, int* exit_code) {
  CLI::App* command = AddCommand(program, "report",
                                 "One page about runs, from their files alone: an HTML file that needs nothing else.", kExamples);
  auto options = std::make_shared<Options>();
  command->add_option("RUN", options->runs, "what was given to train's --output")->required();
  command->add_option("--output", options->output, "the page")->type_name("FILE")->required();
  command->callback([options, exit_code] { *exit_code = Finish(Run(*options)); });
}

}  // namespace jevons
