#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "configs/validate.h"
#include "kernels/base/check.h"
#include "tests/fuzz/targets.h"
#include "tests/support/memory_disk.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/files/hf_files.h"
#include "trainer/files/safetensors.h"
#include "trainer/interop/hf_config.h"
#include "trainer/interop/hf_folder.h"

namespace jevons {
namespace {

constexpr int64_t kMostBytes = 1 << 20;  // of a file that an input may ask for

// Every tensor that the header promises can be read.
void ReadAll(SafetensorsFile& file) {
  for (const SafetensorsEntry& entry : file.entries()) {
    std::vector<std::byte> bytes(static_cast<size_t>(entry.end - entry.begin));
    JEVONS_CHECK(file.Read(entry, 0, bytes).ok(), "%s", entry.name.c_str());
  }
}

bool Safetensors(const std::string& input) {
  MemoryDisk disk;
  PutFile(disk, "x.safetensors", input);
  auto file = SafetensorsFile::Open(disk, "x.safetensors");
  if (!file.ok()) return false;
  ReadAll(*file);
  return true;
}

// A folder of two files of tensors and the index before the first zero byte.
bool HfIndex(const std::string& input) {
  MemoryDisk disk;
  JEVONS_CHECK(disk.MakeDirectory("model").ok());
  constexpr int64_t kElements = 2;
  for (const auto& [file, tensor] :
       {std::pair("model/a.safetensors", "x"), std::pair("model/b.safetensors", "y"), std::pair("outside.safetensors", "z")}) {
    auto writer = SafetensorsWriter::Create(disk, file, {{tensor, kStF32, {kElements}}});
    JEVONS_CHECK(writer.ok() && writer->Append(std::vector<std::byte>(kElements * sizeof(float))).ok() && writer->Finish().ok());
  }
  PutFile(disk, std::string("model/") + kHfIndexName, input);
  auto folder = HfFolder::Open(disk, "model");
  if (!folder.ok()) return false;
  for (const std::string& name : folder->names()) JEVONS_CHECK(name != "z", "a file outside of the folder was read");
  return true;
}

bool HfConfigFile(const std::string& input) {
  const auto config = ParseHfConfig(input, kConfigJson);
  if (!config.ok()) return false;
  RunConfig run;
  *run.mutable_model() = config->model;
  for (const Violation& violation : Validate(run, /*world_size=*/0))
    if (absl::StartsWith(violation.field, "model.")) return false;  // an import refuses it
  const std::string text = HfConfigJson(*config, HfPrecision::kBf16, /*bos=*/0, /*eos=*/1);
  const auto again = ParseHfConfig(text, kConfigJson);
  JEVONS_CHECK(again.ok(), "%s\n%s", std::string(again.status().message()).c_str(), text.c_str());
  JEVONS_CHECK(HfConfigJson(*again, HfPrecision::kBf16, 0, 1) == text, "%s", text.c_str());
  return true;
}

// The bytes as they are; then the same message under a right seal, beside files of the sizes that it names.
bool Manifest(const std::string& input) {
  if (const auto manifest = UnsealManifest(input, "m"); manifest.ok()) (void)CheckManifest(*manifest, "m");
  CheckpointManifest message;
  if (!message.ParseFromString(input)) return false;
  message.clear_seal();
  const auto manifest = UnsealManifest(SealManifest(message), "m");
  JEVONS_CHECK(manifest.ok(), "%s", std::string(manifest.status().message()).c_str());
  if (!CheckManifest(*manifest, "m").ok()) return false;
  int64_t bytes = 0;
  for (const CheckpointFile& file : manifest->files()) {
    if (file.bytes() > kMostBytes - bytes) return false;
    bytes += file.bytes();
  }
  MemoryDisk disk;
  JEVONS_CHECK(disk.MakeDirectory("c").ok());
  for (const CheckpointFile& file : manifest->files())
    PutFile(disk, JoinPath("c", file.name()), std::string(static_cast<size_t>(file.bytes()), '\0'));
  PutFile(disk, JoinPath("c", kManifestName), SealManifest(message));
  auto reader = CheckpointReader::Open(disk, "c");
  if (!reader.ok()) return false;
  const bool whole = reader->Verify().ok();
  JEVONS_CHECK(StateHash(*reader).ok() == whole, "a hash of what is damaged");
  return whole;
}

constexpr FuzzTarget kTargets[] = {
    {"safetensors", Safetensors}, {"hf_index", HfIndex}, {"hf_config", HfConfigFile}, {"manifest", Manifest}};

}  // namespace

std::span<const FuzzTarget> CheckpointTargets() { return kTargets; }

}  // namespace jevons
