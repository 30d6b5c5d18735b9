// jevons inspect: what a checkpoint holds, and what a run's description amounts to.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "configs/load.h"
#include "configs/validate.h"
#include "launch/checkpoint_path.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/describe_config.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/metrics/cost.h"

namespace jevons {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kExamples[] =
    "jevons inspect run                                   what its newest checkpoint holds\n"
    "jevons inspect run --hash                            one line, the same for every layout\n"
    "jevons inspect run --diff other_run                  \"identical\", or the first difference\n"
    "jevons inspect --config configs/presets/deepseek_v3_671b.textproto --params --flops";

struct Options {
  std::string target, diff;
  ConfigOptions config;
  bool hash = false, verify = false, params = false, flops = false, print_config = false, json = false;

  bool wants_config() const { return params || flops || print_config; }
};

// One answer, collected in both forms; --json chooses.
struct Answer {
  std::string text;
  Json json = Json::object();
};

absl::Status DescribeConfig(const RunConfig& config, const Options& options, Answer& answer) {
  if ((options.params || options.flops) && config.model().vocab_size() == 0) {
    return UsageError(
        "model.vocab_size = 0: the data decides, so that the model has no size yet; add --set "
        "model.vocab_size=2048");
  }
  if (options.print_config) {
    answer.text += ResolvedText(config);
    answer.json["config"] = ConfigJson(config);
  }
  if (options.params) {
    answer.text += ParamsText(config.model());
    answer.json["params"] = ParamsJson(config.model());
  }
  if (options.params && options.flops) answer.text += "\n";
  if (options.flops) {
    answer.text += FlopsText(config);
    answer.json["flops"] = FlopsJson(config);
  }
  return absl::OkStatus();
}

void DescribeLabels(const CheckpointReader& reader, const CostLedger& ledger, Answer& answer) {
  answer.text += absl::StrFormat(
      "checkpoint        %s\nstep              %d\ntensors           %d, %s in %d files\ncost              "
      "%s\n",
      reader.path(), reader.step(), reader.tensors().size(), HumanBytes(static_cast<double>(reader.bytes())),
      reader.files(), CostSummary(ledger, "device", ledger.dollars() > 0));
  for (const auto& [name, value] : reader.labels()) {
    answer.text += absl::StrFormat("%-16s  %s\n", name, absl::StrReplaceAll(value, {{"\n", "; "}}));
  }
  answer.json["checkpoint"] = {{"path", reader.path()},     {"step", reader.step()},
                               {"bytes", reader.bytes()},   {"files", reader.files()},
                               {"labels", reader.labels()}, {"cost", ConfigJson(ledger)}};
}

absl::Status DescribeCheckpoint(const CheckpointReader& reader, Answer& answer) {
  CostLedger ledger;
  if (!ledger.ParseFromString(reader.cost_state())) {
    return IntegrityError(absl::StrFormat("%s: the cost ledger cannot be read", reader.path()));
  }
  DescribeLabels(reader, ledger, answer);
  answer.text += absl::StrFormat("\n%-72s %-5s %-20s %12s\n", "tensor", "dtype", "shape", "bytes");
  Json tensors = Json::array();
  for (const TensorInfo& tensor : reader.tensors()) {
    const int64_t bytes = tensor.shape.size() * SizeOf(tensor.dtype);
    answer.text += absl::StrFormat("%-72s %-5s %-20s %12d\n", tensor.name, NameOf(tensor.dtype),
                                   tensor.shape.ToString(), bytes);
    const std::vector<int64_t> shape(tensor.shape.dims, tensor.shape.dims + tensor.shape.rank);
    tensors.push_back(
        {{"name", tensor.name}, {"dtype", NameOf(tensor.dtype)}, {"shape", shape}, {"bytes", bytes}});
  }
  answer.json["checkpoint"]["tensors"] = std::move(tensors);
  return absl::OkStatus();
}

// --diff: OK in any case where both can be read; `identical` says how it went.
absl::Status Compare(CheckpointReader& reader, const std::string& other_path, Answer& answer,
                     bool* identical) {
  JEVONS_ASSIGN_OR_RETURN(CheckpointReader other, OpenCheckpointAt(PosixFileSystem(), other_path));
  JEVONS_ASSIGN_OR_RETURN(const std::string difference, Diff(reader, other));
  *identical = difference == "identical";
  answer.text += difference + "\n";
  answer.json["identical"] = *identical;
  answer.json["difference"] = *identical ? "" : difference;
  return absl::OkStatus();
}

absl::Status InspectCheckpoint(const Options& options, Answer& answer, bool* identical) {
  JEVONS_ASSIGN_OR_RETURN(CheckpointReader reader, OpenCheckpointAt(PosixFileSystem(), options.target));
  if (options.verify) {
    JEVONS_RETURN_IF_ERROR(reader.Verify());
    answer.text += absl::StrFormat("%s: every hash is right\n", reader.path());
    answer.json["verified"] = true;
  }
  if (options.hash) {
    JEVONS_ASSIGN_OR_RETURN(const std::string hash, StateHash(reader));
    answer.text += hash + "\n";
    answer.json["hash"] = hash;
  }
  if (!options.diff.empty()) JEVONS_RETURN_IF_ERROR(Compare(reader, options.diff, answer, identical));
  if (options.wants_config()) {
    JEVONS_ASSIGN_OR_RETURN(const RunConfig config,
                            ParseRunConfig(reader.config_text(), reader.path(), options.config.overrides));
    return DescribeConfig(config, options, answer);
  }
  const bool asked = options.verify || options.hash || !options.diff.empty();
  return asked ? absl::OkStatus() : DescribeCheckpoint(reader, answer);
}

absl::Status InspectConfig(const Options& options, Answer& answer) {
  if (!options.wants_config())
    return UsageError("--config: say what to show: --params, --flops or --print-config");
  if (options.hash || options.verify || !options.diff.empty()) {
    return UsageError(
        "--hash, --verify and --diff look at a checkpoint: name a run or a checkpoint, not --config");
  }
  JEVONS_ASSIGN_OR_RETURN(const RunConfig config,
                          LoadRunConfig(options.config.path, options.config.overrides));
  JEVONS_RETURN_IF_ERROR(ValidationStatus(config, /*world_size=*/0));
  return DescribeConfig(config, options, answer);
}

int Run(const Options& options) {
  const bool from_config = !options.config.path.empty();
  if (from_config != options.target.empty()) {
    return Finish(UsageError("inspect: name either a run (or checkpoint) or --config FILE"));
  }
  if (!from_config && !options.config.overrides.empty() && !options.wants_config())
    return Finish(UsageError("--set changes a config: it goes with --params, --flops or --print-config"));
  Answer answer;
  bool identical = true;
  const absl::Status status =
      from_config ? InspectConfig(options, answer) : InspectCheckpoint(options, answer, &identical);
  if (!status.ok()) return Finish(status);
  WriteOut(options.json ? answer.json.dump(2) + "\n" : answer.text);
  return static_cast<int>(identical ? ExitCode::kOk : ExitCode::kFailure);
}

}  // namespace

void RegisterInspect(CLI::App& program, int* exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      AddCommand(program, "inspect", "what a checkpoint holds; parameters and FLOPs of a config", kExamples);
  command->add_option("RUN", options->target, "a run (its newest checkpoint) or a checkpoint");
  command->add_flag("--hash", options->hash, "print a hash of the state that no layout changes");
  command
      ->add_option("--diff", options->diff,
                   "compare with another: exit 0 if identical, else name the first difference, exit 1")
      ->type_name("RUN");
  command->add_flag("--verify", options->verify, "read everything and check all hashes");
  AddConfigOptions(*command, options->config, /*required=*/false);
  command->add_flag("--params", options->params, "parameters: names, shapes, sums");
  command->add_flag("--flops", options->flops, "FLOPs per token, term by term");
  command->add_flag("--print-config", options->print_config, "every field, with defaults filled in");
  command->add_flag("--json", options->json, "print JSON");
  command->callback([options, exit_code] { *exit_code = Run(*options); });
}

}  // namespace jevons
