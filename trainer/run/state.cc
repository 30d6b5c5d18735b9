#include "trainer/run/state.h"

#include <algorithm>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "configs/load.h"
#include "kernels/ops/elementwise.h"
#include "kernels/tensor/device.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/spec/schedules.h"

namespace jevons {

std::vector<TensorSlice> SlicesOf(const std::vector<StateSlice>& state) {
  std::vector<TensorSlice> slices;
  for (const StateSlice& s : state)
    slices.push_back({.name = s.name, .dtype = s.data.dtype, .shape = s.shape, .elements = s.elements, .data = s.data.data});
  return slices;
}

std::string NameOfConfig(const CheckpointReader& reader) { return reader.path() + " (its config)"; }

absl::StatusOr<RunConfig> RunConfigOf(const CheckpointReader& reader) {
  return ParseRunConfig(reader.config_text(), NameOfConfig(reader), {});
}

absl::StatusOr<RunConfig> StageConfigOf(const CheckpointReader& reader) {
  JEVONS_ASSIGN_OR_RETURN(const RunConfig config, RunConfigOf(reader));
  if (config.train().stage().empty()) return config;  // an import's knows no steps
  const RunSchedule schedule(config);
  return schedule.stage(schedule.StageOf(std::max<int64_t>(0, reader.step() - 1)));
}

namespace {

// Elements of a tensor of the checkpoint to `to`, wherever it lies. In pieces, so that little of the host's memory is needed.
absl::Status ReadTo(CheckpointReader& reader, const std::string& name, const Shape& shape, int64_t first, const Tensor& to,
                    const Stream& stream) {
  if (stream.device == Device::kCpu) return reader.Read(name, to.dtype, shape, {first, first + to.size()}, to.data);
  constexpr int64_t kPiece = int64_t{16} << 20;  // elements
  const int64_t size = SizeOf(to.dtype);
  const Staging piece(stream.device, std::min(kPiece, to.size()) * size);
  for (int64_t done = 0; done < to.size(); done += kPiece) {
    const int64_t n = std::min(kPiece, to.size() - done);
    JEVONS_RETURN_IF_ERROR(reader.Read(name, to.dtype, shape, {first + done, first + done + n}, piece.data()));
    CopyBytes(stream, piece.data(), static_cast<char*>(to.data) + done * size, n * size);
    Synchronize(stream);
  }
  return absl::OkStatus();
}

absl::Status ReadBiases(CheckpointReader& reader, const WeightStore& weights, const Stream& stream) {
  for (size_t i = 0; i < weights.bias_names().size(); ++i) {
    const Tensor& bias = weights.bias(i);
    if (!bias) continue;
    JEVONS_RETURN_IF_ERROR(ReadTo(reader, "gate_bias/" + weights.bias_names()[i], bias.shape, 0, bias, stream));
  }
  return absl::OkStatus();
}

}  // namespace

bool HasAverage(const CheckpointReader& reader) {
  return std::any_of(reader.tensors().begin(), reader.tensors().end(),
                     [](const TensorInfo& tensor) { return absl::StartsWith(tensor.name, "ema/"); });
}

absl::Status UseAverage(CheckpointReader& reader) {
  if (!HasAverage(reader))
    return UsageError(absl::StrFormat(
        "--ema: %s holds no average of the weights: its run had optimizer.ema_decay = 0; leave --ema out", reader.path()));
  reader.ReadInstead("weight/", "ema/");
  return absl::OkStatus();
}

absl::Status LoadState(CheckpointReader& reader, TrainStep& train_step) {
  const Stream& stream = train_step.stream();
  const bool has_average = HasAverage(reader);
  for (const StateSlice& slice : train_step.State()) {
    const bool moment = absl::StartsWith(slice.name, "m/") || absl::StartsWith(slice.name, "v/");
    if (reader.step() == 0 && moment) {
      Zero(stream, slice.data);
      continue;
    }
    if (absl::StartsWith(slice.name, "gate_bias/")) continue;  // one rank saves them, all read them
    const bool begins = absl::StartsWith(slice.name, "ema/") && !has_average;
    const std::string name = begins ? "weight/" + slice.name.substr(4) : slice.name;
    JEVONS_RETURN_IF_ERROR(ReadTo(reader, name, slice.shape, slice.elements.begin, slice.data, stream));
  }
  return ReadBiases(reader, train_step.weights(), stream);
}

absl::Status LoadWeights(CheckpointReader& reader, const WeightStore& weights, const Stream& stream, const TakeWeights& take) {
  constexpr int64_t kPiece = int64_t{1} << 20;  // elements converted at a time
  int64_t largest = 0;
  for (size_t p = 0; p < weights.specs().size(); ++p)
    if (weights.holds(p) && weights.passing(p)) largest = std::max(largest, weights.value(p).bytes());
  Arena arena("weights on their way", Arena::SliceBytes(DType::kF32, {kPiece}) + Arena::SliceBytes(DType::kU8, {largest}),
              stream.device);
  const Tensor piece = arena.Allocate("piece", DType::kF32, {kPiece});
  const OpContext ops{.stream = stream, .scratch = &arena};
  for (size_t p = 0; p < weights.specs().size(); ++p) {
    const ParamSpec& spec = weights.specs()[p];
    if (!weights.holds(p)) continue;
    const ArenaScope scope(arena);
    const bool passing = weights.passing(p);
    const Tensor& stored = weights.value(p);
    const Tensor value = passing ? arena.Allocate("passing weight", stored.dtype, stored.shape) : stored;
    const int64_t begin = spec.expert ? weights.experts().begin * (spec.shape.size() / spec.shape[0]) : 0;
    for (int64_t done = 0; done < value.size(); done += kPiece) {
      const Tensor masters = Tensor::Of(piece.as<float>(), {std::min(kPiece, value.size() - done)});
      JEVONS_RETURN_IF_ERROR(ReadTo(reader, "weight/" + spec.name, spec.shape, begin + done, masters, stream));
      Copy(ops, masters, Tensor(static_cast<char*>(value.data) + done * SizeOf(value.dtype), value.dtype, {masters.size()}));
    }
    if (!passing) continue;
    const PassingWeight weight{p, -1, value};
    take(ops, {&weight, 1});
  }
  JEVONS_RETURN_IF_ERROR(ReadBiases(reader, weights, stream));
  Synchronize(stream);  // the piece goes
  return absl::OkStatus();
}

absl::Status AdviseToGoBack(const absl::Status& status, const std::string& checkpoints, int64_t state) {
  const absl::StatusOr<std::vector<CommittedFolder>> committed = ListCommitted(PosixFileSystem(), checkpoints);
  std::vector<std::string> poisoned;
  std::optional<int64_t> good;
  if (committed.ok()) {
    for (const CommittedFolder& folder : *committed) {
      if (folder.step < state) {
        good = folder.step;
      } else {
        poisoned.push_back(folder.path);
      }
    }
  }
  std::string advice = good ? absl::StrFormat("The same command goes on from step %d, the newest checkpoint before it", *good)
                            : "There is no checkpoint before it: the same command begins anew";
  if (!poisoned.empty()) advice = absl::StrFormat("%s has these weights: remove it. %s", absl::StrJoin(poisoned, ", "), advice);
  return absl::Status(status.code(), absl::StrFormat("%s. %s", std::string(status.message()), advice));
}

absl::Status LoadWeights(CheckpointReader& reader, TrainStep& train_step) {
  const auto take = [&](const OpContext&, std::span<const PassingWeight> weights) { train_step.TakeWeights(weights); };
  JEVONS_RETURN_IF_ERROR(LoadWeights(reader, train_step.weights(), train_step.stream(), take));
  train_step.WeightsChanged();
  return absl::OkStatus();
}

}  // namespace jevons
