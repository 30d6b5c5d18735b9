// jevons inspect: what a checkpoint holds, and what a run's description amounts to.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "configs/fields.h"
#include "configs/load.h"
#include "configs/validate.h"
#include "launch/checkpoint_path.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/describe_config.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/metrics/cost.h"
#include "trainer/run/progress.h"
#include "trainer/run/state.h"
#include "trainer/spec/params.h"
#include "trainer/spec/schedules.h"

namespace jevons {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kExamples[] =
    "jevons inspect run                                   what was trained, how far, with which result\n"
    "jevons inspect run --tensors                         every tensor of its newest checkpoint\n"
    "jevons inspect run --hash                            one line, the same for every layout\n"
    "jevons inspect run --diff other_run                  \"identical\", or the first difference\n"
    "jevons inspect --config configs/presets/deepseek_v3_671b.textproto --params --flops\n"
    "jevons inspect --fields                              every field of a config: type, unit, default, reason";

struct Options {
  std::string target, diff;
  ConfigOptions config;
  bool hash = false, verify = false, tensors = false, params = false, flops = false, print_config = false, fields = false,
       json = false;

  bool wants_config() const { return params || flops || print_config; }
  bool wants_checkpoint() const { return hash || verify || tensors || !diff.empty(); }
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

void AddLine(Answer& answer, absl::string_view name, absl::string_view text) {
  answer.text += absl::StrFormat("%-16s  %s\n", name, absl::StrReplaceAll(text, {{"\n", "; "}}));
}

// Of a run: the newest values that its metrics have up to the checkpoint's step.
void DescribeMetrics(const std::string& run, int64_t step, Answer& answer) {
  std::ifstream file(JoinPath(run, "metrics.jsonl"));
  Json skipped = Json::array();
  std::map<std::string, std::pair<int64_t, double>> newest;
  int64_t bad = 0;
  RowsPerToken rows;
  std::vector<std::string> names = {"loss/main", "validation/loss", "validation/bits_per_byte"};
  for (const auto& [name, value] : rows.Named()) names.emplace_back(name);
  for (std::string line; std::getline(file, line);) {
    const Json metrics = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    const auto at = metrics.is_object() ? metrics.find("step") : metrics.end();
    if (!metrics.is_object() || at == metrics.end() || !at->is_number_integer()) {
      ++bad;
      continue;
    }
    if (at->get<int64_t>() > step) continue;
    if (const auto reason = metrics.find("bad_step/reason"); reason != metrics.end())
      skipped.push_back({{"step", *at}, {"reason", *reason}, {"gradient_hash", metrics.value("bad_step/gradient_hash", "")}});
    for (const std::string& name : names)
      if (const auto value = metrics.find(name); value != metrics.end() && value->is_number())
        newest[name] = {at->get<int64_t>(), value->get<double>()};
  }
  for (const auto& [name, label] : {std::pair{"loss/main", "loss"}, std::pair{"validation/loss", "validation loss"},
                                    std::pair{"validation/bits_per_byte", "bits per byte"}}) {
    const auto found = newest.find(name);
    if (found == newest.end()) continue;
    const auto& [when, value] = found->second;
    AddLine(answer, label,
            absl::StrFormat("%.4f%s, of step %d", value, std::string(name) == "validation/bits_per_byte" ? "" : " nats per token",
                            when));
    answer.json["run"]["metrics"][name] = {{"step", when}, {"value", value}};
  }
  for (const auto& [name, value] : rows.Named()) {
    const auto found = newest.find(name);
    if (found == newest.end()) continue;
    *value = found->second.second;
    answer.json["run"]["metrics"][name] = {{"step", found->second.first}, {"value", *value}};
  }
  if (newest.contains(rows.Named()[0].first)) AddLine(answer, "between nodes", RowsText(rows));
  for (const Json& step : skipped)
    AddLine(answer, "skipped", absl::StrFormat("step %d: %s", step["step"].get<int64_t>(), step["reason"].get<std::string>()));
  if (!skipped.empty()) answer.json["run"]["skipped"] = skipped;
  if (bad > 0) AddLine(answer, "metrics", absl::StrFormat("%d lines of metrics.jsonl are no metrics", bad));
}

// The folder of the run that a checkpoint lies in; "" where it lies in none.
std::string RunOf(const std::string& checkpoint) {
  const std::filesystem::path folder = std::filesystem::path(checkpoint).parent_path();
  return folder.filename() == "checkpoints" ? folder.parent_path().string() : "";
}

absl::Status DescribeRun(const CheckpointReader& reader, Answer& answer) {
  const std::string run = RunOf(reader.path());
  if (run.empty()) return absl::OkStatus();
  DescribeMetrics(run, reader.step(), answer);
  JEVONS_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, CommittedSteps(PosixFileSystem(), JoinPath(run, "checkpoints")));
  AddLine(answer, "checkpoints", "of steps " + absl::StrJoin(steps, ", "));
  answer.json["run"]["path"] = run;
  answer.json["run"]["checkpoints"] = steps;
  std::vector<std::string> files;
  std::error_code gone;
  for (const auto& entry : std::filesystem::directory_iterator(run, gone)) files.push_back(entry.path().filename());
  std::sort(files.begin(), files.end());
  AddLine(answer, "files", absl::StrCat(run, ": ", absl::StrJoin(files, ", ")));
  answer.json["run"]["files"] = files;
  return absl::OkStatus();
}

absl::Status DescribeCheckpoint(const CheckpointReader& reader, Answer& answer) {
  CostLedger ledger;
  if (!ledger.ParseFromString(reader.cost_state()))
    return IntegrityError(absl::StrFormat("%s: the cost ledger cannot be read", reader.path()));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig run, RunConfigOf(reader));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig config, StageConfigOf(reader));
  AddLine(answer, "checkpoint", reader.path());
  const RunSchedule schedule(run);
  AddLine(answer, "step",
          schedule.bounded() ? absl::StrFormat("%d of %d", reader.step(), schedule.steps()) : absl::StrCat(reader.step()));
  if (const std::string model = ModelText(config); !model.empty()) AddLine(answer, "model", model);
  AddLine(answer, "data",
          !config.data().path().empty()      ? config.data().path()
          : config.data().mixture_size() > 0 ? absl::StrFormat("%d datasets", config.data().mixture_size())
                                             : "none: imported, or not told");
  AddLine(answer, "training",
          absl::StrFormat("%d sequences of %d tokens a step, %s, ep %d, pp %d, %s", config.train().batch_sequences(),
                          config.data().sequence_length(), ComputeType_Name(config.precision().compute()), config.parallel().ep(),
                          config.parallel().pp(), BackendType_Name(config.parallel().backend())));
  AddLine(answer, "tensors",
          absl::StrFormat("%d, %s in %d files", reader.tensors().size(), HumanBytes(static_cast<double>(reader.bytes())),
                          reader.files()));
  const bool unnamed = config.parallel().backend() == CUDA &&
                       config.cost().device() == CostConfig::default_instance().device();  // the run knew its GPU
  AddLine(answer, "cost", CostSummary(ledger, unnamed ? "GPU" : config.cost().device(), ledger.dollars() > 0));
  for (const auto& [name, value] : reader.labels()) AddLine(answer, name, value);
  answer.json["checkpoint"] = {{"path", reader.path()},   {"step", reader.step()},     {"bytes", reader.bytes()},
                               {"files", reader.files()}, {"labels", reader.labels()}, {"cost", ConfigJson(ledger)}};
  answer.json["config"] = ConfigJson(run);
  return DescribeRun(reader, answer);
}

void DescribeTensors(const CheckpointReader& reader, Answer& answer) {
  answer.text += absl::StrFormat("%-72s %-5s %-20s %12s\n", "tensor", "dtype", "shape", "bytes");
  Json tensors = Json::array();
  for (const TensorInfo& tensor : reader.tensors()) {
    const int64_t bytes = tensor.shape.size() * SizeOf(tensor.dtype);
    answer.text += absl::StrFormat("%-72s %-5s %-20s %12d\n", tensor.name, NameOf(tensor.dtype), tensor.shape.ToString(), bytes);
    const std::vector<int64_t> shape(tensor.shape.dims, tensor.shape.dims + tensor.shape.rank);
    tensors.push_back({{"name", tensor.name}, {"dtype", NameOf(tensor.dtype)}, {"shape", shape}, {"bytes", bytes}});
  }
  answer.json["tensors"] = std::move(tensors);
}

// --fields: what configs/run.proto says, one line a field.
void DescribeFields(Answer& answer) {
  answer.json = Json::array();
  for (const FieldGroup& group : RunFields()) {
    absl::StrAppendFormat(&answer.text, "%s%s: %s\n", answer.text.empty() ? "" : "\n", group.path, group.about);
    for (const FieldDoc& field : group.fields) {
      const std::string unit = field.unit.empty() ? "" : " [" + field.unit + "]",
                        reason = field.reason.empty() ? "" : "; " + field.reason;
      absl::StrAppendFormat(&answer.text, "  %-44s %-18s %-14s %s%s%s\n", field.path, field.type,
                            field.value.empty() ? "-" : field.value, field.meaning, unit, reason);
      Json choices = Json::object();
      for (const auto& [name, meaning] : field.choices) {
        choices[name] = meaning;
        absl::StrAppendFormat(&answer.text, "  %-44s %s%s%s\n", "", name, meaning.empty() ? "" : ": ", meaning);
      }
      answer.json.push_back({{"path", field.path},
                             {"type", field.type},
                             {"unit", field.unit},
                             {"default", field.value},
                             {"meaning", field.meaning},
                             {"reason", field.reason},
                             {"values", choices}});
    }
  }
}

// --diff: OK in any case where both can be read; `identical` says how it went.
absl::Status Compare(CheckpointReader& reader, const std::string& other_path, Answer& answer, bool* identical) {
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
  if (options.tensors) DescribeTensors(reader, answer);
  return options.wants_checkpoint() ? absl::OkStatus() : DescribeCheckpoint(reader, answer);
}

absl::Status InspectConfig(const Options& options, Answer& answer) {
  if (!options.wants_config()) return UsageError("--config: say what to show: --params, --flops or --print-config");
  if (options.wants_checkpoint()) {
    return UsageError("--hash, --verify, --tensors and --diff look at a checkpoint: name a run or a checkpoint, not --config");
  }
  JEVONS_ASSIGN_OR_RETURN(const RunConfig config, LoadRunConfig(options.config.path, options.config.overrides));
  JEVONS_RETURN_IF_ERROR(ValidationStatus(config, /*world_size=*/0));
  return DescribeConfig(config, options, answer);
}

int Run(const Options& options) {
  if (options.fields) {
    if (options.wants_config() || options.wants_checkpoint() || !options.target.empty() || !options.config.path.empty() ||
        !options.config.overrides.empty())
      return Finish(UsageError("--fields lists what any config may say: it goes with --json alone"));
    Answer fields;
    DescribeFields(fields);
    WriteOut(options.json ? fields.json.dump(2) + "\n" : fields.text);
    return 0;
  }
  const bool from_config = !options.config.path.empty();
  if (from_config != options.target.empty()) {
    return Finish(
        UsageError("inspect: name either a run (or checkpoint) or --config FILE; --fields lists what a config may say"));
  }
  if (!from_config && !options.config.overrides.empty() && !options.wants_config())
    return Finish(UsageError("--set changes a config: it goes with --params, --flops or --print-config"));
  Answer answer;
  bool identical = true;
  const absl::Status status = from_config ? InspectConfig(options, answer) : InspectCheckpoint(options, answer, &identical);
  if (!status.ok()) return Finish(status);
  WriteOut(options.json ? answer.json.dump(2) + "\n" : answer.text);
  return static_cast<int>(identical ? ExitCode::kOk : ExitCode::kFailure);
}

}  // namespace

void RegisterInspect(CLI::App& program, int* exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* command = AddCommand(
      program, "inspect",
      "what was trained, and what a checkpoint holds; parameters and FLOPs of a config; all fields of a config", kExamples);
  command->add_option("RUN", options->target, "a run (its newest checkpoint) or a checkpoint");
  command->add_flag("--hash", options->hash, "print a hash of the state that no layout changes");
  command
      ->add_option("--diff", options->diff, "compare with another: exit 0 if identical, else name the first difference, exit 1")
      ->type_name("RUN");
  command->add_flag("--tensors", options->tensors, "list all tensors: names, types, shapes, bytes");
  command->add_flag("--verify", options->verify, "read everything and check all hashes");
  AddConfigOptions(*command, options->config, /*required=*/false);
  command->add_flag("--params", options->params, "parameters: names, shapes, sums");
  command->add_flag("--flops", options->flops, "FLOPs per token, term by term");
  command->add_flag("--print-config", options->print_config, "every field, with defaults filled in");
  command->add_flag("--fields", options->fields, "every field that a config may have: type, default, meaning [unit], reason");
  command->add_flag("--json", options->json, "print JSON");
  command->callback([options, exit_code] { *exit_code = Run(*options); });
}

}  // namespace jevons
