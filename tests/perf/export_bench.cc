// What exporting a model of any size needs: export_bench CONFIG.textproto [bf16|fp8|fp32]
//
// The checkpoint has the preset's full layout and all weights zero, on a disk that keeps sizes but no tensor data, so that
// hundreds of billions of parameters need no storage. Prints time, bytes and the peak of resident memory.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>

#include "absl/strings/match.h"
#include "configs/load.h"
#include "kernels/base/check.h"
#include "trainer/checkpoint/stream_writer.h"
#include "trainer/interop/export.h"
#include "trainer/spec/params.h"

namespace jevons {
namespace {

bool HoldsTensors(const std::string& path) {
  return absl::EndsWith(path, ".bin") || absl::EndsWith(path, ".safetensors.partial");
}

struct Stored {
  bool directory = false;
  int64_t bytes = 0;
  std::string contents;  // not of files that hold tensors
};
using Names = std::map<std::string, Stored>;

class VoidFile : public File {
 public:
  VoidFile(Stored& stored, bool keep) : stored_(stored), keep_(keep) {}
  absl::StatusOr<int64_t> Write(std::span<const std::byte> bytes) override {
    stored_.bytes += static_cast<int64_t>(bytes.size());
    if (keep_) stored_.contents.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return static_cast<int64_t>(bytes.size());
  }
  absl::StatusOr<int64_t> PRead(int64_t offset, std::span<std::byte> bytes) override {
    const int64_t count = std::min(static_cast<int64_t>(bytes.size()), stored_.bytes - offset);
    if (keep_)
      std::memcpy(bytes.data(), stored_.contents.data() + offset, static_cast<size_t>(count));
    else
      std::memset(bytes.data(), 0, static_cast<size_t>(count));
    return count;
  }
  absl::Status Fsync() override { return absl::OkStatus(); }
  absl::Status Close() override { return absl::OkStatus(); }

 private:
  Stored& stored_;
  bool keep_;
};

class VoidDisk : public FileSystem {
 public:
  VoidDisk() { names_["/"].directory = true; }
  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override {
    if (mode == OpenMode::kWrite) names_[path] = {};
    return std::unique_ptr<File>(new VoidFile(names_.at(path), !HoldsTensors(path)));
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    Names moved;
    for (auto it = names_.begin(); it != names_.end();) {
      if (it->first != from && !absl::StartsWith(it->first, from + "/")) {
        ++it;
        continue;
      }
      moved[to + it->first.substr(from.size())] = std::move(it->second);
      it = names_.erase(it);
    }
    names_.merge(moved);
    return absl::OkStatus();
  }
  absl::Status MakeDirectory(const std::string& path) override {
    names_[path].directory = true;
    return absl::OkStatus();
  }
  absl::Status SyncDirectory(const std::string&) override { return absl::OkStatus(); }
  absl::Status Remove(const std::string& path) override {
    names_.erase(path);
    return absl::OkStatus();
  }
  absl::Status RemoveDirectory(const std::string& path) override { return Remove(path); }
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    std::vector<std::string> found;
    for (const auto& [name, stored] : names_)
      if (name != path && ParentPath(name) == path) found.push_back(name.substr(path.size() + 1));
    return found;
  }
  absl::StatusOr<std::optional<FileInfo>> Stat(const std::string& path) override {
    const auto found = names_.find(path);
    if (found == names_.end()) return std::optional<FileInfo>();
    return std::optional<FileInfo>(FileInfo{.is_directory = found->second.directory, .bytes = found->second.bytes});
  }

 private:
  Names names_;
};

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double PeakGib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / (1 << 20);
}

absl::Status Run(const std::string& path, HfPrecision precision) {
  JEVONS_ASSIGN_OR_RETURN(const RunConfig config, LoadRunConfig(path, {}));
  JEVONS_CHECK(config.model().vocab_size() > 0, "the preset must name its vocabulary");
  VoidDisk disk;
  JEVONS_ASSIGN_OR_RETURN(CheckpointStream writer, CheckpointStream::Create(disk, "/checkpoint"));
  const std::vector<std::byte> zeros(1 << 22);
  const auto add = [&](const std::string& name, const Shape& shape) -> absl::Status {
    JEVONS_RETURN_IF_ERROR(writer.BeginTensor(name, DType::kF32, shape));
    for (int64_t left = 4 * shape.size(); left > 0; left -= static_cast<int64_t>(zeros.size()))
      JEVONS_RETURN_IF_ERROR(writer.Append(std::span(zeros).first(std::min(zeros.size(), static_cast<size_t>(left)))));
    return absl::OkStatus();
  };
  for (const ParamSpec& spec : ParameterTable(config.model())) JEVONS_RETURN_IF_ERROR(add("weight/" + spec.name, spec.shape));
  for (const std::string& name : GateBiasNames(config.model()))
    JEVONS_RETURN_IF_ERROR(add("gate_bias/" + name, {config.model().moe().routed_experts()}));
  JEVONS_RETURN_IF_ERROR(writer.Finish({.step = 0, .config_text = ResolvedText(config)}));

  JEVONS_ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(disk, "/checkpoint"));
  const double before = PeakGib(), begin = Seconds();
  JEVONS_ASSIGN_OR_RETURN(const ExportReport report,
                          ExportCheckpoint(disk, reader, config, {.output = "/model", .precision = precision}));
  const double seconds = Seconds() - begin;
  std::printf(
      "%lld tensors in %d files, %.1f GB written from %.1f GB: %.1f s, %.2f GB/s read; peak memory %.3f GiB (%.3f before)\n",
      static_cast<long long>(report.tensors), report.shards, static_cast<double>(report.bytes) / 1e9,
      static_cast<double>(reader.bytes()) / 1e9, seconds, static_cast<double>(reader.bytes()) / 1e9 / seconds, PeakGib(), before);
  return absl::OkStatus();
}

}  // namespace
}  // namespace jevons

int main(int argc, char** argv) {
  const std::map<std::string, jevons::HfPrecision> precisions = {
      {"bf16", jevons::HfPrecision::kBf16}, {"fp8", jevons::HfPrecision::kFp8}, {"fp32", jevons::HfPrecision::kFp32}};
  const std::string precision = argc > 2 ? argv[2] : "bf16";
  if (argc < 2 || argc > 3 || precisions.count(precision) == 0) {
    std::fprintf(stderr, "export_bench CONFIG.textproto [bf16|fp8|fp32]\n");
    return 2;
  }
  const absl::Status status = jevons::Run(argv[1], precisions.at(precision));
  if (!status.ok()) std::fprintf(stderr, "error: %s\n", std::string(status.message()).c_str());
  return static_cast<int>(jevons::ExitCodeOf(status));
}
