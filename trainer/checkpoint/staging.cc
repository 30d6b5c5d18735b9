#include "trainer/checkpoint/staging.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "trainer/checkpoint/host_copy.h"
#include "trainer/checkpoint/manifest.h"

namespace jevons {

int64_t BytesOf(const std::vector<TensorSlice>& slices) {
  int64_t bytes = 0;
  for (const TensorSlice& slice : slices) bytes += slice.elements.size() * SizeOf(slice.dtype);
  return bytes;
}

std::string RankFileName(int rank) { return absl::StrFormat("rank-%05d.bin", rank); }

CheckpointManifest StageSlices(const std::vector<TensorSlice>& slices, const Stream& stream, const std::string& name,
                               std::byte* to) {
  CheckpointManifest index;
  if (const int64_t bytes = BytesOf(slices); bytes > 0) {
    index.add_files()->set_name(name);
    index.mutable_files(0)->set_bytes(bytes);
  }
  int64_t offset = 0;
  HostCopy copy(stream, to);
  for (const TensorSlice& slice : slices) {
    JEVONS_CHECK(IsTensorName(slice.name), "tensor \"%s\"", slice.name.c_str());
    JEVONS_CHECK(
        0 <= slice.elements.begin && slice.elements.begin <= slice.elements.end && slice.elements.end <= slice.shape.size(),
        "%s: elements [%lld, %lld) of %s", slice.name.c_str(), static_cast<long long>(slice.elements.begin),
        static_cast<long long>(slice.elements.end), slice.shape.ToString().c_str());
    CheckpointTensor* tensor = index.add_tensors();
    tensor->set_name(slice.name);
    tensor->set_dtype(NameOf(slice.dtype));
    for (int d = 0; d < slice.shape.rank; ++d) tensor->add_shape(slice.shape[d]);
    if (slice.elements.empty()) continue;  // its tensor is listed all the same: it may have no elements at all
    CheckpointSlice* part = tensor->add_slices();
    part->set_offset(offset);
    part->set_first_element(slice.elements.begin);
    part->set_elements(slice.elements.size());
    const int64_t bytes = slice.elements.size() * SizeOf(slice.dtype);
    copy.Append(slice.data, bytes);
    offset += bytes;
  }
  copy.Finish();
  return index;
}

void HashChunks(std::span<const std::byte> staged, CheckpointManifest* index) {
  for (CheckpointTensor& tensor : *index->mutable_tensors()) {
    const int64_t element_bytes = SizeOf(*DTypeNamed(tensor.dtype()));
    for (CheckpointSlice& slice : *tensor.mutable_slices()) {
      const int64_t slice_bytes = slice.elements() * element_bytes;
      for (int64_t begin = 0; begin < slice_bytes; begin += kChunkBytes) {
        const int64_t bytes = std::min(kChunkBytes, slice_bytes - begin);
        slice.mutable_chunk_hashes()->append(HashOf(staged.subspan(slice.offset() + begin, bytes)));
      }
    }
  }
}

}  // namespace jevons
