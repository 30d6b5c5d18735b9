#include "trainer/interop/verify_export.h"

#include <algorithm>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/base/strict_json.h"
#include "trainer/files/hf_files.h"
#include "trainer/interop/export_plan.h"
#include "trainer/interop/hf_folder.h"
#include "trainer/interop/problems.h"

namespace jevons {
namespace {

using Json = nlohmann::json;

// As its tensors have it; config.json is compared with what follows from it.
HfPrecision PrecisionOf(const HfFolder& folder) {
  const std::vector<std::string> names = folder.names();
  const auto of_type = [&](const char* dtype) {
    return std::count_if(names.begin(), names.end(), [&](const std::string& name) { return folder.Entry(name).dtype == dtype; });
  };
  if (of_type(kStF8E4M3) > 0) return HfPrecision::kFp8;
  return of_type(kStF32) > of_type(kStBF16) ? HfPrecision::kFp32 : HfPrecision::kBf16;
}

// "[1, 3]" for the flat element 7 of [2, 4].
std::string IndexText(const std::vector<int64_t>& shape, int64_t element) {
  std::vector<int64_t> index(shape.size());
  for (size_t d = shape.size(); d-- > 0; element /= shape[d]) index[d] = element % shape[d];
  return absl::StrCat("[", absl::StrJoin(index, ", "), "]");
}

// The bits of a little-endian number: "0x3f80".
std::string BitsText(std::span<const std::byte> number) {
  std::string bytes(reinterpret_cast<const char*>(number.data()), number.size());
  std::reverse(bytes.begin(), bytes.end());
  return absl::StrCat("0x", absl::BytesToHexString(bytes));
}

// How the tensor in the folder differs from the item; "" where it does not.
absl::StatusOr<std::string> Difference(ExportConverter& converter, HfFolder& folder, const ExportItem& item) {
  const std::string& name = item.spec.name;
  if (!folder.Has(name)) return std::string("is missing");
  const SafetensorsEntry& entry = folder.Entry(name);
  if (entry.dtype != item.spec.dtype || entry.shape != item.spec.shape)
    return absl::StrCat("is ", DescribeTensor(entry), "; an export writes ", DescribeTensor(item.spec));
  if (entry.elements == 0) return std::string();
  const auto width = static_cast<size_t>((entry.end - entry.begin) / entry.elements);
  int64_t element = 0, differing = 0;
  std::string first;
  std::vector<std::byte> stored;
  JEVONS_RETURN_IF_ERROR(converter.Convert(item, [&](std::span<const std::byte> wanted) -> absl::Status {
    stored.resize(wanted.size());
    JEVONS_RETURN_IF_ERROR(folder.ReadBytes(name, element * static_cast<int64_t>(width), stored));
    if (!std::equal(wanted.begin(), wanted.end(), stored.begin())) {
      for (size_t i = 0; i < wanted.size(); i += width) {
        const std::span<const std::byte> is(stored.data() + i, width), must_be = wanted.subspan(i, width);
        if (std::equal(is.begin(), is.end(), must_be.begin()) || ++differing > 1) continue;
        first = absl::StrCat(IndexText(entry.shape, element + static_cast<int64_t>(i / width)), " is ", BitsText(is),
                             " and must be ", BitsText(must_be));
      }
    }
    element += static_cast<int64_t>(wanted.size() / width);
    return absl::OkStatus();
  }));
  if (differing == 0) return std::string();
  return absl::StrFormat("differs in %d of %d elements; the first, %s", differing, entry.elements, first);
}

// The fields in which config.json differs from the export's.
absl::Status CompareConfig(FileSystem& files, const std::string& path, const std::string& written,
                           std::vector<std::string>& problems) {
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> info, files.Stat(path));
  if (!info) return problems.push_back("config.json is missing"), absl::OkStatus();
  JEVONS_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(files, path));
  const absl::StatusOr<Json> parsed = ParseStrictJson(text);
  if (!parsed.ok() || !parsed->is_object()) {
    problems.push_back(
        absl::StrCat("config.json is ", parsed.ok() ? "not a JSON object" : std::string(parsed.status().message())));
    return absl::OkStatus();
  }
  const Json wanted = Json::parse(written);
  for (const auto& [name, value] : wanted.items()) {
    if (const auto found = parsed->find(name); found == parsed->end())
      problems.push_back(absl::StrCat("config.json: ", name, " is missing; an export writes ", ShownJson(value)));
    else if (*found != value)
      problems.push_back(absl::StrCat("config.json: ", name, " is ", ShownJson(*found), "; an export writes ", ShownJson(value)));
  }
  for (const auto& [name, value] : parsed->items())
    if (!wanted.contains(name))
      problems.push_back(absl::StrCat("config.json: ", name, " is ", ShownJson(value), ", which an export does not write"));
  return absl::OkStatus();
}

// HfFolder has compared the map with the files.
absl::Status CompareIndex(FileSystem& files, const std::string& path, int64_t bytes, std::vector<std::string>& problems) {
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> info, files.Stat(path));
  if (!info) return problems.push_back(absl::StrCat(kHfIndexName, " is missing")), absl::OkStatus();
  JEVONS_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(files, path));
  const absl::StatusOr<Json> index = ParseStrictJson(text);
  if (!index.ok()) return Annotate(index.status(), path);
  const Json::json_pointer place("/metadata/total_size");
  const Json size = index->contains(place) ? (*index)[place] : Json();
  if (size != bytes)
    problems.push_back(
        absl::StrCat(kHfIndexName, ": metadata.total_size is ", ShownJson(size), "; the tensors have ", bytes, " bytes"));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<VerifyExportReport> VerifyExport(FileSystem& files, CheckpointReader& reader, const RunConfig& config,
                                                const std::string& tokenizer, const std::string& path) {
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> info, files.Stat(path));
  if (!info || !info->is_directory)
    return IntegrityError(path + ": there is no such folder; name one that `jevons export` has written");
  JEVONS_ASSIGN_OR_RETURN(HfFolder folder, HfFolder::Open(files, path));
  VerifyExportReport report{.precision = PrecisionOf(folder)};
  JEVONS_ASSIGN_OR_RETURN(const std::vector<ExportItem> items, PlanExport(reader, config.model(), report.precision));
  JEVONS_ASSIGN_OR_RETURN(auto texts, ExportTexts(files, config, report.precision, tokenizer));
  std::vector<std::string> problems;
  std::set<std::string> expected;
  ExportConverter converter(reader);
  for (const ExportItem& item : items) {
    expected.insert(item.spec.name);
    JEVONS_ASSIGN_OR_RETURN(const std::string difference, Difference(converter, folder, item));
    if (!difference.empty()) problems.push_back(absl::StrCat(item.spec.name, " ", difference));
    report.bytes += SafetensorsBytes(item.spec);
  }
  for (const std::string& name : folder.names())
    if (expected.count(name) == 0)
      problems.push_back(
          absl::StrCat(name, " is ", DescribeTensor(folder.Entry(name)), ", which an export of the checkpoint does not have"));
  JEVONS_RETURN_IF_ERROR(CompareIndex(files, JoinPath(path, kHfIndexName), report.bytes, problems));
  JEVONS_RETURN_IF_ERROR(CompareConfig(files, JoinPath(path, kConfigJson), texts[kConfigJson], problems));
  if (const auto written = texts.find(kTokenizerJson); written != texts.end()) {
    const std::string tokenizer_path = JoinPath(path, kTokenizerJson);
    JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> there, files.Stat(tokenizer_path));
    if (!there) {
      problems.push_back("tokenizer.json is missing");
    } else {
      JEVONS_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(files, tokenizer_path));
      if (text != written->second) problems.push_back(absl::StrCat("tokenizer.json differs from the run's, ", tokenizer));
    }
  }
  JEVONS_RETURN_IF_ERROR(ProblemsStatus(path, problems));
  report.tensors = static_cast<int64_t>(items.size());
  return report;
}

}  // namespace jevons
