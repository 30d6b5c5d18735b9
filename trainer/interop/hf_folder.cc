#include "trainer/interop/hf_folder.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/base/strict_json.h"
#include "kernels/ops/quantize.h"
#include "trainer/files/hf_files.h"
#include "trainer/interop/problems.h"

namespace jevons {
namespace {

constexpr int64_t kPieceElements = int64_t{1} << 20;

// The piece begins at element `begin`.
absl::Status CheckFinite(const std::string& path, const SafetensorsEntry& entry, int64_t begin, std::span<const float> piece) {
  for (size_t i = 0; i < piece.size(); ++i) {
    if (std::isfinite(piece[i])) continue;
    const int64_t element = begin + static_cast<int64_t>(i),
                  cols = entry.shape.empty() ? 1 : std::max<int64_t>(1, entry.shape.back());
    return IntegrityError(
        absl::StrFormat("%s: tensor %s has %g at row %d, column %d; weights must be finite: get the file again, or from an "
                        "earlier point of the run that made it",
                        path, entry.name, piece[i], element / cols, element % cols));
  }
  return absl::OkStatus();
}

float FromF16(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float size = exponent == 31
                         ? (fraction == 0 ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN())
                     : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                     : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return bits >> 15 != 0 ? -size : size;
}

float FromE8M0(uint8_t bits) { return bits == 255 ? std::numeric_limits<float>::quiet_NaN() : std::ldexp(1.0f, bits - 127); }

template <typename Stored, typename Convert>
absl::Status ReadAs(SafetensorsFile& file, const SafetensorsEntry& entry, int64_t begin, std::span<float> values,
                    Convert convert) {
  std::vector<Stored> stored(values.size());
  JEVONS_RETURN_IF_ERROR(
      file.Read(entry, begin * static_cast<int64_t>(sizeof(Stored)), std::as_writable_bytes(std::span(stored))));
  std::transform(stored.begin(), stored.end(), values.begin(), convert);
  return absl::OkStatus();
}

// Elements [begin, begin + values.size()), which FP32 holds exactly; finite ones. The type is F32, BF16, F16 or F8_E8M0.
absl::Status ReadFloats(SafetensorsFile& file, const SafetensorsEntry& entry, int64_t begin, std::span<float> values) {
  if (entry.dtype == kStF32) JEVONS_RETURN_IF_ERROR(file.Read(entry, begin * 4, std::as_writable_bytes(values)));
  if (entry.dtype == kStBF16)
    JEVONS_RETURN_IF_ERROR(ReadAs<bf16>(file, entry, begin, values, [](bf16 x) { return static_cast<float>(x); }));
  if (entry.dtype == kStF16) JEVONS_RETURN_IF_ERROR(ReadAs<uint16_t>(file, entry, begin, values, FromF16));
  if (entry.dtype == kStF8E8M0) JEVONS_RETURN_IF_ERROR(ReadAs<uint8_t>(file, entry, begin, values, FromE8M0));
  return CheckFinite(file.path(), entry, begin, values);
}

// The *.safetensors files in the folder. Names that begin with a dot are not of the checkpoint: macOS writes "._NAME" beside NAME.
absl::StatusOr<std::vector<std::string>> ListShards(FileSystem& files, const std::string& path) {
  JEVONS_ASSIGN_OR_RETURN(std::vector<std::string> names, files.List(path));
  std::erase_if(names, [&](const std::string& name) {
    if (!absl::EndsWith(name, ".safetensors")) return true;
    if (name[0] != '.') return false;
    LogWarning(JoinPath(path, name) +
               ": is passed over: no file of a checkpoint has a name that begins with a dot (macOS leaves such ones)");
    return true;
  });
  return names;
}

}  // namespace

absl::StatusOr<HfFolder> HfFolder::Open(FileSystem& files, const std::string& path) {
  HfFolder folder(path);
  const std::string index = JoinPath(path, kHfIndexName);
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> info, files.Stat(index));
  JEVONS_RETURN_IF_ERROR(info ? folder.OpenIndexed(files, index) : folder.OpenAll(files));
  return folder;
}

absl::Status HfFolder::AddFile(FileSystem& files, const std::string& name, std::vector<std::string>& problems) {
  JEVONS_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(files, JoinPath(path_, name)));
  files_.push_back(std::move(file));
  for (const SafetensorsEntry& entry : files_.back().entries()) {
    const auto [place, is_new] = tensors_.try_emplace(entry.name, Place{files_.size() - 1, &entry});
    if (!is_new)
      problems.push_back(
          absl::StrCat(entry.name, ": is in ", files_.back().path(), " and in ", files_[place->second.file].path()));
  }
  return absl::OkStatus();
}

absl::Status HfFolder::OpenAll(FileSystem& files) {
  JEVONS_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListShards(files, path_));
  std::vector<std::string> problems;
  for (const std::string& name : names) JEVONS_RETURN_IF_ERROR(AddFile(files, name, problems));
  if (files_.empty())
    return IntegrityError(path_ + ": there is no *.safetensors file in it; give the folder of a published checkpoint");
  return ProblemsStatus(path_, problems);
}

absl::Status HfFolder::OpenIndexed(FileSystem& files, const std::string& index_path) {
  JEVONS_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(files, index_path));
  const absl::StatusOr<nlohmann::json> index = ParseStrictJson(text);
  if (!index.ok()) return IntegrityError(absl::StrCat(index_path, ": ", index.status().message()));
  const auto map = index->is_object() ? index->find("weight_map") : index->end();
  if (map == index->end() || !map->is_object()) return IntegrityError(index_path + ": has no object \"weight_map\"");

  std::vector<std::string> problems;
  std::set<std::string> names;
  for (const auto& [tensor, file] : map->items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    if (name.empty() || name.find('/') != std::string::npos || name[0] == '.' || name.find('\0') != std::string::npos)
      problems.push_back(absl::StrCat(tensor, ": its file is ", ShownJson(file), ", not the name of a file in this folder"));
    else
      names.insert(name);
  }
  JEVONS_RETURN_IF_ERROR(ProblemsStatus(index_path, problems));
  JEVONS_ASSIGN_OR_RETURN(const std::vector<std::string> shards, ListShards(files, path_));
  for (const std::string& name : shards)
    if (names.count(name) == 0)
      problems.push_back(
          absl::StrCat(name, ": is in the folder, but not in the index; move away the file, or the index if the file is newer"));
  for (const std::string& name : names) JEVONS_RETURN_IF_ERROR(AddFile(files, name, problems));
  for (const auto& [tensor, file] : map->items()) {
    const auto place = tensors_.find(tensor);
    const std::string wanted = JoinPath(path_, file.get<std::string>());
    if (place == tensors_.end() || files_[place->second.file].path() != wanted)
      problems.push_back(absl::StrCat(tensor, ": the index says that it is in ", wanted, ", which does not have it"));
  }
  for (const auto& [tensor, place] : tensors_)
    if (map->find(tensor) == map->end())
      problems.push_back(absl::StrCat(tensor, ": is in ", files_[place.file].path(), ", but not in the index"));
  return ProblemsStatus(index_path, problems);
}

std::vector<std::string> HfFolder::names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : tensors_) names.push_back(name);
  return names;
}

const SafetensorsEntry& HfFolder::Entry(const std::string& name) const {
  const auto found = tensors_.find(name);
  JEVONS_CHECK(found != tensors_.end(), "tensor %s", name.c_str());
  return *found->second.entry;
}

std::string HfFolder::Refusal(const std::string& name, const std::vector<int64_t>& shape) const {
  if (!Has(name)) return "is missing";
  const SafetensorsEntry& entry = Entry(name);
  const auto wanted = [](const std::vector<int64_t>& dims) { return absl::StrCat("[", absl::StrJoin(dims, ", "), "]"); };
  if (entry.shape != shape) return absl::StrCat("is ", DescribeTensor(entry), "; its shape must be ", wanted(shape));
  if (entry.dtype == kStF32 || entry.dtype == kStBF16 || entry.dtype == kStF16) return "";
  if (entry.dtype != kStF8E4M3) return absl::StrCat("is ", DescribeTensor(entry), "; its type must be F32, BF16, F16 or F8_E4M3");
  const std::string scale = name + kScaleSuffix;
  if (shape.size() != 2) return absl::StrCat("is ", DescribeTensor(entry), "; only matrices may be in FP8");
  const std::vector<int64_t> blocks = {TilesOf(shape[0]), TilesOf(shape[1])};
  if (!Has(scale)) return absl::StrCat("is in FP8, but ", scale, " is missing");
  const SafetensorsEntry& scales = Entry(scale);
  const bool readable = scales.dtype == kStF32 || scales.dtype == kStBF16 || scales.dtype == kStF8E8M0;
  if (readable && scales.shape == blocks) return "";
  return absl::StrCat("is in FP8, but ", scale, " is ", DescribeTensor(scales), "; it must be F32, BF16 or F8_E8M0 ",
                      wanted(blocks));
}

absl::Status HfFolder::Stream(const std::string& name, const Sink& sink) {
  const Place& place = tensors_.at(name);
  const SafetensorsEntry& entry = *place.entry;
  if (entry.dtype == kStF8E4M3) return StreamFp8(name, place, sink);
  std::vector<float> piece;
  for (int64_t begin = 0; begin < entry.elements; begin += kPieceElements) {
    piece.resize(static_cast<size_t>(std::min(kPieceElements, entry.elements - begin)));
    JEVONS_RETURN_IF_ERROR(ReadFloats(files_[place.file], entry, begin, piece));
    JEVONS_RETURN_IF_ERROR(sink(piece));
  }
  return absl::OkStatus();
}

// A row of blocks at a time.
absl::Status HfFolder::StreamFp8(const std::string& name, const Place& place, const Sink& sink) {
  const SafetensorsEntry& entry = *place.entry;
  const Place& scale_place = tensors_.at(name + kScaleSuffix);
  const int64_t rows = entry.shape[0], cols = entry.shape[1], blocks = TilesOf(cols);
  std::vector<uint8_t> codes;
  std::vector<float> scales(static_cast<size_t>(blocks)), piece;
  for (int64_t row = 0; row < rows; row += kTileSize) {
    const int64_t count = std::min(kTileSize, rows - row);
    codes.resize(static_cast<size_t>(count * cols));
    piece.resize(codes.size());
    JEVONS_RETURN_IF_ERROR(files_[place.file].Read(entry, row * cols, std::as_writable_bytes(std::span(codes))));
    JEVONS_RETURN_IF_ERROR(ReadFloats(files_[scale_place.file], *scale_place.entry, row / kTileSize * blocks, scales));
    Dequantize({}, {.codes = Tensor::Of(codes.data(), {count, cols}),
                    .scales = Tensor::Of(scales.data(), {1, blocks}),
                    .x = Tensor::Of(piece.data(), {count, cols}),
                    .tiling = Tiling::kBlocks128x128});
    JEVONS_RETURN_IF_ERROR(CheckFinite(files_[place.file].path(), entry, row * cols, piece));
    JEVONS_RETURN_IF_ERROR(sink(piece));
  }
  return absl::OkStatus();
}

absl::Status HfFolder::ReadBytes(const std::string& name, int64_t begin, std::span<std::byte> bytes) {
  const Place& place = tensors_.at(name);
  return files_[place.file].Read(*place.entry, begin, bytes);
}

absl::StatusOr<bool> HfFolder::Same(const std::string& a, const std::string& b) {
  const SafetensorsEntry &left = Entry(a), &right = Entry(b);
  JEVONS_CHECK(left.dtype == right.dtype && left.shape == right.shape, "%s and %s differ in kind", a.c_str(), b.c_str());
  const int64_t bytes = left.end - left.begin;
  std::vector<std::byte> left_piece, right_piece;
  for (int64_t begin = 0; begin < bytes; begin += kPieceElements) {
    left_piece.resize(static_cast<size_t>(std::min(kPieceElements, bytes - begin)));
    right_piece.resize(left_piece.size());
    JEVONS_RETURN_IF_ERROR(ReadBytes(a, begin, left_piece));
    JEVONS_RETURN_IF_ERROR(ReadBytes(b, begin, right_piece));
    if (left_piece != right_piece) return false;
  }
  return true;
}

}  // namespace jevons
