#include "kernels/base/strict_json.h"

#include <set>
#include <stdexcept>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"

namespace jevons {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 16;

// What stands where the parser gave up. byte: how many it had read, one more than there are at the end.
std::string Place(absl::string_view text, size_t byte) {
  if (byte == 0 || byte > text.size()) return absl::StrFormat("it ends at byte %d in the middle of a value", text.size());
  const char c = text[byte - 1];
  return absl::ascii_isprint(c) ? absl::StrFormat("'%c' at byte %d does not belong there", c, byte - 1)
                                : absl::StrFormat("byte %d, 0x%02x, does not belong there", byte - 1, static_cast<uint8_t>(c));
}

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
  } catch (const Json::parse_error& error) {
    return IntegrityError("not valid JSON: " + Place(text, error.byte));
  } catch (const Json::out_of_range&) {
    return IntegrityError("not valid JSON: it has a number that is too large");
  } catch (const std::exception& error) {  // of `check`
    return IntegrityError(absl::StrFormat("not valid JSON: %s", error.what()));
  }
}

}  // namespace jevons
