#include "launch/machine.h"

#include <dlfcn.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "kernels/base/machine.h"
#include "launch/cli.h"
#include "launch/process.h"
#include "parallel/comm/mpi.h"

namespace jevons {
namespace {

constexpr double kQuick = 1.5;     // seconds for a program that only prints its version
constexpr double kSelfTest = 5.0;  // seconds for mpirun to start two ranks and end
constexpr char kSetup[] = "./launch/setup.sh";

std::string ReadFile(const char* path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// "key : value" lines of /proc/cpuinfo and /proc/meminfo; the first of each key counts.
std::map<std::string, std::string> ReadTable(const char* path) {
  std::map<std::string, std::string> table;
  for (absl::string_view line : absl::StrSplit(ReadFile(path), '\n')) {
    const std::pair<absl::string_view, absl::string_view> entry = absl::StrSplit(line, absl::MaxSplits(':', 1));
    table.emplace(absl::StripAsciiWhitespace(entry.first), absl::StripAsciiWhitespace(entry.second));
  }
  return table;
}

std::string FirstLine(const std::string& text) {
  return std::string(absl::StripAsciiWhitespace(text.substr(0, text.find('\n'))));
}

Finding Cpu() {
  std::string value = ProcessorName();
  absl::StrAppendFormat(&value, ", %d usable cores", UsableCores());
  if (const int all = MachineCores(); UsableCores() < all) absl::StrAppendFormat(&value, " of %d", all);
  if (const double quota = CoreQuota(); quota > 0) absl::StrAppendFormat(&value, ", limited to the time of %g", quota);
  return {"cpu", Verdict::kGood, value, ""};
}

Finding Simd() {
  const std::string text = ReadTable("/proc/cpuinfo")["flags"];
  const std::set<std::string> flags = absl::StrSplit(text, ' ');
  std::vector<std::string> found;
  for (const char* flag : {"avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16"}) {
    if (flags.count(flag) > 0) found.push_back(flag);
  }
  std::string value = found.empty() ? "baseline only: training is slow" : absl::StrJoin(found, " ");
  value += flags.count("amx_bf16") > 0 ? "; BF16 products run on AMX" : "; no AMX, so BF16 products are expanded to FP32";
  return {"simd", Verdict::kGood, value, ""};
}

Finding Memory() {
  auto table = ReadTable("/proc/meminfo");
  const double total = std::atof(table["MemTotal"].c_str()) * 1024;
  const double available = std::atof(table["MemAvailable"].c_str()) * 1024;
  std::string value = absl::StrFormat("%s, of which %s available", HumanBytes(total), HumanBytes(available));
  double limit = 0;
  if (absl::SimpleAtod(FirstLine(ReadFile("/sys/fs/cgroup/memory.max")), &limit)) {
    absl::StrAppendFormat(&value, ", limited to %s", HumanBytes(limit));
  }
  return {"memory", Verdict::kGood, value, ""};
}

Finding Disk() {
  struct statvfs disk = {};
  if (statvfs(".", &disk) != 0) return {"disk", Verdict::kBad, "the current folder cannot be read", "cd elsewhere"};
  const double available = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
  constexpr double kNeeded = 1e9;  // the quick start's build, data and checkpoints
  const bool enough = available >= kNeeded;
  return {"disk", enough ? Verdict::kGood : Verdict::kBad, HumanBytes(available) + " free in the current folder",
          enough ? "" : "free some space: the quick start takes 1 GB"};
}

Finding Tool(const std::string& topic, std::vector<std::string> command, Verdict if_missing) {
  const ProcessResult result = RunProcess(std::move(command), kQuick);
  if (result.exit_code != 0) return {topic, if_missing, "not found", kSetup};
  return {topic, Verdict::kGood, FirstLine(result.out), ""};
}

Finding MpiSelfTest(const std::string& program) {
  const std::string topic = "mpi self-test";
  const std::vector<std::string> root = {"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"};
  absl::StatusOr<Process> process =
      Process::Start({"mpirun", "--oversubscribe", "-np", "2", program, "doctor", "--check-ranks", "2"}, root);
  if (!process.ok()) return {topic, Verdict::kBad, std::string(process.status().message()), kSetup};
  const ProcessResult result = process->Wait(kSelfTest);
  if (result.timed_out) {
    return {topic, Verdict::kBad, absl::StrFormat("two ranks did not end within %g s", kSelfTest),
            "mpirun -np 2 hostname  # must print two lines"};
  }
  if (result.exit_code != 0) {
    return {topic, Verdict::kBad, absl::StrFormat("exit code %d: %s", result.exit_code, FirstLine(result.err)),
            "mpirun -np 2 hostname  # must print two lines"};
  }
  if (geteuid() == 0 && std::getenv("OMPI_ALLOW_RUN_AS_ROOT") == nullptr) {
    return {topic, Verdict::kGood, "two ranks heard of each other",
            "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1  # mpirun refuses root otherwise"};
  }
  return {topic, Verdict::kGood, "two ranks heard of each other", ""};
}

// The packages of setup.sh, by the package manager; machines without one are judged by the other checks.
Finding Packages() {
  const std::vector<std::string> wanted = absl::StrSplit(JEVONS_PACKAGES, ' ');
  std::vector<std::string> command = {"dpkg-query", "-W", "-f=${Package} ${Version} ${db:Status-Status}\n"};
  command.insert(command.end(), wanted.begin(), wanted.end());
  const ProcessResult result = RunProcess(std::move(command), kQuick);
  if (result.exit_code == 127) return {"packages", Verdict::kAbsent, "no dpkg here: not looked up", ""};
  std::map<std::string, std::string> versions;
  for (absl::string_view line : absl::StrSplit(result.out, '\n')) {
    const std::vector<std::string> fields = absl::StrSplit(line, ' ');
    if (fields.size() == 3 && fields[2] == "installed") versions[fields[0]] = fields[1];
  }
  std::vector<std::string> missing, found;
  for (const std::string& package : wanted) {
    if (versions.count(package) == 0)
      missing.push_back(package);
    else
      found.push_back(package + " " + versions[package]);
  }
  if (missing.empty()) return {"packages", Verdict::kGood, absl::StrJoin(found, ", "), ""};
  return {"packages", Verdict::kAbsent, "missing for building: " + absl::StrJoin(missing, " "), kSetup};
}

Finding Gpu() {
  const ProcessResult smi =
      RunProcess({"nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"}, kQuick);
  if (smi.exit_code != 0) return {"gpu", Verdict::kAbsent, "no NVIDIA GPU or driver: training runs on the CPU", ""};
  const std::vector<std::string> gpus = absl::StrSplit(absl::StripAsciiWhitespace(smi.out), '\n');
  return {"gpu", Verdict::kGood, absl::StrFormat("%d x %s", gpus.size(), gpus[0]), ""};
}

Finding CudaToolkit() {
  for (const char* nvcc : {"nvcc", "/usr/local/cuda/bin/nvcc"}) {
    const ProcessResult result = RunProcess({nvcc, "--version"}, kQuick);
    const size_t release = result.out.find("release ");
    if (release != std::string::npos) return {"cuda toolkit", Verdict::kGood, FirstLine(result.out.substr(release)), ""};
  }
  return {"cuda toolkit", Verdict::kAbsent, "no nvcc; only a CUDA build needs it", ""};
}

Finding Library(const std::string& topic, const char* file) {
  void* library = dlopen(file, RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr) {
    return {topic, Verdict::kAbsent, absl::StrFormat("no %s; only a CUDA build needs it", file), ""};
  }
  dlclose(library);
  return {topic, Verdict::kGood, file, ""};
}

}  // namespace

std::string ProcessorName() {
  const auto table = ReadTable("/proc/cpuinfo");
  const auto model = table.find("model name");
  return model == table.end() ? "unknown model" : model->second;
}

MemoryState ReadMemory() {
  auto table = ReadTable("/proc/meminfo");
  const double total = std::atof(table["MemTotal"].c_str()) * 1024, available = std::atof(table["MemAvailable"].c_str()) * 1024;
  MemoryState state{.total = total, .used = total - available};
  double limit = 0, used = 0;
  if (absl::SimpleAtod(FirstLine(ReadFile("/sys/fs/cgroup/memory.max")), &limit) && limit < total &&
      absl::SimpleAtod(FirstLine(ReadFile("/sys/fs/cgroup/memory.current")), &used))
    state = {.total = limit, .used = std::min(used, limit)};
  return state;
}

std::vector<Finding> ExamineMachine(const std::string& program) {
  return {Cpu(),
          Simd(),
          Memory(),
          Disk(),
          Tool("mpi", {"mpirun", "--version"}, Verdict::kBad),
          MpiSelfTest(program),
          Tool("compiler", {"c++", "--version"}, Verdict::kAbsent),
          Tool("cmake", {"cmake", "--version"}, Verdict::kAbsent),
          Packages(),
          Gpu(),
          CudaToolkit(),
          Library("cudnn", "libcudnn.so.9")};
}

int CheckRanks(int expected_ranks) {
  int argc = 0;
  char** argv = nullptr;
  absl::StatusOr<std::unique_ptr<MpiSession>> session = MpiSession::Start(&argc, &argv);
  if (!session.ok()) return Finish(session.status());
  int64_t ranks[] = {1};
  (*session)->world().AllReduceSum(ranks);
  if (ranks[0] == expected_ranks) return 0;
  return Finish(PeerLostError(absl::StrFormat("%d of %d ranks answered", ranks[0], expected_ranks)));
}

}  // namespace jevons
