#include "trainer/checkpoint/manifest.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace jevons {
namespace {

// The seal as protobuf lays it out: field 15, length-delimited, 16 bytes.
constexpr char kSealTag[] = {(15 << 3) | 2, static_cast<char>(kHashBytes)};
constexpr int64_t kSealBytes = sizeof(kSealTag) + kHashBytes;

constexpr int64_t kMaxTensorBytes = int64_t{1} << 60;  // far beyond any disk, and no sum of two overflows

absl::Status Damaged(const std::string& path, absl::string_view what) {
  return IntegrityError(absl::StrFormat("%s: %s", path, what));
}

std::string HashOfText(absl::string_view bytes) {
  return HashOf(std::as_bytes(std::span<const char>(bytes.data(), bytes.size())));
}

bool IsFileName(absl::string_view name) {
  if (name.empty() || name.size() > 255 || name[0] == '.' || name == kManifestName) return false;
  return std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 127 && c != '/'; });
}

absl::Status CheckFiles(const CheckpointManifest& manifest, const std::string& path) {
  std::set<std::string> names;
  for (const CheckpointFile& file : manifest.files()) {
    if (!IsFileName(file.name())) {
      return Damaged(path,
                     absl::StrFormat("files: \"%s\" is not the name of a file in the checkpoint's own folder", file.name()));
    }
    if (!names.insert(file.name()).second) return Damaged(path, absl::StrFormat("file %s is listed twice", file.name()));
    if (file.bytes() < 0) return Damaged(path, absl::StrFormat("file %s: bytes = %d", file.name(), file.bytes()));
  }
  return absl::OkStatus();
}

// Readers take labels by name: of two of one name the second would hide the first.
absl::Status CheckLabels(const CheckpointManifest& manifest, const std::string& path) {
  std::map<std::string, int> places;
  for (int i = 0; i < manifest.labels_size(); ++i) {
    const std::string& name = manifest.labels(i).name();
    if (const auto [first, is_new] = places.emplace(name, i + 1); !is_new)
      return Damaged(path,
                     absl::StrFormat("label %s is there twice, as entries %d and %d of labels", name, first->second, i + 1));
  }
  return absl::OkStatus();
}

absl::Status CheckShape(const CheckpointTensor& tensor, const std::string& path) {
  if (!IsTensorName(tensor.name())) {
    return Damaged(path, absl::StrFormat("tensors: \"%s\" is not the name of a tensor", tensor.name()));
  }
  const std::optional<DType> dtype = DTypeNamed(tensor.dtype());
  if (!dtype) return Damaged(path, absl::StrFormat("tensor %s: unknown dtype \"%s\"", tensor.name(), tensor.dtype()));
  if (tensor.shape_size() > Shape::kMaxDims) {
    return Damaged(path, absl::StrFormat("tensor %s: %d dims, at most %d", tensor.name(), tensor.shape_size(), Shape::kMaxDims));
  }
  // Zeros count as ones here: no partial product may overflow either.
  int64_t bytes = SizeOf(*dtype);
  for (const int64_t dim : tensor.shape()) {
    if (dim < 0 || std::max<int64_t>(dim, 1) > kMaxTensorBytes / bytes) {
      return Damaged(path, absl::StrFormat("tensor %s: impossible dim %d", tensor.name(), dim));
    }
    bytes *= std::max<int64_t>(dim, 1);
  }
  return absl::OkStatus();
}

// The slice for itself: within its file, its tensor's element count and the arithmetic.
absl::Status CheckSlice(const CheckpointManifest& manifest, const CheckpointTensor& tensor, const CheckpointSlice& slice,
                        int64_t tensor_elements, const std::string& path) {
  const std::string where = absl::StrFormat("tensor %s, slice at element %d", tensor.name(), slice.first_element());
  if (slice.file() >= static_cast<uint32_t>(manifest.files_size())) {
    return Damaged(path, absl::StrFormat("%s: file %d of %d", where, slice.file(), manifest.files_size()));
  }
  if (slice.elements() < 1 || slice.first_element() < 0 || slice.elements() > tensor_elements ||
      slice.first_element() > tensor_elements - slice.elements()) {
    return Damaged(path, absl::StrFormat("%s: %d elements, but the tensor has %d", where, slice.elements(), tensor_elements));
  }
  const CheckpointFile& file = manifest.files(static_cast<int>(slice.file()));
  const int64_t bytes = slice.elements() * SizeOf(*DTypeNamed(tensor.dtype()));
  if (slice.offset() < 0 || bytes > file.bytes() || slice.offset() > file.bytes() - bytes) {
    return Damaged(path, absl::StrFormat("%s: %d bytes at offset %d reach beyond the %d bytes of %s", where, bytes,
                                         slice.offset(), file.bytes(), file.name()));
  }
  if (static_cast<int64_t>(slice.chunk_hashes().size()) != HashedChunks(bytes) * kHashBytes) {
    return Damaged(path, absl::StrFormat("%s: %d bytes of chunk hashes, expected %d", where, slice.chunk_hashes().size(),
                                         HashedChunks(bytes) * kHashBytes));
  }
  return absl::OkStatus();
}

absl::Status CheckTensor(const CheckpointManifest& manifest, const CheckpointTensor& tensor, const std::string& path) {
  JEVONS_RETURN_IF_ERROR(CheckShape(tensor, path));
  const int64_t elements = ShapeOf(tensor).size();
  int64_t covered = 0;
  for (const CheckpointSlice& slice : tensor.slices()) {
    JEVONS_RETURN_IF_ERROR(CheckSlice(manifest, tensor, slice, elements, path));
    if (slice.first_element() != covered) {
      const bool twice = slice.first_element() < covered;
      return Damaged(
          path, absl::StrFormat("tensor %s: elements [%d, %d) are %s", tensor.name(), std::min(covered, slice.first_element()),
                                std::max(covered, slice.first_element()), twice ? "there twice" : "missing"));
    }
    covered += slice.elements();
  }
  if (covered != elements) {
    return Damaged(path, absl::StrFormat("tensor %s: elements [%d, %d) are missing", tensor.name(), covered, elements));
  }
  return absl::OkStatus();
}

// Every byte of every file belongs to exactly one slice, so a hash guards every byte.
absl::Status CheckFileTiling(const CheckpointManifest& manifest, const std::string& path) {
  std::vector<std::vector<std::pair<int64_t, int64_t>>> extents(manifest.files_size());  // (offset, bytes)
  for (const CheckpointTensor& tensor : manifest.tensors()) {
    const int64_t element_bytes = SizeOf(*DTypeNamed(tensor.dtype()));
    for (const CheckpointSlice& slice : tensor.slices()) {
      extents[slice.file()].push_back({slice.offset(), slice.elements() * element_bytes});
    }
  }
  for (int i = 0; i < manifest.files_size(); ++i) {
    std::sort(extents[i].begin(), extents[i].end());
    int64_t end = 0;
    for (const auto& [offset, bytes] : extents[i]) {
      if (offset != end) {
        return Damaged(path,
                       absl::StrFormat("file %s: bytes [%d, %d) belong to %s", manifest.files(i).name(), std::min(offset, end),
                                       std::max(offset, end), offset < end ? "two slices" : "no tensor"));
      }
      end += bytes;
    }
    if (end != manifest.files(i).bytes()) {
      return Damaged(path, absl::StrFormat("file %s: its slices end at byte %d, the file at %d", manifest.files(i).name(), end,
                                           manifest.files(i).bytes()));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string HashOf(std::span<const std::byte> bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
  static_assert(sizeof(canonical.digest) == kHashBytes);
  return std::string(reinterpret_cast<const char*>(canonical.digest), kHashBytes);
}

std::optional<DType> DTypeNamed(absl::string_view name) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI32, DType::kI64, DType::kU8}) {
    if (name == NameOf(dtype)) return dtype;
  }
  return std::nullopt;
}

bool IsTensorName(absl::string_view name) {
  return !name.empty() && name.size() <= 512 && std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 127; });
}

std::string SealManifest(const CheckpointManifest& manifest) {
  CheckpointManifest unsealed = manifest;
  unsealed.clear_seal();
  std::string bytes = unsealed.SerializeAsString();
  const std::string seal = HashOfText(bytes);
  return bytes.append(kSealTag, sizeof(kSealTag)).append(seal);
}

absl::StatusOr<CheckpointManifest> UnsealManifest(absl::string_view bytes, const std::string& path) {
  const int64_t size = static_cast<int64_t>(bytes.size());
  if (size < kSealBytes) return Damaged(path, absl::StrFormat("%d bytes are too few for a manifest", size));
  const absl::string_view body = bytes.substr(0, size - kSealBytes);
  const absl::string_view seal = bytes.substr(size - kSealBytes);
  if (std::memcmp(seal.data(), kSealTag, sizeof(kSealTag)) != 0 || seal.substr(sizeof(kSealTag)) != HashOfText(body)) {
    return Damaged(path, "the seal does not match the contents: the file is truncated or was changed");
  }
  CheckpointManifest manifest;
  if (!manifest.ParseFromArray(bytes.data(), static_cast<int>(size))) return Damaged(path, "not a manifest");
  return manifest;
}

absl::Status CheckManifest(const CheckpointManifest& manifest, const std::string& path) {
  if (manifest.step() < 0) return Damaged(path, absl::StrFormat("step = %d", manifest.step()));
  JEVONS_RETURN_IF_ERROR(CheckFiles(manifest, path));
  JEVONS_RETURN_IF_ERROR(CheckLabels(manifest, path));
  for (int i = 0; i < manifest.tensors_size(); ++i) {
    JEVONS_RETURN_IF_ERROR(CheckTensor(manifest, manifest.tensors(i), path));
    if (i > 0 && manifest.tensors(i - 1).name() >= manifest.tensors(i).name()) {
      return Damaged(path, absl::StrFormat("tensor %s is out of order or there twice", manifest.tensors(i).name()));
    }
  }
  return CheckFileTiling(manifest, path);
}

void SetInfo(const CheckpointInfo& info, CheckpointManifest* manifest) {
  manifest->set_format_version(kFormatVersion);
  manifest->set_step(info.step);
  manifest->set_config_text(info.config_text);
  manifest->set_sampler_state(info.sampler_state);
  manifest->set_cost_state(info.cost_state);
  manifest->set_step_history(info.step_history);
  for (const auto& [name, value] : info.labels) {
    CheckpointLabel* label = manifest->add_labels();
    label->set_name(name);
    label->set_value(value);
  }
}

CheckpointInfo InfoOf(const CheckpointManifest& manifest) {
  CheckpointInfo info{.step = manifest.step(),
                      .config_text = manifest.config_text(),
                      .sampler_state = manifest.sampler_state(),
                      .cost_state = manifest.cost_state(),
                      .step_history = manifest.step_history()};
  for (const CheckpointLabel& label : manifest.labels()) info.labels[label.name()] = label.value();
  return info;
}

absl::Status WriteManifest(FileSystem& files, const std::string& folder, const CheckpointManifest& manifest) {
  const std::string path = JoinPath(folder, kManifestName);
  if (const absl::Status whole = CheckManifest(manifest, path); !whole.ok())
    return FailureError(absl::StrCat("what was written is no whole checkpoint: ", whole.message()));
  const std::string bytes = SealManifest(manifest);
  if (static_cast<int64_t>(bytes.size()) > kMaxManifestBytes)
    return FailureError(absl::StrFormat("%s: %d bytes; readers take at most %d", path, bytes.size(), kMaxManifestBytes));
  JEVONS_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, files.Open(path, OpenMode::kWrite));
  JEVONS_RETURN_IF_ERROR(WriteAll(*file, std::as_bytes(std::span(bytes)), path));
  JEVONS_RETURN_IF_ERROR(file->Fsync());
  return file->Close();
}

Shape ShapeOf(const CheckpointTensor& tensor) {
  Shape shape;
  for (const int64_t dim : tensor.shape()) shape.dims[shape.rank++] = dim;
  return shape;
}

}  // namespace jevons
