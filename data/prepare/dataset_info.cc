#include "data/prepare/dataset_info.h"

#include <xxhash.h>

#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <set>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "data/prepare/byte_stream.h"
#include "data/tokenizer/text_file.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"
#include "kernels/base/strict_json.h"

namespace jevons {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFormat[] = "jevons-dataset";
constexpr int kVersion = 1;
constexpr int64_t kMaxInfoBytes = int64_t{1} << 20;
constexpr size_t kReadBytes = size_t{1} << 20;

Json ToJson(const SplitInfo& split) { return {{"documents", split.documents}, {"tokens", split.tokens}, {"bytes", split.bytes}}; }

// Reads the fields of an object strictly; the first that is missing, of another type or not known ends it.
class ObjectReader {
 public:
  ObjectReader(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) Fail("is not an object");
  }
  // Whole numbers from 0 on.
  template <typename Int>
  void Read(const char* name, Int& value) {
    const nlohmann::json& json = At(name);
    if (!status_.ok()) return;
    if (!json.is_number_unsigned() || json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<Int>::max()))
      return Fail(absl::StrFormat("field \"%s\" is %s, not a whole number from 0 on", name, ShownJson(json)));
    value = json.get<Int>();
  }
  void Read(const char* name, double& value) {
    const nlohmann::json& json = At(name);
    if (!status_.ok()) return;
    if (!json.is_number()) return Fail(absl::StrFormat("field \"%s\" is %s, not a number", name, ShownJson(json)));
    value = json.get<double>();
  }
  void Read(const char* name, std::string& value) {
    const nlohmann::json& json = At(name);
    if (!status_.ok()) return;
    if (!json.is_string()) return Fail(absl::StrFormat("field \"%s\" is %s, not a string", name, ShownJson(json)));
    value = json.get<std::string>();
  }
  // Leaves the value as it is if the field is absent.
  template <typename T>
  void ReadIfThere(const char* name, T& value) {
    if (object_.is_object() && object_.contains(name)) Read(name, value);
  }
  const nlohmann::json& At(const char* name) {
    static const nlohmann::json null;
    const auto found = object_.is_object() ? object_.find(name) : object_.end();
    if (found == object_.end()) {
      Fail(absl::StrFormat("field \"%s\" is missing", name));
      return null;
    }
    known_.insert(name);
    return *found;
  }
  absl::Status Finish() {
    for (const auto& [name, value] : object_.items()) {
      if (status_.ok() && !known_.contains(name)) Fail(absl::StrFormat("field \"%s\" is not known", name));
    }
    return status_;
  }

 private:
  void Fail(const std::string& what) {
    if (status_.ok()) status_ = IntegrityError(where_ + what);
  }
  const nlohmann::json& object_;
  std::string where_;
  std::set<std::string> known_;
  absl::Status status_;
};

absl::StatusOr<SplitInfo> SplitFromJson(const nlohmann::json& json, const std::string& where) {
  SplitInfo split;
  ObjectReader reader(json, where);
  reader.Read("documents", split.documents);
  reader.Read("tokens", split.tokens);
  reader.Read("bytes", split.bytes);
  JEVONS_RETURN_IF_ERROR(reader.Finish());
  return split;
}

absl::StatusOr<DatasetInfo> InfoFromJson(const nlohmann::json& json) {
  DatasetInfo info;
  ObjectReader reader(json, "");
  std::string format;
  int64_t version = 0;
  reader.Read("format", format);
  reader.Read("version", version);
  reader.Read("vocab_size", info.vocab_size);
  const nlohmann::json& train = reader.At("train");
  const nlohmann::json& validation = reader.At("validation");
  reader.Read("seed", info.seed);
  reader.Read("validation_fraction", info.validation_fraction);
  reader.ReadIfThere("bad_documents", info.bad_documents);
  reader.ReadIfThere("document_rule", info.document_rule);
  reader.ReadIfThere("document_separator", info.document_separator);
  reader.ReadIfThere("end_token", info.end_token);
  const nlohmann::json& files = reader.At("files");
  JEVONS_RETURN_IF_ERROR(reader.Finish());
  JEVONS_ASSIGN_OR_RETURN(info.train, SplitFromJson(train, "train: "));
  JEVONS_ASSIGN_OR_RETURN(info.validation, SplitFromJson(validation, "validation: "));
  if (!files.is_object()) return IntegrityError("field \"files\" is not an object");
  for (const auto& [name, file] : files.items()) {
    FileRecord& record = info.files[name];
    ObjectReader fields(file, absl::StrFormat("files: \"%s\": ", name));
    fields.Read("bytes", record.bytes);
    fields.Read("xxh3_128", record.xxh3_128);
    JEVONS_RETURN_IF_ERROR(fields.Finish());
  }
  return info;
}

absl::Status CheckSizes(const std::string& folder, const DatasetInfo& info) {
  for (const auto& [name, file] : info.files) {
    std::error_code error;
    const auto size = std::filesystem::file_size(folder + "/" + name, error);
    if (error) return IntegrityError(absl::StrFormat("%s/%s: %s", folder, name, error.message()));
    if (static_cast<int64_t>(size) != file.bytes) {
      return IntegrityError(absl::StrFormat("%s/%s: has %d bytes, %s says %d; prepare the dataset again", folder, name, size,
                                            kDatasetInfoFile, file.bytes));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DatasetInfo> LoadDatasetInfo(const std::string& folder) {
  const std::string path = folder + "/" + kDatasetInfoFile;
  JEVONS_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMaxInfoBytes));
  const auto damaged = [&](const absl::Status& status) {
    return IntegrityError(absl::StrFormat("%s: damaged: %s; prepare the dataset again", path, status.message()));
  };
  const absl::StatusOr<nlohmann::json> json = ParseStrictJson(text);
  if (!json.ok()) return damaged(json.status());
  // Before anything else, for another version may have other fields.
  if (!json->is_object() || json->value("format", nlohmann::json()) != kFormat ||
      json->value("version", nlohmann::json()) != kVersion) {
    return IntegrityError(absl::StrFormat("%s: not a %s of version %d", path, kFormat, kVersion));
  }
  absl::StatusOr<DatasetInfo> read = InfoFromJson(*json);
  if (!read.ok()) return damaged(read.status());
  DatasetInfo info = *std::move(read);
  JEVONS_RETURN_IF_ERROR(CheckSizes(folder, info));
  return info;
}

absl::Status SaveDatasetInfo(const std::string& folder, const DatasetInfo& info) {
  Json files = Json::object();
  for (const auto& [name, file] : info.files) files[name] = {{"bytes", file.bytes}, {"xxh3_128", file.xxh3_128}};
  const Json json = {{"format", kFormat},
                     {"version", kVersion},
                     {"vocab_size", info.vocab_size},
                     {"train", ToJson(info.train)},
                     {"validation", ToJson(info.validation)},
                     {"seed", info.seed},
                     {"validation_fraction", info.validation_fraction},
                     {"bad_documents", info.bad_documents},
                     {"document_rule", info.document_rule},
                     {"document_separator", info.document_separator},
                     {"end_token", info.end_token},
                     {"files", files}};
  return WriteTextFile(folder + "/" + kDatasetInfoFile, json.dump(2) + "\n");
}

absl::StatusOr<FileRecord> DescribeFile(const std::string& path) {
  JEVONS_ASSIGN_OR_RETURN(ByteStream stream, ByteStream::Open(path, Compression::kNone));
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
  JEVONS_CHECK(state != nullptr && XXH3_128bits_reset(state.get()) == XXH_OK);
  std::vector<char> buffer(kReadBytes);
  size_t n;
  do {
    JEVONS_ASSIGN_OR_RETURN(n, stream.Read(buffer));
    XXH3_128bits_update(state.get(), buffer.data(), n);
  } while (n == buffer.size());
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  return FileRecord{stream.file_position(), absl::StrFormat("%016x%016x", hash.high64, hash.low64)};
}

namespace {

absl::Status VerifyFiles(const std::string& folder, const DatasetInfo& info,
                         const std::function<bool(const std::string&)>& wanted) {
  for (const auto& [name, expected] : info.files) {
    if (!wanted(name)) continue;
    JEVONS_ASSIGN_OR_RETURN(const FileRecord found, DescribeFile(folder + "/" + name));
    if (found == expected) continue;
    return IntegrityError(absl::StrFormat("%s/%s: the contents are not those of %s (XXH3 %s, %d bytes; expected %s, %d)", folder,
                                          name, kDatasetInfoFile, found.xxh3_128, found.bytes, expected.xxh3_128,
                                          expected.bytes));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status VerifyDataset(const std::string& folder, const DatasetInfo& info) {
  return VerifyFiles(folder, info, [](const std::string&) { return true; });
}

absl::Status VerifyFilesWithoutSums(const std::string& folder, const DatasetInfo& info) {
  return VerifyFiles(folder, info, [&](const std::string& name) {
    const std::filesystem::path path = name;
    return (path.extension() == ".bin" || path.extension() == ".idx") && !info.files.contains(path.stem().string() + ".sums");
  });
}

}  // namespace jevons
