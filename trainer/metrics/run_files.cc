#include "trainer/metrics/run_files.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "configs/load.h"
#include "configs/validate.h"
#include "kernels/base/status.h"
#include "trainer/files/file_system.h"

namespace jevons {
namespace {

using Json = nlohmann::ordered_json;

template <typename T>
void Get(const Json& json, const char* name, T& value) {
  if (const auto found = json.find(name); found != json.end() && found->is_number()) value = found->get<T>();
}
void Get(const Json& json, const char* name, std::string& value) {
  if (const auto found = json.find(name); found != json.end() && found->is_string()) value = found->get<std::string>();
}

std::string Line(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace

std::string RunName(const RunConfig& config, const std::string& run) {
  if (!config.run().name().empty()) return config.run().name();
  return (std::filesystem::absolute(run) / "").lexically_normal().parent_path().filename();
}

std::string ToStartLine(const RunStart& start) {
  Json json = {
      {"time", start.time}, {"step", start.step}, {"ranks", start.ranks}, {"devices", start.devices}, {"device", start.device}};
  if (start.price_per_device_hour) json["price_per_device_hour"] = *start.price_per_device_hour;
  json["peak_flops"] = start.peak_flops;
  json["peak_source"] = start.peak_source;
  json["host"] = start.host;
  json["labels"] = start.labels;
  json["lost_steps"] = start.lost_steps;
  json["lost_seconds"] = start.lost.seconds;
  json["lost_device_seconds"] = start.lost.device_seconds;
  json["lost_dollars"] = start.lost.dollars;
  return Line(json);
}

std::optional<RunStart> FromStartLine(const std::string& line) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("time") || !json.contains("step")) return std::nullopt;
  RunStart start;
  Get(json, "time", start.time);
  Get(json, "step", start.step);
  Get(json, "ranks", start.ranks);
  Get(json, "devices", start.devices);
  Get(json, "device", start.device);
  if (json.contains("price_per_device_hour")) Get(json, "price_per_device_hour", start.price_per_device_hour.emplace());
  Get(json, "peak_flops", start.peak_flops);
  Get(json, "peak_source", start.peak_source);
  Get(json, "host", start.host);
  if (const auto labels = json.find("labels"); labels != json.end() && labels->is_object())
    for (const auto& [name, value] : labels->items())
      if (value.is_string()) start.labels[name] = value.get<std::string>();
  Get(json, "lost_steps", start.lost_steps);
  Get(json, "lost_seconds", start.lost.seconds);
  Get(json, "lost_device_seconds", start.lost.device_seconds);
  Get(json, "lost_dollars", start.lost.dollars);
  return start;
}

absl::StatusOr<RunConfig> ReadRunConfig(const std::string& run) {
  const std::string path = JoinPath(run, kConfigFile);
  if (!std::filesystem::exists(path))
    return IntegrityError(
        path + ": there is none: a run of an older version; train's command on it, also if its steps are done, writes it");
  const auto given = LoadRunConfig(path, {});
  const auto whole = given.ok() ? ParseRunConfig(ResolvedText(*given), path, {}) : given;
  const absl::Status legal = whole.ok() ? ValidationStatus(*whole, /*world_size=*/0) : whole.status();
  if (!legal.ok()) return IntegrityError(path + ": it is not as train wrote it: " + std::string(legal.message()));
  return whole;
}

std::vector<RunStart> ReadStarts(const std::string& run) {
  std::vector<RunStart> starts;
  std::ifstream file(JoinPath(run, kStartsFile), std::ios::binary);
  for (std::string line; std::getline(file, line);)
    if (auto start = FromStartLine(line)) starts.push_back(*std::move(start));
  return starts;
}

LostWork LostAfter(int64_t step, std::span<const RunStart> starts) {
  LostWork lost;
  for (const RunStart& start : starts) {
    if (start.step < step) continue;
    lost.seconds += start.lost.seconds;
    lost.device_seconds += start.lost.device_seconds;
    lost.dollars += start.lost.dollars;
  }
  return lost;
}

absl::Status RecordStart(const std::string& run, const std::string& config_text, const RunStart& start) {
  JEVONS_ASSIGN_OR_RETURN(AppendFile config, AppendFile::OpenAt(JoinPath(run, kConfigFile), 0));
  JEVONS_RETURN_IF_ERROR(config.Append(config_text));
  JEVONS_ASSIGN_OR_RETURN(AppendFile starts, AppendFile::OpenAfterLastLine(JoinPath(run, kStartsFile)));
  return starts.Append(ToStartLine(start));
}

bool ExpertLoadsDue(int64_t step) {
  const auto stride = std::bit_floor(static_cast<uint64_t>(std::max<int64_t>(64, step))) / 64;
  return static_cast<uint64_t>(step) % stride == 0;
}

std::string ToExpertsLine(const ExpertLoads& loads) { return Line({{"step", loads.step}, {"loads", loads.layers}}); }

std::optional<ExpertLoads> FromExpertsLine(const std::string& line) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer() || !json.contains("loads") ||
      !json["loads"].is_array())
    return std::nullopt;
  ExpertLoads loads{.step = json["step"].get<int64_t>(), .layers = {}};
  for (const Json& layer : json["loads"]) {
    if (!layer.is_array() || (!loads.layers.empty() && layer.size() != loads.layers[0].size())) return std::nullopt;
    auto& rows = loads.layers.emplace_back();
    for (const Json& count : layer) {
      if (!count.is_number_integer()) return std::nullopt;
      rows.push_back(count.get<int64_t>());
    }
  }
  return loads;
}

absl::StatusOr<ExpertLog> ExpertLog::Open(const std::string& run) {
  JEVONS_ASSIGN_OR_RETURN(AppendFile file, AppendFile::OpenAfterLastLine(JoinPath(run, kExpertsFile)));
  return ExpertLog(std::move(file));
}

absl::Status ExpertLog::Append(int64_t step, std::span<const int64_t> loads, int64_t experts) {
  if (loads.empty() || !ExpertLoadsDue(step)) return absl::OkStatus();
  ExpertLoads record{.step = step, .layers = {}};
  for (auto layer = loads.begin(); layer != loads.end(); layer += experts) record.layers.emplace_back(layer, layer + experts);
  return file_.Append(ToExpertsLine(record));
}

}  // namespace jevons
