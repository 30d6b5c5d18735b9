// The subcommands of `jevons`. Each function adds one to the program: its options, its help (which begins
// with an example) and a callback that does the work and stores the exit code (ExitCode of
// kernels/base/status.h). One file per subcommand, named after it, and thin: the work is in the libraries.
#ifndef JEVONS_LAUNCH_COMMANDS_H_
#define JEVONS_LAUNCH_COMMANDS_H_

namespace CLI {
class App;
}

namespace jevons {

void RegisterPrepare(CLI::App& program, int* exit_code);
void RegisterTrain(CLI::App& program, int* exit_code);
void RegisterSupervise(CLI::App& program, int* exit_code);
void RegisterStatus(CLI::App& program, int* exit_code);
void RegisterLadder(CLI::App& program, int* exit_code);
void RegisterReplay(CLI::App& program, int* exit_code);
void RegisterCompare(CLI::App& program, int* exit_code);
void RegisterReport(CLI::App& program, int* exit_code);
void RegisterEval(CLI::App& program, int* exit_code);
void RegisterGenerate(CLI::App& program, int* exit_code);
void RegisterScore(CLI::App& program, int* exit_code);
void RegisterExport(CLI::App& program, int* exit_code);
void RegisterVerifyExport(CLI::App& program, int* exit_code);
void RegisterImport(CLI::App& program, int* exit_code);
void RegisterInspect(CLI::App& program, int* exit_code);
void RegisterPlan(CLI::App& program, int* exit_code);
void RegisterTokenize(CLI::App& program, int* exit_code);
void RegisterBench(CLI::App& program, int* exit_code);
void RegisterDoctor(CLI::App& program, int* exit_code);
void RegisterHelp(CLI::App& program, int* exit_code);  // and version

}  // namespace jevons

#endif  // JEVONS_LAUNCH_COMMANDS_H_
