// Which state a checkpoint holds, whether two hold the same, and which of several can still be used.
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/reader.h"

namespace jevons {
namespace {

// Calls visit(first element, count, bytes) with one part of the tensor after the other, in order.
template <typename Visit>
absl::Status ForEachPart(CheckpointReader& reader, const TensorInfo& tensor, std::vector<std::byte>& buffer, const Visit& visit) {
  const int64_t part_elements = kChunkBytes / SizeOf(tensor.dtype);
  const int64_t elements = tensor.shape.size();
  for (int64_t begin = 0; begin < elements; begin += part_elements) {
    const Range part{begin, std::min(begin + part_elements, elements)};
    buffer.resize(static_cast<size_t>(part.size() * SizeOf(tensor.dtype)));
    JEVONS_RETURN_IF_ERROR(reader.Read(tensor.name, tensor.dtype, tensor.shape, part, buffer.data()));
    JEVONS_RETURN_IF_ERROR(visit(part));
  }
  return absl::OkStatus();
}

template <typename T>
T ValueAt(const std::byte* element) {
  T value;
  std::memcpy(&value, element, sizeof(value));
  return value;
}

std::string ValueText(DType dtype, const std::byte* element) {
  switch (dtype) {
    case DType::kF32: return absl::StrFormat("%.9g (bits 0x%08x)", ValueAt<float>(element), ValueAt<uint32_t>(element));
    case DType::kBF16:
      return absl::StrFormat("%.4g (bits 0x%04x)", static_cast<float>(ValueAt<bf16>(element)), ValueAt<uint16_t>(element));
    case DType::kI32: return absl::StrCat(ValueAt<int32_t>(element));
    case DType::kI64: return absl::StrCat(ValueAt<int64_t>(element));
    case DType::kU8: return absl::StrCat(static_cast<int>(ValueAt<uint8_t>(element)));
  }
  return "";
}

// "[1, 3]" for the flat element 7 of [2, 4].
std::string IndexText(const Shape& shape, int64_t element) {
  Shape index = shape;
  for (int d = shape.rank - 1; d >= 0; --d) {
    index.dims[d] = element % shape[d];
    element /= shape[d];
  }
  return index.ToString();
}

// Where and how the tensor, of one kind in both, differs; nothing where it does not.
absl::StatusOr<std::optional<std::string>> DiffTensor(CheckpointReader& a, CheckpointReader& b, const TensorInfo& tensor) {
  std::vector<std::byte> bytes_a, bytes_b;
  std::optional<std::string> difference;
  const int64_t size = SizeOf(tensor.dtype);
  JEVONS_RETURN_IF_ERROR(ForEachPart(a, tensor, bytes_a, [&](Range part) -> absl::Status {
    if (difference) return absl::OkStatus();
    bytes_b.resize(bytes_a.size());
    JEVONS_RETURN_IF_ERROR(b.Read(tensor.name, tensor.dtype, tensor.shape, part, bytes_b.data()));
    const auto [at_a, at_b] = std::mismatch(bytes_a.begin(), bytes_a.end(), bytes_b.begin());
    if (at_a == bytes_a.end()) return absl::OkStatus();
    const int64_t element = (at_a - bytes_a.begin()) / size;
    difference = absl::StrFormat("%s %s: %s against %s", tensor.name, IndexText(tensor.shape, part.begin + element),
                                 ValueText(tensor.dtype, bytes_a.data() + element * size),
                                 ValueText(tensor.dtype, bytes_b.data() + element * size));
    return absl::OkStatus();
  }));
  return difference;
}

std::string KindText(const TensorInfo& tensor) { return absl::StrCat(NameOf(tensor.dtype), " ", tensor.shape.ToString()); }

// How tensor `x` of a (or null) stands to tensor `y` of b (or null); they have one name.
absl::StatusOr<std::optional<std::string>> DiffPair(CheckpointReader& a, CheckpointReader& b, const TensorInfo* x,
                                                    const TensorInfo* y) {
  if (y == nullptr) return std::optional(absl::StrFormat("%s: only in %s", x->name, a.path()));
  if (x == nullptr) return std::optional(absl::StrFormat("%s: only in %s", y->name, b.path()));
  if (x->dtype == y->dtype && x->shape == y->shape) return DiffTensor(a, b, *x);
  return std::optional(absl::StrFormat("%s: %s against %s", x->name, KindText(*x), KindText(*y)));
}

absl::Status OpenAndVerify(FileSystem& files, const std::string& path) {
  JEVONS_ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(files, path));
  return reader.Verify();
}

}  // namespace

absl::StatusOr<std::string> StateHash(CheckpointReader& reader) {
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> hash(XXH3_createState(), XXH3_freeState);
  JEVONS_CHECK(hash != nullptr && XXH3_128bits_reset(hash.get()) == XXH_OK);
  const auto add_text = [&](const std::string& text) {  // with its length: no two lists of texts look alike
    const uint64_t size = text.size();
    XXH3_128bits_update(hash.get(), &size, sizeof(size));
    XXH3_128bits_update(hash.get(), text.data(), text.size());
  };
  std::vector<std::byte> buffer;
  for (const TensorInfo& tensor : reader.tensors()) {
    add_text(tensor.name);
    add_text(KindText(tensor));
    JEVONS_RETURN_IF_ERROR(ForEachPart(reader, tensor, buffer, [&](Range) {
      XXH3_128bits_update(hash.get(), buffer.data(), buffer.size());
      return absl::OkStatus();
    }));
  }
  add_text(absl::StrCat("step ", reader.step()));
  add_text(reader.sampler_state());
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(hash.get()));
  return absl::BytesToHexString({reinterpret_cast<const char*>(canonical.digest), sizeof(canonical.digest)});
}

absl::StatusOr<std::string> Diff(CheckpointReader& a, CheckpointReader& b) {
  const std::vector<TensorInfo>&in_a = a.tensors(), &in_b = b.tensors();
  std::vector<std::string> lines;
  int64_t tensors = 0, differing = 0;
  for (size_t i = 0, j = 0; i < in_a.size() || j < in_b.size(); ++tensors) {
    const bool has_a = i < in_a.size() && (j == in_b.size() || in_a[i].name <= in_b[j].name);
    const bool has_b = j < in_b.size() && (i == in_a.size() || in_b[j].name <= in_a[i].name);
    JEVONS_ASSIGN_OR_RETURN(std::optional<std::string> difference,
                            DiffPair(a, b, has_a ? &in_a[i] : nullptr, has_b ? &in_b[j] : nullptr));
    i += has_a;
    j += has_b;
    if (difference && differing++ == 0) lines.push_back(*std::move(difference));
  }
  if (differing > 0) lines.push_back(absl::StrFormat("%d of %d tensors differ", differing, tensors));
  if (a.step() != b.step()) lines.push_back(absl::StrFormat("step %d against %d", a.step(), b.step()));
  if (a.sampler_state() != b.sampler_state()) lines.push_back("the sampler's state differs");
  return lines.empty() ? "identical" : absl::StrJoin(lines, "; ");
}

absl::StatusOr<NewestGood> FindNewestGood(FileSystem& files, const std::string& directory) {
  JEVONS_ASSIGN_OR_RETURN(const std::vector<CommittedFolder> folders, ListCommitted(files, directory));
  NewestGood found;
  for (auto folder = folders.rbegin(); folder != folders.rend() && found.path.empty(); ++folder)
    (OpenAndVerify(files, folder->path).ok() ? found.path : found.damaged.emplace_back()) = folder->path;
  return found;
}

absl::Status OfferNewestGood(FileSystem& files, const std::string& directory, const absl::Status& refused) {
  const absl::StatusOr<NewestGood> found = FindNewestGood(files, directory);
  if (!found.ok() || found->damaged.empty()) return refused;
  if (!found->path.empty())
    return IntegrityError(
        absl::StrFormat("%s. The newest good checkpoint is %s: to go on from it, remove or rename %s and "
                        "run the same command again",
                        refused.message(), found->path, absl::StrJoin(found->damaged, ", ")));
  return IntegrityError(
      absl::StrFormat("%s. No good checkpoint is left in %s: remove or rename that folder to start from "
                      "the first step",
                      refused.message(), directory));
}

}  // namespace jevons
