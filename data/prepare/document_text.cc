#include "data/prepare/document_text.h"

#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "data/tokenizer/unicode.h"
#include "kernels/base/status.h"
#include "nlohmann/json.hpp"

namespace jevons {
namespace {

using Json = nlohmann::json;

absl::Status CheckUtf8(const RawDocument& document, const InputFile& input) {
  const size_t bad = FirstInvalidUtf8(document.bytes);
  if (bad == document.bytes.size()) return absl::OkStatus();
  return IntegrityError(absl::StrFormat(
      "%s: byte %d%s (0x%02X) is not UTF-8; convert the file to UTF-8 first, for example with iconv",
      input.path, document.offset + static_cast<int64_t>(bad),
      input.compression == Compression::kNone ? "" : " of the decompressed text",
      static_cast<unsigned char>(document.bytes[bad])));
}

absl::StatusOr<Json> ParseLine(const std::string& line, const std::string& where) {
  try {
    return Json::parse(line);
  } catch (const Json::exception& error) {  // does not leave this function
    const std::string what = error.what();
    return IntegrityError(absl::StrFormat("%s: not valid JSON: %s", where, what.substr(what.find("] ") + 2)));
  }
}

}  // namespace

absl::StatusOr<std::string> DocumentText(RawDocument document, const InputFile& input,
                                         const std::string& field) {
  JEVONS_RETURN_IF_ERROR(CheckUtf8(document, input));
  if (input.format == TextFormat::kPlain) return std::move(document.bytes);
  const std::string where = absl::StrFormat("%s:%d", input.path, document.line);
  JEVONS_ASSIGN_OR_RETURN(Json json, ParseLine(document.bytes, where));
  if (!json.is_object()) {
    return IntegrityError(absl::StrFormat("%s: a JSON object is expected, not %s", where, json.type_name()));
  }
  const auto found = json.find(field);
  if (found == json.end()) {
    std::vector<std::string> names;
    for (const auto& [name, value] : json.items()) names.push_back("\"" + name + "\"");
    return IntegrityError(absl::StrFormat("%s: no field \"%s\"; the object has %s", where, field,
                                          names.empty() ? "none" : absl::StrJoin(names, ", ")));
  }
  if (!found->is_string()) {
    return IntegrityError(
        absl::StrFormat("%s: field \"%s\" is of type %s, not a string", where, field, found->type_name()));
  }
  return std::move(found->get_ref<std::string&>());
}

}  // namespace jevons
