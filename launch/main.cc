// jevons: one program, one subcommand per task. Data goes to stdout, everything else to stderr.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>

#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/version.h"

namespace {

constexpr char kExamples[] = R"(Example:
  jevons prepare --input corpus.txt --output runs/data --vocab-size 2048
  mpirun -np 4 jevons train --config configs/presets/quickstart_cpu.textproto --set data.path=runs/data --output run
  jevons generate --checkpoint run --prompt "In the beginning"

Trains DeepSeek-V3-class mixture-of-experts language models.
)";

constexpr char kExitCodes[] = R"(`jevons help COMMAND` says more. Exit codes:
  0 done                       4 NaN or Inf in a loss or gradient, a spike, or a machine that computes other bits
  1 failure                    5 a rank hangs or died
  2 command line or config    75 stopped by a signal with a committed checkpoint: run the same command again
  3 data or checkpoint damaged, missing, or not what the config says)";

int Run(int argc, char** argv) {
  int exit_code = 0;
  CLI::App program(kExamples, "jevons");
  program.set_version_flag("--version", jevons::FullVersionText(), "what `jevons version` says");
  program.require_subcommand(1);
  jevons::RegisterPrepare(program, &exit_code);
  jevons::RegisterTrain(program, &exit_code);
  jevons::RegisterSupervise(program, &exit_code);
  jevons::RegisterStatus(program, &exit_code);
  jevons::RegisterLadder(program, &exit_code);
  jevons::RegisterReplay(program, &exit_code);
  jevons::RegisterCompare(program, &exit_code);
  jevons::RegisterReport(program, &exit_code);
  jevons::RegisterEval(program, &exit_code);
  jevons::RegisterGenerate(program, &exit_code);
  jevons::RegisterScore(program, &exit_code);
  jevons::RegisterExport(program, &exit_code);
  jevons::RegisterVerifyExport(program, &exit_code);
  jevons::RegisterImport(program, &exit_code);
  jevons::RegisterInspect(program, &exit_code);
  jevons::RegisterPlan(program, &exit_code);
  jevons::RegisterTokenize(program, &exit_code);
  jevons::RegisterBench(program, &exit_code);
  jevons::RegisterDoctor(program, &exit_code);
  jevons::RegisterHelp(program, &exit_code);
  program.footer(kExitCodes);  // after the subcommands, which would inherit it
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return program.exit(error);  // --help and --version
    return jevons::ReportParseError(program, error);
  }
  return exit_code;
}

// OpenMP's threads wait for work by spinning. Where ranks or other programs share the cores that costs a hundred times the
// work itself, so let them sleep after some microseconds. The runtime reads this once, when it is loaded: hence the restart.
void LimitSpinning(char** argv) {
  if (getenv("OMP_WAIT_POLICY") != nullptr || getenv("GOMP_SPINCOUNT") != nullptr) return;
  setenv("GOMP_SPINCOUNT", "10000", 1);
  execv("/proc/self/exe", argv);
}

}  // namespace

int main(int argc, char** argv) {
  LimitSpinning(argv);
  // Where standard input is closed, the next file to be opened, a pipe of MPI's for instance, would take its place.
  if (fcntl(STDIN_FILENO, F_GETFD) == -1) open("/dev/null", O_RDONLY);
  // A reader of our output that goes away must not end a training run; FlushOut tells a closed pipe from a
  // full disk.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a file at its limit is a write error, which says which file
  return jevons::FlushOut(Run(argc, argv));
}
