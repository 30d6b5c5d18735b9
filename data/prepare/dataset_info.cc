#include "data/prepare/dataset_info.h"

#include <xxhash.h>

#include <filesystem>
#include <memory>
#include <span>
#include <system_error>
#include <vector>

#include "absl/strings/str_format.h"
#include "data/prepare/byte_stream.h"
#include "data/tokenizer/text_file.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"
#include "nlohmann/json.hpp"

namespace jevons {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFormat[] = "jevons-dataset";
constexpr int kVersion = 1;
constexpr int64_t kMaxInfoBytes = int64_t{1} << 20;
constexpr size_t kReadBytes = size_t{1} << 20;

Json ToJson(const SplitInfo& split) {
  return {{"documents", split.documents}, {"tokens", split.tokens}, {"bytes", split.bytes}};
}

SplitInfo SplitFromJson(const Json& json) {
  return {json.at("documents").get<int64_t>(), json.at("tokens").get<int64_t>(),
          json.at("bytes").get<int64_t>()};
}

DatasetInfo InfoFromJson(const Json& json) {
  DatasetInfo info;
  info.vocab_size = json.at("vocab_size").get<int64_t>();
  info.train = SplitFromJson(json.at("train"));
  info.validation = SplitFromJson(json.at("validation"));
  info.seed = json.at("seed").get<uint64_t>();
  info.validation_fraction = json.at("validation_fraction").get<double>();
  for (const auto& [name, file] : json.at("files").items()) {
    info.files[name] = {file.at("bytes").get<int64_t>(), file.at("xxh3_128").get<std::string>()};
  }
  return info;
}

absl::Status CheckSizes(const std::string& folder, const DatasetInfo& info) {
  for (const auto& [name, file] : info.files) {
    std::error_code error;
    const auto size = std::filesystem::file_size(folder + "/" + name, error);
    if (error) return IntegrityError(absl::StrFormat("%s/%s: %s", folder, name, error.message()));
    if (static_cast<int64_t>(size) != file.bytes) {
      return IntegrityError(absl::StrFormat("%s/%s: has %d bytes, %s says %d; prepare the dataset again",
                                            folder, name, size, kDatasetInfoFile, file.bytes));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DatasetInfo> LoadDatasetInfo(const std::string& folder) {
  const std::string path = folder + "/" + kDatasetInfoFile;
  JEVONS_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMaxInfoBytes));
  DatasetInfo info;
  try {  // the exceptions of the JSON library stop here
    const Json json = Json::parse(text);
    if (json.at("format") != kFormat || json.at("version") != kVersion) {
      return IntegrityError(absl::StrFormat("%s: not a %s of version %d", path, kFormat, kVersion));
    }
    info = InfoFromJson(json);
  } catch (const Json::exception& error) {
    return IntegrityError(absl::StrFormat("%s: damaged: %s; prepare the dataset again", path, error.what()));
  }
  JEVONS_RETURN_IF_ERROR(CheckSizes(folder, info));
  return info;
}

absl::Status SaveDatasetInfo(const std::string& folder, const DatasetInfo& info) {
  Json files = Json::object();
  for (const auto& [name, file] : info.files)
    files[name] = {{"bytes", file.bytes}, {"xxh3_128", file.xxh3_128}};
  const Json json = {{"format", kFormat},
                     {"version", kVersion},
                     {"vocab_size", info.vocab_size},
                     {"train", ToJson(info.train)},
                     {"validation", ToJson(info.validation)},
                     {"seed", info.seed},
                     {"validation_fraction", info.validation_fraction},
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

absl::Status VerifyDataset(const std::string& folder, const DatasetInfo& info) {
  for (const auto& [name, expected] : info.files) {
    JEVONS_ASSIGN_OR_RETURN(const FileRecord found, DescribeFile(folder + "/" + name));
    if (found == expected) continue;
    return IntegrityError(absl::StrFormat(
        "%s/%s: the contents are not those of %s (XXH3 %s, %d bytes; expected %s, %d)", folder, name,
        kDatasetInfoFile, found.xxh3_128, found.bytes, expected.xxh3_128, expected.bytes));
  }
  return absl::OkStatus();
}

}  // namespace jevons
