// What the optimizer tells of a gradient beside its norm.
#include <algorithm>
#include <bit>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "kernels/ops/reduce.h"
#include "parallel/hash.h"
#include "trainer/optim/zero1.h"

namespace jevons {

std::vector<ParameterGradient> ZeroOptimizer::ParametersOf(std::span<const int64_t> sums) const {
  std::vector<ParameterGradient> parameters;
  auto chunk = sums.begin();
  auto flag = sums.begin() + chunks_;
  for (const ParamSpec& spec : weights_.specs()) {
    const int64_t copies = spec.expert ? spec.shape[0] : 1, chunks = ChunksOf(spec.shape.size() / copies);
    for (int64_t e = 0; e < copies; ++e) {
      std::vector<double> squares(static_cast<size_t>(chunks));
      std::transform(chunk, chunk + chunks, squares.begin(), [](int64_t bits) { return std::bit_cast<double>(bits); });
      chunk += chunks;
      const double square = TreeSum(squares);
      parameters.push_back({.name = absl::StrCat(spec.name, spec.expert ? absl::StrCat(", expert ", e) : ""),
                            .norm = std::sqrt(square),
                            .refused = *flag++ != 0 || !std::isfinite(square)});
    }
  }
  return parameters;
}

std::vector<ParameterGradient> ZeroOptimizer::ParameterGradients(const OpContext& ops, const GradientStore& gradients,
                                                                 double scale) const {
  std::vector<ParameterGradient> parameters = ParametersOf(ChunkSums(ops, gradients));
  for (ParameterGradient& parameter : parameters) parameter.norm /= scale;
  return parameters;
}

// Of each chunk by its owner; everybody else adds the integer 0.
uint64_t ZeroOptimizer::GradientHash(const OpContext& ops) const {
  std::vector<int64_t> hashes(static_cast<size_t>(chunks_), 0);
  for (const Group& group : groups_) {
    for (const Slice& slice : group.slices) {
      auto* data = static_cast<std::byte*>(slice.gradient.data);
      const int64_t chunk_bytes = kChunk * SizeOf(slice.gradient.dtype), bytes = slice.gradient.bytes();
      for (int64_t done = 0, chunk = FirstChunk(group, slice); done < bytes; done += chunk_bytes, ++chunk)
        hashes[static_cast<size_t>(chunk)] = std::bit_cast<int64_t>(HashOf(
            ops.stream, std::span<const std::byte>(data + done, static_cast<size_t>(std::min(chunk_bytes, bytes - done)))));
    }
  }
  mesh_.world().AllReduceSum(hashes);
  return HashOf({}, std::as_bytes(std::span(hashes)));
}

}  // namespace jevons
