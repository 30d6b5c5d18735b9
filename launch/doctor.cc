// jevons doctor: what this machine, or each host of a job, has, what is missing, and the command that mends it.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "kernels/cuda/report.h"
#include "kernels/tensor/device.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/doctor_hosts.h"
#include "launch/machine.h"
#include "launch/version.h"
#include "parallel/comm/nccl.h"

namespace jevons {
namespace {

struct Options {
  bool json = false;
  int check_ranks = 0;
  std::string hosts;
  RunFolders folders;
  bool be_host = false;
};

const char* NameOf(Verdict verdict) {
  switch (verdict) {
    case Verdict::kGood: return "ok";
    case Verdict::kAbsent: return "absent";
    case Verdict::kBad: return "bad";
  }
  return "";
}

std::string VersionOf(int number) {  // 13000 is 13.0
  return absl::StrFormat("%d.%d", number / 1000, number % 1000 / 10);
}

// The backend of this program, as its own runtime sees the machine.
Finding CudaBackend() {
  const CudaReport cuda = ExamineCuda();
  if (!cuda.built) return {"cuda backend", Verdict::kAbsent, "not in this program: built without a CUDA toolkit", ""};
  std::string value = "runtime " + VersionOf(cuda.runtime_version);
  if (cuda.driver_version > 0) value += ", driver for " + VersionOf(cuda.driver_version);
  for (const CudaDevice& d : cuda.devices)
    absl::StrAppendFormat(&value, "; %s: capability %d.%d, %d multiprocessors, %s", d.name, d.major, d.minor, d.multiprocessors,
                          HumanBytes(static_cast<double>(d.memory_bytes)));
  if (!cuda.problem.empty()) return {"cuda backend", Verdict::kAbsent, value + "; " + cuda.problem, ""};
  return {"cuda backend", Verdict::kGood, value, ""};
}

Finding Nccl() {
  const NcclReport nccl = ExamineNccl();
  if (!nccl.built) return {"nccl", Verdict::kAbsent, "not in this program: built without CUDA or NCCL", ""};
  const std::string built = "built with " + nccl.compiled;
  if (!nccl.problem.empty()) return {"nccl", Verdict::kAbsent, built + "; " + nccl.problem, ""};
  return {"nccl", Verdict::kGood, built + ", runs with " + nccl.loaded, ""};
}

Finding GpuAttention() {
  const CudaReport cuda = ExamineCuda();
  if (!cuda.built) return {"attention", Verdict::kAbsent, "not in this program: built without CUDA", ""};
  if (!cuda.cudnn_problem.empty())
    return {"attention", Verdict::kAbsent, cuda.cudnn_problem + "; without it attention on a GPU is slow", ""};
  return {"attention", Verdict::kGood, "by " + cuda::CudnnText(), ""};
}

// What the last line says.
std::string Conclusion(bool can_train) {
  if (!can_train) return "This machine cannot train yet: mend what is marked bad.";
  const CudaReport cuda = ExamineCuda();
  const std::string where = cuda.problem.empty() && !cuda.devices.empty()
                                ? absl::StrFormat("on the CPU and on %d GPU(s)", cuda.devices.size())
                                : "on the CPU";
  return absl::StrFormat("This machine can train %s. Start with ./launch/quickstart.sh", where);
}

void PrintFindings(const std::vector<Finding>& findings) {
  for (const Finding& f : findings) {
    WriteOut(absl::StrFormat("%-6s  %-13s  %s\n", NameOf(f.verdict), f.topic, f.value));
    if (!f.remedy.empty()) WriteOut(absl::StrFormat("%-6s  %-13s  -> %s\n", "", "", f.remedy));
  }
}

bool NoneBad(const std::vector<Finding>& findings) {
  return std::none_of(findings.begin(), findings.end(), [](const Finding& f) { return f.verdict == Verdict::kBad; });
}

void PrintTable(const std::vector<Finding>& findings, bool can_train) {
  WriteOut(VersionText() + "\n\n");
  PrintFindings(findings);
  WriteOut("\n" + Conclusion(can_train) + "\n");
}

void PrintJson(const std::vector<Finding>& findings, bool can_train) {
  nlohmann::ordered_json report = {{"can_train_on_cpu", can_train}, {"findings", nlohmann::ordered_json::array()}};
  for (const Finding& f : findings) {
    report["findings"].push_back({{"topic", f.topic}, {"verdict", NameOf(f.verdict)}, {"value", f.value}, {"remedy", f.remedy}});
  }
  WriteOut(report.dump(2) + "\n");
}

int RunOnHosts(const Options& options, const std::string& program) {
  const absl::StatusOr<HostReport> report = ExamineHosts(program, options.hosts, options.folders);
  if (!report.ok()) return Finish(report.status());
  const std::vector<Finding> findings = CompareHosts(*report);
  const bool alike = NoneBad(findings);
  if (options.json) {
    WriteOut(TextOf(*report) + "\n");
  } else {
    PrintFindings(findings);
    if (!report->pairs.empty()) WriteOut("\n" + PairTable(*report));
    WriteOut(absl::StrFormat("\n%d host(s): %s\n", report->hosts.size(),
                             alike ? "they can train together" : "mend what is marked bad before a job starts"));
  }
  return static_cast<int>(alike ? ExitCode::kOk : ExitCode::kFailure);
}

int Run(const Options& options) {
  if (options.check_ranks > 0) return CheckRanks(options.check_ranks);
  if (options.be_host) return BeHost(options.folders);
  const std::string program = std::filesystem::read_symlink("/proc/self/exe");
  if (!options.hosts.empty()) return RunOnHosts(options, program);
  std::vector<Finding> findings = ExamineMachine(program);
  findings.push_back(CudaBackend());
  findings.push_back(Nccl());
  findings.push_back(GpuAttention());
  const bool can_train = NoneBad(findings);
  (options.json ? PrintJson : PrintTable)(findings, can_train);
  return static_cast<int>(can_train ? ExitCode::kOk : ExitCode::kFailure);
}

}  // namespace

void RegisterDoctor(CLI::App& program, int* exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* command = AddCommand(
      program, "doctor",
      "what this machine, or each host of a job, has, what is missing, and the command that mends it. Exit codes: 0 all is "
      "well, 1 something is bad, a host differs, a pair is slow or a host cannot be reached, 2 command line or hostfile, 5 a "
      "host stopped answering",
      "jevons doctor\njevons doctor --json\njevons doctor --hosts hostfile --output /shared/run --data /shared/data");
  command->add_flag("--json", options->json, "print JSON");
  CLI::Option* hosts =
      command->add_option("--hosts", options->hosts,
                          "a hostfile of mpirun's: starts a rank on each host by mpirun, compares the hosts' programs, "
                          "libraries, clocks, GPUs and limits, and measures every pair");
  command->add_flag("--be-host", options->be_host, "be the rank of a host")->group("")->needs(hosts);
  for (CLI::Option* folder : {command->add_option("--output", options->folders.output,
                                                  "with --hosts: a folder that all hosts must share, for checkpoints"),
                              command->add_option("--data", options->folders.data,
                                                  "with --hosts: a prepared folder, which must be the same on all hosts")})
    folder->needs(hosts);
  command->add_option("--check-ranks", options->check_ranks, "be one rank of the MPI self-test")->group("");
  command->callback([options, exit_code] { *exit_code = Run(*options); });
}

}  // namespace jevons
