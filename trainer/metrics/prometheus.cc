#include "trainer/metrics/prometheus.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "kernels/base/status.h"
#include "trainer/files/file_system.h"

namespace jevons {
namespace {

std::string PrometheusName(const std::string& name) {
  std::string allowed = "jevons_" + name;
  for (char& c : allowed)
    if (!absl::ascii_isalnum(c)) c = '_';
  return allowed;
}

// With U+FFFD for bytes that are no UTF-8: a label may have nothing else.
std::string Utf8(const std::string& text) {
  using Json = nlohmann::json;
  return Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
}

// With 17 digits: all that a double has. A step of a long run, and seconds since 1970, have more than six.
std::string PrometheusValue(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return absl::StrFormat("%.17g", value);
}

}  // namespace

absl::StatusOr<PrometheusFile> PrometheusFile::Create(const std::string& path, const std::string& run) {
  PrometheusFile file(path, absl::StrReplaceAll(Utf8(run), {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}}));
  JEVONS_RETURN_IF_ERROR(file.Write());
  return file;
}

absl::Status PrometheusFile::Append(const MetricsRecord& record) {
  if (record.Value("loss/main"))
    std::erase_if(values_, [](const auto& value) { return value.first.starts_with("jevons_bad_step_"); });
  for (const auto& [name, value] : record.values) values_[PrometheusName(name)] = value;
  values_[PrometheusName("step")] = static_cast<double>(record.step);
  values_[PrometheusName("time_seconds")] = record.wall_time;  // since 1970: an alarm tells by it that nothing comes any more
  return Write();
}

absl::Status PrometheusFile::Write() const {
  std::string text;
  for (const auto& [name, value] : values_)
    absl::StrAppend(&text, "# TYPE ", name, " gauge\n", name, "{run=\"", run_, "\"} ", PrometheusValue(value), "\n");
  return ReplaceWholeFile(PosixFileSystem(), path_, text);
}

}  // namespace jevons
