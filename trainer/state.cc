#include "trainer/state.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "kernels/ops/elementwise.h"

namespace jevons {

std::vector<TensorSlice> SlicesOf(const std::vector<StateSlice>& state) {
  std::vector<TensorSlice> slices;
  for (const StateSlice& s : state)
    slices.push_back({.name = s.name, .dtype = s.data.dtype, .shape = s.shape, .elements = s.elements, .data = s.data.data});
  return slices;
}

absl::Status LoadState(CheckpointReader& reader, TrainStep& train_step) {
  for (const StateSlice& slice : train_step.State()) {
    const bool moment = absl::StartsWith(slice.name, "m/") || absl::StartsWith(slice.name, "v/");
    if (reader.step() == 0 && moment) {
      Zero(slice.data);
      continue;
    }
    JEVONS_RETURN_IF_ERROR(reader.Read(slice.name, slice.data.dtype, slice.shape, slice.elements, slice.data.data));
  }
  const WeightStore& weights = train_step.weights();
  for (size_t i = 0; i < weights.bias_names().size(); ++i) {  // State() gives them to one rank only
    const Tensor& bias = weights.bias(i);
    JEVONS_RETURN_IF_ERROR(
        reader.Read("gate_bias/" + weights.bias_names()[i], bias.dtype, bias.shape, {0, bias.size()}, bias.data));
  }
  return absl::OkStatus();
}

absl::Status LoadWeights(CheckpointReader& reader, const WeightStore& weights) {
  constexpr int64_t kPiece = int64_t{1} << 20;  // elements converted at a time
  std::vector<float> piece;
  const OpContext ops;
  for (size_t p = 0; p < weights.specs().size(); ++p) {
    const ParamSpec& spec = weights.specs()[p];
    const Tensor& value = weights.value(p);
    const int64_t begin = spec.expert ? weights.experts().begin * (spec.shape.size() / spec.shape[0]) : 0;
    for (int64_t done = 0; done < value.size(); done += kPiece) {
      const int64_t n = std::min(kPiece, value.size() - done);
      piece.resize(static_cast<size_t>(n));
      JEVONS_RETURN_IF_ERROR(reader.Read("weight/" + spec.name, DType::kF32, spec.shape,
                                         {begin + done, begin + done + n}, piece.data()));
      Copy(ops, Tensor::Of(piece.data(), {n}),
           Tensor(static_cast<char*>(value.data) + done * SizeOf(value.dtype), value.dtype, {n}));
    }
  }
  for (size_t i = 0; i < weights.bias_names().size(); ++i) {
    const Tensor& bias = weights.bias(i);
    JEVONS_RETURN_IF_ERROR(
        reader.Read("gate_bias/" + weights.bias_names()[i], bias.dtype, bias.shape, {0, bias.size()}, bias.data));
  }
  return absl::OkStatus();
}

}  // namespace jevons
