// jevons doctor: what this machine has, what is missing, and the command that mends it.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "kernels/cuda/report.h"
#include "kernels/tensor/device.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/machine.h"
#include "launch/version.h"
#include "parallel/comm/nccl.h"

namespace jevons {
namespace {

struct Options {
  bool json = false;
  int check_ranks = 0;
};

const char* NameOf(Verdict verdict) {
  switch (verdict) {
    case Verdict::kGood:
      return "ok";
    case Verdict::kAbsent:
      return "absent";
    case Verdict::kBad:
      return "bad";
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
    absl::StrAppendFormat(&value, "; %s: capability %d.%d, %d multiprocessors, %s", d.name, d.major, d.minor,
                          d.multiprocessors, HumanBytes(static_cast<double>(d.memory_bytes)));
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

void PrintTable(const std::vector<Finding>& findings, bool can_train) {
  WriteOut(VersionText() + "\n\n");
  for (const Finding& f : findings) {
    WriteOut(absl::StrFormat("%-6s  %-13s  %s\n", NameOf(f.verdict), f.topic, f.value));
    if (!f.remedy.empty()) WriteOut(absl::StrFormat("%-6s  %-13s  -> %s\n", "", "", f.remedy));
  }
  WriteOut("\n" + Conclusion(can_train) + "\n");
}

void PrintJson(const std::vector<Finding>& findings, bool can_train) {
  nlohmann::ordered_json report = {{"can_train_on_cpu", can_train},
                                   {"findings", nlohmann::ordered_json::array()}};
  for (const Finding& f : findings) {
    report["findings"].push_back(
        {{"topic", f.topic}, {"verdict", NameOf(f.verdict)}, {"value", f.value}, {"remedy", f.remedy}});
  }
  WriteOut(report.dump(2) + "\n");
}

int Run(const Options& options) {
  if (options.check_ranks > 0) return CheckRanks(options.check_ranks);
  std::vector<Finding> findings = ExamineMachine(std::filesystem::read_symlink("/proc/self/exe"));
  findings.push_back(CudaBackend());
  findings.push_back(Nccl());
  findings.push_back(GpuAttention());
  bool can_train = true;
  for (const Finding& f : findings) can_train &= f.verdict != Verdict::kBad;
  (options.json ? PrintJson : PrintTable)(findings, can_train);
  return static_cast<int>(can_train ? ExitCode::kOk : ExitCode::kFailure);
}

}  // namespace

void RegisterDoctor(CLI::App& program, int* exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      AddCommand(program, "doctor", "what this machine has, what is missing, and the command that mends it",
                 "jevons doctor\njevons doctor --json");
  command->add_flag("--json", options->json, "print JSON");
  command->add_option("--check-ranks", options->check_ranks, "be one rank of the MPI self-test")->group("");
  command->callback([options, exit_code] { *exit_code = Run(*options); });
}

}  // namespace jevons
