// jevons doctor: what this machine has, what is missing, and the command that mends it.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/machine.h"
#include "launch/version.h"

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

void PrintTable(const std::vector<Finding>& findings, bool can_train) {
  WriteOut(VersionText() + "\n\n");
  for (const Finding& f : findings) {
    WriteOut(absl::StrFormat("%-6s  %-13s  %s\n", NameOf(f.verdict), f.topic, f.value));
    if (!f.remedy.empty()) WriteOut(absl::StrFormat("%-6s  %-13s  -> %s\n", "", "", f.remedy));
  }
  WriteOut(can_train ? "\nThis machine can train on the CPU. Start with ./launch/quickstart.sh\n"
                     : "\nThis machine cannot train yet: mend what is marked bad.\n");
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
  const std::vector<Finding> findings = ExamineMachine(std::filesystem::read_symlink("/proc/self/exe"));
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
