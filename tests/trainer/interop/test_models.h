// Checkpoints of tiny models, ours and published ones, on a disk in memory.
#ifndef JEVONS_TESTS_TRAINER_INTEROP_TEST_MODELS_H_
#define JEVONS_TESTS_TRAINER_INTEROP_TEST_MODELS_H_

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "configs/load.h"
#include "kernels/base/philox.h"
#include "tests/support/memory_disk.h"
#include "tests/support/tiny_model.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/checkpoint/stream_writer.h"
#include "trainer/files/safetensors.h"
#include "trainer/interop/export.h"
#include "trainer/interop/import.h"
#include "trainer/spec/params.h"

namespace jevons {

inline RunConfig TinyRun(const ModelConfig& model = TinyModel()) {
  RunConfig config;
  *config.mutable_model() = model;
  config.mutable_data()->set_sequence_length(8);
  return config;
}

// Numbers that no two elements of a checkpoint share.
inline std::vector<float> Numbers(int64_t count, uint64_t seed) {
  std::vector<float> numbers(static_cast<size_t>(count));
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(2 * RandomUniform(seed, 1, i) - 1);
  return numbers;
}

// A checkpoint of step 0 at `folder`; `change` may change the numbers of each tensor.
using ChangeNumbers = std::function<void(const std::string& name, std::vector<float>& numbers)>;
inline void WriteCheckpoint(FileSystem& files, const std::string& folder, const RunConfig& config,
                            const ChangeNumbers& change = {}) {
  auto writer = CheckpointStream::Create(files, folder);
  ASSERT_TRUE(writer.ok()) << writer.status();
  uint64_t seed = 1;
  const auto add = [&](const std::string& name, const Shape& shape) {
    ASSERT_TRUE(writer->BeginTensor(name, DType::kF32, shape).ok());
    std::vector<float> numbers = Numbers(shape.size(), seed++);
    if (change) change(name, numbers);
    ASSERT_TRUE(writer->Append(std::as_bytes(std::span(numbers))).ok());
  };
  for (const ParamSpec& spec : ParameterTable(config.model())) add("weight/" + spec.name, spec.shape);
  for (const std::string& name : GateBiasNames(config.model())) add("gate_bias/" + name, {config.model().moe().routed_experts()});
  ASSERT_TRUE(writer->Finish({.step = 0, .config_text = ResolvedText(config)}).ok());
}

inline absl::StatusOr<ExportReport> Export(FileSystem& files, const std::string& checkpoint, const RunConfig& config,
                                           const ExportOptions& options) {
  JEVONS_ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(files, checkpoint));
  return ExportCheckpoint(files, reader, config, options);
}

inline void WriteText(FileSystem& files, const std::string& path, const std::string& text) {
  auto file = files.Open(path, OpenMode::kWrite);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(WriteAll(**file, std::as_bytes(std::span(text)), path).ok());
}

struct StoredTensor {
  SafetensorsSpec spec;
  std::vector<std::byte> bytes;
};

// Reads a shard, lets `change` change its tensors, and writes it anew.
inline void ChangeShard(FileSystem& files, const std::string& path,
                        const std::function<void(std::vector<StoredTensor>&)>& change) {
  std::vector<StoredTensor> tensors;
  {
    auto file = SafetensorsFile::Open(files, path);
    ASSERT_TRUE(file.ok()) << file.status();
    for (const SafetensorsEntry& entry : file->entries()) {
      tensors.push_back({entry, std::vector<std::byte>(static_cast<size_t>(entry.end - entry.begin))});
      ASSERT_TRUE(file->Read(entry, 0, tensors.back().bytes).ok());
    }
  }
  change(tensors);
  std::vector<SafetensorsSpec> specs;
  for (const StoredTensor& tensor : tensors) specs.push_back(tensor.spec);
  auto writer = SafetensorsWriter::Create(files, path, specs);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const SafetensorsSpec& spec : writer->order())
    for (const StoredTensor& tensor : tensors)
      if (tensor.spec.name == spec.name) {
        ASSERT_TRUE(writer->Append(tensor.bytes).ok());
      }
  ASSERT_TRUE(writer->Finish().ok());
}

inline constexpr char kImported[] = "checkpoints/step-00000000";

// The elements of a tensor of a checkpoint.
inline std::vector<float> ReadAll(FileSystem& files, const std::string& checkpoint, const std::string& name) {
  auto reader = CheckpointReader::Open(files, checkpoint);
  EXPECT_TRUE(reader.ok()) << reader.status();
  for (const TensorInfo& info : reader->tensors()) {
    if (info.name != name) continue;
    std::vector<float> values(static_cast<size_t>(info.shape.size()));
    EXPECT_TRUE(reader->Read(name, info.dtype, info.shape, {0, info.shape.size()}, values.data()).ok());
    return values;
  }
  ADD_FAILURE() << "no tensor " << name;
  return {};
}

}  // namespace jevons

#endif  // JEVONS_TESTS_TRAINER_INTEROP_TEST_MODELS_H_
