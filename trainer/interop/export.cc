#include "trainer/interop/export.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "data/tokenizer/tokenizer.h"
#include "kernels/fp8/quantize.h"
#include "trainer/interop/hf_files.h"
#include "trainer/interop/hf_folder.h"
#include "trainer/interop/hf_names.h"
#include "trainer/interop/staged_folder.h"
#include "trainer/interop/safetensors.h"

namespace jevons {
namespace {

constexpr int64_t kPieceElements = int64_t{1} << 20;

// Where the elements of a published tensor lie in the checkpoint.
struct Source {
  std::string tensor;  // "weight/...", "gate_bias/..."
  Shape shape;
  int64_t begin = 0;
};

struct Item {
  SafetensorsSpec spec;
  Source source;
  int64_t rows = 0;       // in FP8: of the weight
  bool is_scale = false;  // the scales of the FP8 codes of `source`, in the file of the item before, which are these codes
};

// All tensors of the published checkpoint, in the order of the network.
std::vector<Item> PlanItems(const ModelConfig& model, HfPrecision precision) {
  const std::string plain = precision == HfPrecision::kFp32 ? kStF32 : kStBF16;
  std::vector<Item> items;
  std::map<std::string, Item> shared;
  for (const ParamSpec& spec : ParameterTable(model)) {
    const bool fp8 = precision == HfPrecision::kFp8 && PublishedInFp8(spec);
    for (const PublishedTensor& tensor : PublishedTensors(spec)) {
      Item item{.spec = {tensor.name, fp8 ? kStF8E4M3 : plain, tensor.shape},
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
    Item item = shared.at(copy.of);
    item.spec.name = copy.name;
    items.push_back(item);
  }
  for (const PublishedTensor& tensor : EmptySharedExperts(model)) items.push_back({.spec = {tensor.name, plain, tensor.shape}, .source = {}});
  return items;
}

std::vector<std::vector<Item>> CutIntoShards(const std::vector<Item>& items, int64_t shard_bytes) {
  std::vector<std::vector<Item>> shards(1);
  int64_t bytes = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    int64_t size = SafetensorsBytes(items[i].spec);
    if (i + 1 < items.size() && items[i + 1].is_scale) size += SafetensorsBytes(items[i + 1].spec);
    if (!items[i].is_scale && !shards.back().empty() && bytes + size > shard_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    if (!items[i].is_scale) bytes += size;
    shards.back().push_back(items[i]);
  }
  return shards;
}

// Writes one tensor at a time from the checkpoint, in pieces.
class TensorCopier {
 public:
  TensorCopier(CheckpointReader& reader, SafetensorsWriter& writer) : reader_(reader), writer_(writer) {}

  absl::Status Copy(const Item& item) {
    if (item.is_scale || item.spec.dtype == kStF8E4M3) return CopyFp8(item);
    const int64_t elements = SafetensorsBytes(item.spec) / SafetensorsTypeBytes(item.spec.dtype);
    for (int64_t begin = 0; begin < elements; begin += kPieceElements) {
      JEVONS_RETURN_IF_ERROR(Read(item, begin, std::min(kPieceElements, elements - begin)));
      if (item.spec.dtype == kStF32) {
        JEVONS_RETURN_IF_ERROR(writer_.Append(std::as_bytes(std::span(piece_))));
        continue;
      }
      rounded_.resize(piece_.size());
      std::transform(piece_.begin(), piece_.end(), rounded_.begin(), [](float x) { return bf16(x); });
      JEVONS_RETURN_IF_ERROR(writer_.Append(std::as_bytes(std::span(rounded_))));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Read(const Item& item, int64_t begin, int64_t count) {
    piece_.resize(static_cast<size_t>(count));
    const int64_t first = item.source.begin + begin;
    return reader_.Read(item.source.tensor, DType::kF32, item.source.shape, {first, first + count}, piece_.data());
  }

  // A row of blocks at a time. Codes and scales are apart in the file, so each is made when its turn comes.
  absl::Status CopyFp8(const Item& item) {
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
      JEVONS_RETURN_IF_ERROR(writer_.Append(item.is_scale ? std::as_bytes(std::span(scales)) : std::as_bytes(std::span(codes))));
    }
    return absl::OkStatus();
  }

  CheckpointReader& reader_;
  SafetensorsWriter& writer_;
  std::vector<float> piece_;
  std::vector<bf16> rounded_;
};

absl::Status WriteShard(FileSystem& files, CheckpointReader& reader, const std::string& path, const std::vector<Item>& items) {
  std::vector<SafetensorsSpec> specs;
  std::map<std::string, const Item*> by_name;
  for (const Item& item : items) {
    specs.push_back(item.spec);
    by_name[item.spec.name] = &item;
  }
  JEVONS_ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(files, path, std::move(specs)));
  TensorCopier copier(reader, writer);
  for (const SafetensorsSpec& spec : writer.order()) JEVONS_RETURN_IF_ERROR(copier.Copy(*by_name.at(spec.name)));
  return writer.Finish();
}

struct TokenIds {
  int64_t bos = -1, eos = -1;
};

// What stands beside the tokenizer is taken as it is; what is missing is written from what the tokenizer says.
absl::StatusOr<TokenIds> WriteTokenizer(FileSystem& files, const std::string& path, int64_t max_positions, StagedFolder& folder) {
  if (path.empty()) return TokenIds();
  JEVONS_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(path));
  JEVONS_RETURN_IF_ERROR(folder.Copy(path, kTokenizerJson));
  std::set<std::string> copied;
  for (const char* name : kTokenizerFiles) {
    const std::string beside = JoinPath(ParentPath(path), name);
    JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> found, files.Stat(beside));
    if (!found || name == std::string(kTokenizerJson)) continue;
    JEVONS_RETURN_IF_ERROR(folder.Copy(beside, name));
    copied.insert(name);
  }
  const auto text = [&](int64_t id) { return std::string(tokenizer.TokenBytes(static_cast<int32_t>(id))); };
  if (copied.count(kTokenizerConfigJson) == 0) {
    const nlohmann::ordered_json json = {{"add_bos_token", false},
                                         {"add_eos_token", false},
                                         {"bos_token", text(tokenizer.bos_id())},
                                         {"eos_token", text(tokenizer.eos_id())},
                                         {"pad_token", text(tokenizer.pad_id())},
                                         {"clean_up_tokenization_spaces", false},
                                         {"model_max_length", max_positions},
                                         {"tokenizer_class", "PreTrainedTokenizerFast"}};
    // A template may begin with a byte, which is no text.
    const std::string written = json.dump(2, ' ', /*ensure_ascii=*/false, nlohmann::ordered_json::error_handler_t::replace);
    JEVONS_RETURN_IF_ERROR(folder.WriteText(kTokenizerConfigJson, written + "\n"));
  }
  if (copied.count(kGenerationConfigJson) == 0) {
    const nlohmann::ordered_json json = {{"bos_token_id", tokenizer.bos_id()}, {"eos_token_id", tokenizer.eos_id()}};
    JEVONS_RETURN_IF_ERROR(folder.WriteText(kGenerationConfigJson, json.dump(2) + "\n"));
  }
  return TokenIds{tokenizer.bos_id(), tokenizer.eos_id()};
}

}  // namespace

absl::StatusOr<ExportReport> ExportCheckpoint(FileSystem& files, CheckpointReader& reader, const RunConfig& config,
                                              const ExportOptions& options) {
  const YarnConfig& yarn = config.model().attention().yarn();
  const HfConfig published = {
      .model = config.model(),
      .max_positions = yarn.factor() > 1 ? static_cast<int64_t>(yarn.factor() * static_cast<double>(yarn.original_length()))
                                         : config.data().sequence_length()};
  JEVONS_ASSIGN_OR_RETURN(StagedFolder folder, StagedFolder::Create(files, options.output));
  JEVONS_ASSIGN_OR_RETURN(const TokenIds ids, WriteTokenizer(files, options.tokenizer, published.max_positions, folder));
  JEVONS_RETURN_IF_ERROR(folder.WriteText("config.json", HfConfigJson(published, options.precision, ids.bos, ids.eos)));

  const std::vector<std::vector<Item>> shards = CutIntoShards(PlanItems(config.model(), options.precision), options.shard_bytes);
  ExportReport report{.shards = static_cast<int>(shards.size())};
  nlohmann::json weight_map;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = absl::StrFormat("model-%05d-of-%05d.safetensors", i + 1, shards.size());
    JEVONS_RETURN_IF_ERROR(WriteShard(files, reader, JoinPath(folder.path(), name), shards[i]));
    for (const Item& item : shards[i]) {
      weight_map[item.spec.name] = name;
      report.bytes += SafetensorsBytes(item.spec);
      ++report.tensors;
    }
  }
  const nlohmann::json index = {{"metadata", {{"total_size", report.bytes}}}, {"weight_map", weight_map}};
  JEVONS_RETURN_IF_ERROR(folder.WriteText(kHfIndexName, index.dump(2) + "\n"));
  JEVONS_RETURN_IF_ERROR(folder.Commit());
  return report;
}

}  // namespace jevons
