#include "trainer/metrics/jsonl.h"

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "kernels/base/status.h"

namespace jevons {

std::string ToJsonLine(const MetricsRecord& record) {
  nlohmann::ordered_json json;
  json["step"] = record.step;
  json["time"] = record.wall_time;
  for (const auto& [name, value] : record.values) json[name] = value;
  for (const auto& [name, text] : record.texts) json[name] = text;
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::optional<MetricsRecord> FromJsonLine(const std::string& line) {
  if (line.find('\0') != std::string::npos) return std::nullopt;  // a hole left by a crash; the parser would stop there
  const auto json = nlohmann::ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) return std::nullopt;
  MetricsRecord record;
  for (const auto& [name, value] : json.items()) {
    if (name == "step") {
      record.step = value.get<int64_t>();
    } else if (name == "time" && value.is_number()) {
      record.wall_time = value.get<double>();
    } else if (value.is_number() || value.is_null()) {
      record.values.emplace_back(name, value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>());
    } else if (value.is_string()) {
      record.texts.emplace_back(name, value.get<std::string>());
    }
  }
  return record;
}

absl::StatusOr<MetricsLog> MetricsLog::Open(const std::string& path, int64_t steps_done) {
  std::ifstream in(path, std::ios::binary);  // not there: a new run, nothing to keep
  std::optional<MetricsRecord> lost;
  int64_t kept = 0, number = 0;
  bool cutting = false;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (in.eof()) break;  // no newline: torn
    const std::optional<MetricsRecord> record = FromJsonLine(line);
    if (!record.has_value()) {
      if (in.peek() == std::ifstream::traits_type::eof()) break;  // torn by a crash that wrote its end first
      return IntegrityError(
          absl::StrFormat("%s:%d: not a record of metrics; move the file away to go on without it", path, number));
    }
    cutting = cutting || record->step > steps_done;
    if (cutting) {
      lost = record;
    } else {
      kept += static_cast<int64_t>(line.size()) + 1;
    }
  }
  if (in.bad()) return FailureError(absl::StrFormat("%s: cannot read", path));
  JEVONS_ASSIGN_OR_RETURN(AppendFile file, AppendFile::OpenAt(path, kept));
  return MetricsLog(std::move(file), std::move(lost));
}

absl::Status MetricsLog::Append(const MetricsRecord& record) { return file_.Append(ToJsonLine(record)); }

}  // namespace jevons
