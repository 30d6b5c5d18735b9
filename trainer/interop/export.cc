#include "trainer/interop/export.h"

#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_format.h"
#include "trainer/files/safetensors.h"
#include "trainer/files/staged_folder.h"
#include "trainer/interop/export_plan.h"
#include "trainer/interop/hf_folder.h"

namespace jevons {
namespace {

std::vector<std::vector<ExportItem>> CutIntoShards(const std::vector<ExportItem>& items, int64_t shard_bytes) {
  std::vector<std::vector<ExportItem>> shards(1);
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

absl::Status WriteShard(FileSystem& files, CheckpointReader& reader, const std::string& path,
                        const std::vector<ExportItem>& items) {
  std::vector<SafetensorsSpec> specs;
  std::map<std::string, const ExportItem*> by_name;
  for (const ExportItem& item : items) {
    specs.push_back(item.spec);
    by_name[item.spec.name] = &item;
  }
  JEVONS_ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(files, path, std::move(specs)));
  ExportConverter converter(reader);
  const auto append = [&](std::span<const std::byte> bytes) { return writer.Append(bytes); };
  for (const SafetensorsSpec& spec : writer.order()) JEVONS_RETURN_IF_ERROR(converter.Convert(*by_name.at(spec.name), append));
  return writer.Finish();
}

}  // namespace

absl::StatusOr<ExportReport> ExportCheckpoint(FileSystem& files, CheckpointReader& reader, const RunConfig& config,
                                              const ExportOptions& options) {
  JEVONS_ASSIGN_OR_RETURN(const std::vector<ExportItem> items, PlanExport(reader, config.model(), options.precision));
  JEVONS_ASSIGN_OR_RETURN(const auto texts, ExportTexts(files, config, options.precision, options.tokenizer));
  JEVONS_ASSIGN_OR_RETURN(StagedFolder folder, StagedFolder::Create(files, options.output));
  for (const auto& [name, text] : texts) JEVONS_RETURN_IF_ERROR(folder.WriteText(name, text));

  const std::vector<std::vector<ExportItem>> shards = CutIntoShards(items, options.shard_bytes);
  ExportReport report{.shards = static_cast<int>(shards.size())};
  nlohmann::json weight_map;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = absl::StrFormat("model-%05d-of-%05d.safetensors", i + 1, shards.size());
    JEVONS_RETURN_IF_ERROR(WriteShard(files, reader, JoinPath(folder.path(), name), shards[i]));
    for (const ExportItem& item : shards[i]) {
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
