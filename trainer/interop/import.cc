#include "trainer/interop/import.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/load.h"
#include "configs/validate.h"
#include "data/prepare/dataset_info.h"
#include "data/tokenizer/tokenizer.h"
#include "kernels/base/log.h"
#include "trainer/checkpoint/stream_writer.h"
#include "trainer/files/hf_files.h"
#include "trainer/files/staged_folder.h"
#include "trainer/interop/hf_config.h"
#include "trainer/interop/hf_folder.h"
#include "trainer/interop/problems.h"
#include "trainer/run/run_inputs.h"
#include "trainer/spec/hf_names.h"
#include "trainer/spec/params.h"

namespace jevons {
namespace {

constexpr size_t kMostProblems =
    100'000;  // a line of config.json can ask for any number of tensors: more than these are not listed

// A published config may name MTP modules that its files do not have (transformers writes models without them) or leave out
// those that they have: the files decide.
int64_t MtpDepth(const HfFolder& folder, int64_t layers, int64_t declared) {
  const auto prefix = [&](int64_t k) { return absl::StrCat("model.layers.", layers + k, "."); };
  int64_t present = 0;
  while (folder.Has(prefix(present) + "eh_proj.weight")) ++present;
  const std::vector<std::string> names = folder.names();
  const bool any =
      std::any_of(names.begin(), names.end(), [&](const std::string& name) { return absl::StartsWith(name, prefix(0)); });
  if (any && declared > present) return declared;  // what is missing of them is told with all other tensors
  if (declared != present)
    LogWarning(absl::StrFormat("%s: config.json names %d MTP modules, the files have %d: imported with %d", folder.path(),
                               declared, present, present));
  return present;
}

// Frequencies that old programs saved beside the weights: config.json says them.
constexpr char kRotaryBuffer[] = ".rotary_emb.inv_freq";

// What the imported checkpoint's own config says; the run that goes on from it may change all but the model.
RunConfig ConfigFor(const HfConfig& published) {
  RunConfig config;
  *config.mutable_model() = published.model;
  config.mutable_data()->set_sequence_length(published.max_positions);
  config.mutable_train()->set_steps(1000);
  config.mutable_train()->set_batch_sequences(8);
  config.mutable_optimizer()->mutable_learning_rate()->set_peak(1e-5);
  config.mutable_optimizer()->mutable_learning_rate()->set_warmup_steps(100);
  return config;
}

// All that must be there, against all that is.
absl::Status CheckTensors(const HfFolder& folder, const ModelConfig& model) {
  std::vector<std::string> problems;
  std::set<std::string> expected;
  const auto expect = [&](const std::string& name, const std::vector<int64_t>& shape) {
    expected.insert(name);
    if (folder.Has(name) && folder.Entry(name).dtype == kStF8E4M3) expected.insert(name + kScaleSuffix);
    if (const std::string refusal = folder.Refusal(name, shape); !refusal.empty())
      problems.push_back(absl::StrCat(name, " ", refusal));
  };
  for (const ParamSpec& spec : ParameterTable(model)) {
    for (const PublishedTensor& tensor : PublishedTensors(spec)) expect(tensor.name, tensor.shape);
    if (problems.size() > kMostProblems) return ProblemsStatus(folder.path(), problems);
  }
  for (const std::string& name : GateBiasNames(model)) expect(name, {model.moe().routed_experts()});
  for (const SharedCopy& copy : SharedCopies(model)) {
    if (!folder.Has(copy.name) || !folder.Has(copy.of)) continue;
    expected.insert(copy.name);
    const SafetensorsEntry &a = folder.Entry(copy.name), &b = folder.Entry(copy.of);
    if (a.dtype != b.dtype || a.shape != b.shape)
      problems.push_back(
          absl::StrCat(copy.name, " is ", DescribeTensor(a), "; it must be a copy of ", copy.of, ", ", DescribeTensor(b)));
  }
  for (const PublishedTensor& tensor : EmptySharedExperts(model)) {
    expected.insert(tensor.name);
    if (folder.Has(tensor.name) && folder.Entry(tensor.name).shape != tensor.shape)
      problems.push_back(
          absl::StrCat(tensor.name, " is ", DescribeTensor(folder.Entry(tensor.name)), ", but n_shared_experts is 0"));
  }
  for (const std::string& name : folder.names()) {
    if (expected.count(name) == 0 && !absl::EndsWith(name, kRotaryBuffer))
      problems.push_back(absl::StrCat(name, " is ", DescribeTensor(folder.Entry(name)), ", which config.json has no place for"));
  }
  return ProblemsStatus(folder.path(), problems);
}

absl::Status CheckSharedCopies(HfFolder& folder, const ModelConfig& model) {
  std::vector<std::string> problems;
  for (const SharedCopy& copy : SharedCopies(model)) {
    if (!folder.Has(copy.name)) continue;
    JEVONS_ASSIGN_OR_RETURN(const bool same, folder.Same(copy.name, copy.of));
    if (!same) problems.push_back(absl::StrCat(copy.name, " differs from ", copy.of, ", which MTP modules share with the model"));
  }
  return ProblemsStatus(folder.path(), problems);
}

absl::Status WriteWeights(HfFolder& folder, const ModelConfig& model, CheckpointStream& writer) {
  const auto append = [&](std::span<const float> piece) { return writer.Append(std::as_bytes(piece)); };
  for (const ParamSpec& spec : ParameterTable(model)) {
    JEVONS_RETURN_IF_ERROR(writer.BeginTensor("weight/" + spec.name, DType::kF32, spec.shape));
    for (const PublishedTensor& tensor : PublishedTensors(spec)) JEVONS_RETURN_IF_ERROR(folder.Stream(tensor.name, append));
  }
  for (const std::string& name : GateBiasNames(model)) {
    JEVONS_RETURN_IF_ERROR(writer.BeginTensor("gate_bias/" + name, DType::kF32, {model.moe().routed_experts()}));
    JEVONS_RETURN_IF_ERROR(folder.Stream(name, append));
  }
  return absl::OkStatus();
}

// Copies what belongs to the tokenizer, and lets the config and the checkpoint name it.
absl::Status TakeTokenizer(FileSystem& files, const std::string& input, const std::string& output, StagedFolder& folder,
                           RunConfig& config, CheckpointInfo& info) {
  for (const char* name : kTokenizerFiles) {
    const std::string path = JoinPath(input, name);
    JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> found, files.Stat(path));
    if (found) JEVONS_RETURN_IF_ERROR(folder.Copy(path, name));
  }
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> tokenizer, files.Stat(JoinPath(folder.path(), kTokenizerJson)));
  if (!tokenizer) return absl::OkStatus();
  if (const auto loaded = Tokenizer::Load(JoinPath(folder.path(), kTokenizerJson)); !loaded.ok())
    LogWarning(absl::StrCat(
        "the weights are imported, but their tokenizer is not one that can be used here; train and generate with another by ",
        "--set data.tokenizer=FILE. ", loaded.status().message()));
  JEVONS_ASSIGN_OR_RETURN(const FileRecord record, DescribeFile(JoinPath(folder.path(), kTokenizerJson)));
  info.labels[kTokenizerLabel] = record.xxh3_128;
  config.mutable_data()->set_tokenizer(JoinPath(std::filesystem::absolute(output).lexically_normal().string(), kTokenizerJson));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ImportReport> ImportCheckpoint(FileSystem& files, const std::string& input, const std::string& output) {
  const std::string config_path = JoinPath(input, kConfigJson);
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> info, files.Stat(config_path));
  if (!info) return IntegrityError(config_path + ": there is no such file; give the folder of a published checkpoint as --input");
  JEVONS_ASSIGN_OR_RETURN(const std::string json, ReadSmallFile(files, config_path));
  JEVONS_ASSIGN_OR_RETURN(HfConfig published, ParseHfConfig(json, config_path));
  for (const std::string& warning : published.warnings) LogWarning(warning);
  JEVONS_ASSIGN_OR_RETURN(HfFolder folder, HfFolder::Open(files, input));
  ModelConfig& model = published.model;
  model.mutable_mtp()->set_depth(MtpDepth(folder, model.layers(), model.mtp().depth()));
  RunConfig config = ConfigFor(published);
  if (const absl::Status valid = ValidationStatus(config, 1); !valid.ok())
    return IntegrityError(absl::StrCat(config_path, ": describes a network that is not supported\n", valid.message()));
  JEVONS_RETURN_IF_ERROR(CheckTensors(folder, model));
  JEVONS_RETURN_IF_ERROR(CheckSharedCopies(folder, model));

  JEVONS_ASSIGN_OR_RETURN(StagedFolder run, StagedFolder::Create(files, output));
  CheckpointInfo state;
  JEVONS_RETURN_IF_ERROR(TakeTokenizer(files, input, output, run, config, state));
  state.config_text = ResolvedText(config);
  JEVONS_RETURN_IF_ERROR(run.WriteText(
      "config.textproto",
      absl::StrCat("# Imported from ", input,
                   ". The model is that of the checkpoint; data, train and optimizer are a start: set\n",
                   "# what your run needs, and `jevons train --config` this file `--output` this folder goes on from here.\n",
                   state.config_text)));
  JEVONS_ASSIGN_OR_RETURN(CheckpointStream writer,
                          CheckpointStream::Create(files, JoinPath(run.path(), "checkpoints/step-00000000")));
  JEVONS_RETURN_IF_ERROR(WriteWeights(folder, model, writer));
  JEVONS_RETURN_IF_ERROR(writer.Finish(state));
  JEVONS_RETURN_IF_ERROR(run.Commit());
  const ParamCount count = CountParameters(model);
  return ImportReport{.parameters = count.total + count.mtp_unique,
                      .tensors = static_cast<int64_t>(folder.names().size()),
                      .tokenizer = !config.data().tokenizer().empty()};
}

}  // namespace jevons
