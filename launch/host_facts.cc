#include "launch/host_facts.h"

#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "kernels/base/machine.h"
#include "kernels/cuda/report.h"
#include "kernels/ops/gemm.h"
#include "kernels/tensor/device.h"
#include "launch/cli.h"
#include "launch/process.h"
#include "launch/version.h"
#include "parallel/comm/mpi.h"
#include "parallel/comm/nccl.h"
#include "trainer/checkpoint/manifest.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

constexpr double kQuick = 10;  // seconds for nvidia-smi, which takes some where no daemon keeps the driver loaded
constexpr std::chrono::seconds kFolderPatience(5);  // a network file system may show a new file that late
constexpr double kSharedMemory = 1 << 30;           // bytes: NCCL and MPI keep buffers there for each pair of a host's ranks

std::string Read(const fs::path& path) {
  std::stringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::string ShortHash(const std::string& bytes) {
  std::string text;
  for (const char byte : HashOf(std::as_bytes(std::span(bytes))).substr(0, 6))
    absl::StrAppendFormat(&text, "%02x", static_cast<unsigned char>(byte));
  return text;
}

Finding Fact(const std::string& topic, const std::string& value) { return {topic, Verdict::kGood, value, ""}; }

Finding Program() {
  const std::string version = VersionText();
  return Fact("program",
              absl::StrFormat("%s, file %s", version.substr(0, version.find('\n')), ShortHash(Read("/proc/self/exe"))));
}

Finding Processor() {
  return Fact("cpu", absl::StrFormat("%d usable cores of %d; products %s (FP32), %s (BF16)", UsableCores(), MachineCores(),
                                     GemmImplementation(DType::kF32), GemmImplementation(DType::kBF16)));
}

Finding Gpus() {
  const CudaReport cuda = ExamineCuda();
  if (cuda.devices.empty()) return Fact("gpus", cuda.problem.empty() ? "none" : "none: " + cuda.problem);
  std::vector<std::string> names;
  for (const CudaDevice& d : cuda.devices) names.push_back(d.name + " " + HumanBytes(static_cast<double>(d.memory_bytes)));
  const auto count = static_cast<size_t>(std::count(names.begin(), names.end(), names[0]));
  return Fact("gpus", count == names.size() ? absl::StrFormat("%d x %s", count, names[0]) : absl::StrJoin(names, ", "));
}

Finding GpuDriver() {
  const ProcessResult smi = RunProcess({"nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"}, kQuick);
  return Fact("gpu driver", smi.exit_code == 0 ? smi.out.substr(0, smi.out.find('\n')) : "none");
}

Finding GpuTopology() {
  const ProcessResult smi = RunProcess({"nvidia-smi", "topo", "-m"}, kQuick);
  const std::string text = smi.exit_code == 0 ? TopologyText(smi.out) : "";
  return Fact("gpu topology", text.empty() ? "none" : text);
}

Finding Nccl() {
  const NcclReport nccl = ExamineNccl();
  return Fact("nccl", !nccl.built ? "not in this program" : nccl.problem.empty() ? nccl.loaded : nccl.problem);
}

Finding Cudnn() {
  const std::string text = cuda::CudnnText();
  return Fact("cudnn", text.empty() ? "none" : text);
}

// "mlx5_0 400 Gb/sec (4X NDR), 4: ACTIVE" for each port.
std::vector<std::string> InfiniBandPorts() {
  std::vector<std::string> ports;
  std::error_code none;
  for (const auto& device : fs::directory_iterator("/sys/class/infiniband", none))
    for (const auto& port : fs::directory_iterator(device.path() / "ports", none))
      ports.push_back(absl::StrFormat("%s %s, %s", device.path().filename().string(),
                                      absl::StripAsciiWhitespace(Read(port.path() / "rate")),
                                      absl::StripAsciiWhitespace(Read(port.path() / "state"))));
  std::sort(ports.begin(), ports.end());
  return ports;
}

Finding InfiniBand() {
  const std::vector<std::string> ports = InfiniBandPorts();
  if (ports.empty()) return Fact("infiniband", "none");
  rlimit locked = {};
  getrlimit(RLIMIT_MEMLOCK, &locked);
  if (locked.rlim_cur == RLIM_INFINITY) return Fact("infiniband", absl::StrJoin(ports, "; "));
  return {
      "infiniband", Verdict::kBad,
      absl::StrFormat("%s; a process may lock %s", absl::StrJoin(ports, "; "), HumanBytes(static_cast<double>(locked.rlim_cur))),
      "ulimit -l unlimited  # in /etc/security/limits.d, and LimitMEMLOCK=infinity for sshd and slurmd"};
}

Finding SharedMemory() {
  struct statvfs disk = {};
  if (statvfs("/dev/shm", &disk) != 0) return {"/dev/shm", Verdict::kBad, "not there", "mount -t tmpfs tmpfs /dev/shm"};
  const double bytes = static_cast<double>(disk.f_blocks) * static_cast<double>(disk.f_frsize);
  if (bytes >= kSharedMemory) return Fact("/dev/shm", "1 GiB or more");
  return {"/dev/shm", Verdict::kBad, HumanBytes(bytes),
          "mount -o remount,size=1G /dev/shm; a container: docker run --shm-size=1g"};
}

// Names, sizes, and what the folder itself says of its content.
Finding Data(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error))
    return {"data", Verdict::kBad, folder.string() + " is not there", "copy it to the same path on every host, or share it"};
  std::vector<std::string> files;
  double total = 0;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (!entry.is_regular_file(error)) continue;
    const auto bytes = entry.file_size(error);
    files.push_back(absl::StrFormat("%s %d %s", entry.path().filename().string(), bytes,
                                    entry.path().extension() == ".json" ? ShortHash(Read(entry.path())) : ""));
    total += static_cast<double>(bytes);
  }
  std::sort(files.begin(), files.end());
  return Fact("data",
              absl::StrFormat("%d files, %s, %s", files.size(), HumanBytes(total), ShortHash(absl::StrJoin(files, "\n"))));
}

// A file in `folder` with something that nobody else writes.
fs::path MarkOf(const fs::path& folder, int64_t job, int rank) {
  return folder / absl::StrFormat(".jevons-doctor-%016x-%d", static_cast<uint64_t>(job), rank);
}

bool Appears(const fs::path& file) {
  const auto deadline = std::chrono::steady_clock::now() + kFolderPatience;
  std::error_code error;
  do {
    // A listing makes network file systems look again.
    for (const auto& entry : fs::directory_iterator(file.parent_path(), error))
      if (entry.path() == file) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

// Each rank leaves a mark, and looks for that of the first one. Collective.
Finding Output(Communicator& world, const fs::path& folder) {
  int64_t job = (std::chrono::system_clock::now().time_since_epoch().count() << 16) ^ getpid();
  world.Broadcast(std::as_writable_bytes(std::span(&job, 1)), 0);
  const fs::path mark = MarkOf(folder, job, world.rank());
  const bool written = static_cast<bool>(std::ofstream(mark) << world.rank() << std::flush);
  const std::string problem = written ? "" : std::strerror(errno);
  world.Barrier();
  const bool shared = written && Appears(MarkOf(folder, job, 0));
  world.Barrier();
  std::error_code gone;
  fs::remove(mark, gone);
  const std::string remedy = absl::StrFormat("share one folder (NFS, Lustre, a volume) at %s", folder.string());
  if (!written) return {"output", Verdict::kBad, absl::StrFormat("%s cannot be written: %s", folder.string(), problem), remedy};
  if (!shared) return {"output", Verdict::kBad, folder.string() + " is another folder than the first host's", remedy};
  return Fact("output", folder.string() + " is one folder, and can be written");
}

}  // namespace

HostFacts ExamineHost(Communicator& world, const RunFolders& folders) {
  HostFacts host{.host = HostName(),
                 .facts = {Program(), Fact("mpi", MpiLibraryVersion()), Processor(), Gpus(), GpuDriver(), GpuTopology(), Nccl(),
                           Cudnn(), InfiniBand(), SharedMemory()}};
  if (!folders.data.empty()) host.facts.push_back(Data(folders.data));
  if (!folders.output.empty()) host.facts.push_back(Output(world, folders.output));
  return host;
}

}  // namespace jevons
