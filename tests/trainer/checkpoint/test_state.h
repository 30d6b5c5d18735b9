// A small state to save and load: tensors of every dtype whose elements say which step, tensor and index they
// are, sharded over any number of ranks at odd places.
#ifndef JEVONS_TESTS_TRAINER_CHECKPOINT_TEST_STATE_H_
#define JEVONS_TESTS_TRAINER_CHECKPOINT_TEST_STATE_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/philox.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/checkpoint/writer.h"

namespace jevons {

class TestState {
 public:
  // `scale` multiplies the sizes; with 1 all tensors together have about 11 KB.
  explicit TestState(int64_t step, int64_t scale = 1) : step_(step) {
    Add("embedding.weight", DType::kF32, {40 * scale, 30});
    Add("experts.bias", DType::kI64, {7});
    Add("experts.w1", DType::kBF16, {4, 25 * scale, 30});
    Add("norm", DType::kF32, {1});
    Add("nothing", DType::kF32, {0, 8});
    Add("sampler.mask", DType::kU8, {33});
    Add("counts", DType::kI32, {3, 3});
  }

  int64_t step() const { return step_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const std::vector<std::byte>& bytes(size_t tensor) const { return bytes_[tensor]; }

  // What rank `rank` of `ranks` saves: of tensor t the block (rank + t) mod ranks, the blocks cut unevenly.
  std::vector<TensorSlice> Slices(int rank, int ranks) const {
    std::vector<TensorSlice> slices;
    for (size_t t = 0; t < tensors_.size(); ++t) {
      const Range range = Part(tensors_[t].shape.size(), (rank + static_cast<int>(t)) % ranks, ranks);
      slices.push_back({tensors_[t].name, tensors_[t].dtype, tensors_[t].shape, range,
                        bytes_[t].data() + range.begin * SizeOf(tensors_[t].dtype)});
    }
    return slices;
  }

  CheckpointInfo Info() const {
    return {.step = step_,
            .config_text = absl::StrCat("train { steps: ", step_, " }\n"),
            .sampler_state = absl::StrCat("sampler at ", step_),
            .cost_state = "cost",
            .step_history = "history",
            .labels = {{"instruction_set", "test"}, {"version", "1"}}};
  }

  // Part `part` of `parts` of [0, n): the cut k of 1..parts-1 lies at n * (k / parts)^2, which is nowhere in
  // particular.
  static Range Part(int64_t n, int part, int parts) {
    const auto cut = [&](int64_t k) { return n * k * k / (int64_t{parts} * parts); };
    return {cut(part), cut(part + 1)};
  }

  // What `reader` holds that this state does not, or an error; "" where they are equal. Reads `parts` parts
  // of each tensor.
  std::string Mismatch(CheckpointReader& reader, int parts) const {
    if (reader.step() != step_) return absl::StrCat("step ", reader.step(), " instead of ", step_);
    if (reader.sampler_state() != Info().sampler_state) return "sampler state " + reader.sampler_state();
    if (reader.config_text() != Info().config_text) return "config " + reader.config_text();
    if (reader.cost_state() != "cost" || reader.step_history() != "history" || reader.labels() != Info().labels)
      return "cost or labels";
    if (reader.tensors().size() != tensors_.size()) return absl::StrCat(reader.tensors().size(), " tensors");
    for (size_t t = 0; t < tensors_.size(); ++t) {
      const TensorInfo& tensor = tensors_[t];
      for (int part = 0; part < parts; ++part) {
        const Range range = Part(tensor.shape.size(), part, parts);
        const size_t size = static_cast<size_t>(range.size() * SizeOf(tensor.dtype));
        std::vector<std::byte> read(size + 1, std::byte{0xAA});
        const absl::Status status = reader.Read(tensor.name, tensor.dtype, tensor.shape, range, read.data());
        if (!status.ok()) return std::string(status.message());
        if (size > 0 && std::memcmp(read.data(), bytes_[t].data() + range.begin * SizeOf(tensor.dtype), size) != 0) {
          return tensor.name + " differs";
        }
        if (read[size] != std::byte{0xAA}) return tensor.name + " was written beyond its end";
      }
    }
    return "";
  }

 private:
  void Add(const std::string& name, DType dtype, const Shape& shape) {
    std::vector<std::byte> bytes(static_cast<size_t>(shape.size() * SizeOf(dtype)));
    for (size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<std::byte>(RandomBits(static_cast<uint64_t>(step_), tensors_.size(), i));
    }
    tensors_.push_back({name, dtype, shape});
    bytes_.push_back(std::move(bytes));
  }

  int64_t step_;
  std::vector<TensorInfo> tensors_;
  std::vector<std::vector<std::byte>> bytes_;  // of each tensor
};

// Begin, Finish: a save of `state` from start to commit. Collective.
inline absl::Status Save(CheckpointWriter& writer, const TestState& state, const Communicator& world) {
  JEVONS_RETURN_IF_ERROR(writer.Begin(state.Info(), state.Slices(world.rank(), world.size())));
  JEVONS_ASSIGN_OR_RETURN(const std::optional<int64_t> committed, writer.Finish());
  if (committed != state.step()) return FailureError("Finish did not commit");
  return absl::OkStatus();
}

}  // namespace jevons

#endif  // JEVONS_TESTS_TRAINER_CHECKPOINT_TEST_STATE_H_
