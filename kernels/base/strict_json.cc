#include "kernels/base/strict_json.h"

#include <set>
#include <stdexcept>
#include <vector>

#include "absl/strings/str_format.h"

namespace jevons {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 16;
constexpr int kMaxReason = 300;  // bytes

}  // namespace

std::string ShownJson(const Json& value) {
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() <= 60 ? text : text.substr(0, 60) + "...";
}

absl::StatusOr<Json> ParseStrictJson(absl::string_view text) {
  // The parser takes a NUL for the end of the text; what follows it would go unread.
  if (const size_t nul = text.find('\0'); nul != absl::string_view::npos)
    return IntegrityError(absl::StrFormat("not valid JSON: a NUL character at byte %d", nul));
  std::vector<std::set<std::string>> keys;
  const auto check = [&keys](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxDepth) throw std::runtime_error(absl::StrFormat("nested deeper than %d", kMaxDepth));
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      throw std::runtime_error("duplicate key " + ShownJson(parsed));
    }
    return true;
  };
  try {  // the exceptions do not leave this function
    return Json::parse(text.begin(), text.end(), check);
  } catch (const std::exception& error) {
    return IntegrityError(absl::StrFormat("not valid JSON: %.*s", kMaxReason, error.what()));  // it may quote the file
  }
}

}  // namespace jevons
