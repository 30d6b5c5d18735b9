#include "trainer/interop/export_plan.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/differences.h"
#include "data/tokenizer/tokenizer.h"
#include "kernels/ops/quantize.h"
#include "trainer/files/hf_files.h"
#include "trainer/interop/hf_folder.h"
#include "trainer/interop/problems.h"
#include "trainer/run/state.h"
#include "trainer/spec/hf_names.h"
#include "trainer/spec/params.h"

namespace jevons {
namespace {

constexpr int64_t kPieceElements = int64_t{1} << 20;

std::vector<ExportItem> ItemsOf(const ModelConfig& model, HfPrecision precision) {
  const std::string plain = precision == HfPrecision::kFp32 ? kStF32 : kStBF16;
  std::vector<ExportItem> items;
  std::map<std::string, ExportItem> shared;
  for (const ParamSpec& spec : ParameterTable(model)) {
    const bool fp8 = precision == HfPrecision::kFp8 && PublishedInFp8(spec);
    for (const PublishedTensor& tensor : PublishedTensors(spec)) {
      ExportItem item{.spec = {tensor.name, fp8 ? kStF8E4M3 : plain, tensor.shape},
                      .source = {"weight/" + spec.name, spec.shape, tensor.begin},
                      .rows = tensor.shape[0]};
      if (spec.part == ModelPart::kEmbedding || spec.part == ModelPart::kHead) shared[tensor.name] = item;
      items.push_back(item);
      if (!fp8) continue;
      item.spec = {tensor.name + kScaleSuffix, kStF32, {TilesOf(tensor.shape[0]), TilesOf(tensor.shape[1])}};
      item.is_scale = true;
      items.push_back(item);
    }
  }
  const int64_t experts = model.moe().routed_experts();
  for (const std::string& name : GateBiasNames(model))
    items.push_back({.spec = {name, kStF32, {experts}}, .source = {"gate_bias/" + name, {experts}, 0}});
  for (const SharedCopy& copy : SharedCopies(model)) {
    ExportItem item = shared.at(copy.of);
    item.spec.name = copy.name;
    items.push_back(item);
  }
  for (const PublishedTensor& tensor : EmptySharedExperts(model))
    items.push_back({.spec = {tensor.name, plain, tensor.shape}, .source = {}});
  return items;
}

int64_t Elements(const SafetensorsSpec& spec) {
  int64_t elements = 1;
  for (const int64_t dim : spec.shape) elements *= dim;
  return elements;
}

// Moments are of the optimizer, and stay.
bool IsOfTheNetwork(const std::string& tensor) {
  return !absl::StartsWith(tensor, "m/") && !absl::StartsWith(tensor, "v/") && !absl::StartsWith(tensor, "ema/");
}

// Tensors of the MTP modules that the checkpoint's network has and `model`, otherwise the same, has not: `--set model.mtp.depth=0` leaves
// them out.
absl::StatusOr<std::set<std::string>> MtpLeftOut(const CheckpointReader& reader, const ModelConfig& model,
                                                 const std::vector<ExportItem>& items) {
  JEVONS_ASSIGN_OR_RETURN(const RunConfig config, StageConfigOf(reader));
  ModelConfig same = config.model();
  same.mutable_mtp()->set_depth(model.mtp().depth());
  std::set<std::string> left;
  if (model.mtp().depth() >= config.model().mtp().depth() || !Differences(same, model).empty()) return left;
  for (const ExportItem& item : ItemsOf(config.model(), HfPrecision::kFp32)) left.insert(item.source.tensor);
  for (const ExportItem& item : items) left.erase(item.source.tensor);
  return left;
}

absl::Status CheckWhole(const CheckpointReader& reader, const ModelConfig& model, const std::vector<ExportItem>& items) {
  JEVONS_ASSIGN_OR_RETURN(const std::set<std::string> left_out, MtpLeftOut(reader, model, items));
  std::map<std::string, int64_t> covered;  // elements of each tensor, from the first
  std::vector<std::string> problems;
  const std::vector<SharedCopy> copies = SharedCopies(model);
  for (const ExportItem& item : items) {
    const bool is_copy =
        std::any_of(copies.begin(), copies.end(), [&](const SharedCopy& copy) { return copy.name == item.spec.name; });
    if (item.is_scale || is_copy || item.source.tensor.empty()) continue;
    int64_t& end = covered[item.source.tensor];
    if (item.source.begin != end)
      problems.push_back(
          absl::StrFormat("%s: element %d comes after %d as %s", item.source.tensor, item.source.begin, end, item.spec.name));
    end = item.source.begin + Elements(item.spec);
  }
  for (const TensorInfo& tensor : reader.tensors()) {
    if (!IsOfTheNetwork(tensor.name) || left_out.count(tensor.name) > 0) continue;
    const auto found = covered.find(tensor.name);
    if (found == covered.end())
      problems.push_back(
          absl::StrCat(tensor.name, " ", tensor.shape.ToString(), " has no place in the network that the config describes"));
    else if (found->second != tensor.shape.size())
      problems.push_back(absl::StrFormat("%s has %d elements, of which the config's network has %d", tensor.name,
                                         tensor.shape.size(), found->second));
  }
  return ProblemsStatus(reader.path(), problems);
}

// Loops that compilers vectorise.
bool AllFinite(std::span<const float> values) {
  uint32_t most = 0;
  for (const float x : values) most = std::max(most, std::bit_cast<uint32_t>(x) & 0x7FFFFFFFu);
  return most < 0x7F800000u;
}
bool AllFinite(std::span<const bf16> values) {
  uint16_t most = 0;
  for (const bf16 x : values) most = std::max<uint16_t>(most, x.bits & 0x7FFF);
  return most < 0x7F80;
}

// The values begin at element `begin` of the item.
template <typename T>
absl::Status CheckFinite(const CheckpointReader& reader, const ExportItem& item, int64_t begin, std::span<const T> values,
                         const char* remedy) {
  if (AllFinite(values)) return absl::OkStatus();
  const auto found = std::find_if(values.begin(), values.end(), [](T x) { return !std::isfinite(static_cast<float>(x)); });
  return IntegrityError(absl::StrFormat("%s: element %d of %s is %g %s", reader.path(), begin + (found - values.begin()),
                                        item.spec.name, static_cast<float>(*found), remedy));
}

}  // namespace

absl::StatusOr<std::vector<ExportItem>> PlanExport(const CheckpointReader& reader, const ModelConfig& model,
                                                   HfPrecision precision) {
  std::vector<ExportItem> items = ItemsOf(model, precision);
  JEVONS_RETURN_IF_ERROR(CheckWhole(reader, model, items));
  return items;
}

absl::Status ExportConverter::Convert(const ExportItem& item, const Sink& sink) {
  if (item.is_scale || item.spec.dtype == kStF8E4M3) return ConvertFp8(item, sink);
  const int64_t elements = Elements(item.spec);
  for (int64_t begin = 0; begin < elements; begin += kPieceElements) {
    JEVONS_RETURN_IF_ERROR(Read(item, begin, std::min(kPieceElements, elements - begin)));
    if (item.spec.dtype == kStF32) {
      JEVONS_RETURN_IF_ERROR(sink(std::as_bytes(std::span(piece_))));
      continue;
    }
    rounded_.resize(piece_.size());
    std::transform(piece_.begin(), piece_.end(), rounded_.begin(), [](float x) { return bf16(x); });
    JEVONS_RETURN_IF_ERROR(
        CheckFinite(reader_, item, begin, std::span<const bf16>(rounded_), "when rounded to BF16; export in fp32"));
    JEVONS_RETURN_IF_ERROR(sink(std::as_bytes(std::span(rounded_))));
  }
  return absl::OkStatus();
}

absl::Status ExportConverter::Read(const ExportItem& item, int64_t begin, int64_t count) {
  piece_.resize(static_cast<size_t>(count));
  const int64_t first = item.source.begin + begin;
  JEVONS_RETURN_IF_ERROR(reader_.Read(item.source.tensor, DType::kF32, item.source.shape, {first, first + count}, piece_.data()));
  return CheckFinite(reader_, item, begin, std::span<const float>(piece_), "in the checkpoint; take an earlier one");
}

// A row of blocks at a time. Codes and scales are apart in the file, so each is made when its turn comes.
absl::Status ExportConverter::ConvertFp8(const ExportItem& item, const Sink& sink) {
  const int64_t cols = item.source.shape.cols();
  std::vector<uint8_t> codes;
  std::vector<float> scales(static_cast<size_t>(TilesOf(cols)));
  for (int64_t row = 0; row < item.rows; row += kTileSize) {
    const int64_t count = std::min(kTileSize, item.rows - row);
    JEVONS_RETURN_IF_ERROR(Read(item, row * cols, count * cols));
    codes.resize(piece_.size());
    Quantize({}, {.x = Tensor::Of(piece_.data(), {count, cols}),
                  .codes = Tensor::Of(codes.data(), {count, cols}),
                  .scales = Tensor::Of(scales.data(), {1, TilesOf(cols)}),
                  .tiling = Tiling::kBlocks128x128});
    JEVONS_RETURN_IF_ERROR(sink(item.is_scale ? std::as_bytes(std::span(scales)) : std::as_bytes(std::span(codes))));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::map<std::string, std::string>> ExportTexts(FileSystem& files, const RunConfig& config, HfPrecision precision,
                                                               const std::string& tokenizer_path) {
  const YarnConfig& yarn = config.model().attention().yarn();
  const HfConfig published = {
      .model = config.model(),
      .max_positions = yarn.factor() > 1 ? static_cast<int64_t>(yarn.factor() * static_cast<double>(yarn.original_length()))
                                         : config.data().sequence_length()};
  std::map<std::string, std::string> texts;
  if (tokenizer_path.empty()) {
    texts[kConfigJson] = HfConfigJson(published, precision, -1, -1);
    return texts;
  }
  JEVONS_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(tokenizer_path));
  texts[kConfigJson] = HfConfigJson(published, precision, tokenizer.bos_id(), tokenizer.eos_id());
  for (const char* name : kTokenizerFiles) {
    const std::string path = name == std::string(kTokenizerJson) ? tokenizer_path : JoinPath(ParentPath(tokenizer_path), name);
    JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> found, files.Stat(path));
    if (!found) continue;
    JEVONS_ASSIGN_OR_RETURN(texts[name], ReadSmallFile(files, path));
  }
  const auto text = [&](int64_t id) { return std::string(tokenizer.TokenBytes(static_cast<int32_t>(id))); };
  if (texts.count(kTokenizerConfigJson) == 0) {
    const nlohmann::ordered_json json = {{"add_bos_token", false},
                                         {"add_eos_token", false},
                                         {"bos_token", text(tokenizer.bos_id())},
                                         {"eos_token", text(tokenizer.eos_id())},
                                         {"pad_token", text(tokenizer.pad_id())},
                                         {"clean_up_tokenization_spaces", false},
                                         {"model_max_length", published.max_positions},
                                         {"tokenizer_class", "PreTrainedTokenizerFast"}};
    // A template may begin with a byte, which is no text.
    texts[kTokenizerConfigJson] =
        json.dump(2, ' ', /*ensure_ascii=*/false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  if (texts.count(kGenerationConfigJson) == 0) {
    const nlohmann::ordered_json json = {{"bos_token_id", tokenizer.bos_id()}, {"eos_token_id", tokenizer.eos_id()}};
    texts[kGenerationConfigJson] = json.dump(2) + "\n";
  }
  return texts;
}

}  // namespace jevons
