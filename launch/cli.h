// What the subcommands share: how a command is declared, how it reports an error, how it writes its result.
//
//   CLI::App* command = AddCommand(program, "eval", "validation loss of a checkpoint",
//                                  "jevons eval --checkpoint run");
//   command->callback([exit_code] { *exit_code = Finish(Run()); });
#ifndef JEVONS_LAUNCH_CLI_H_
#define JEVONS_LAUNCH_CLI_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "kernels/base/status.h"

namespace CLI {
class App;
class Option;
class ParseError;
}  // namespace CLI

namespace jevons {

// Adds a subcommand. Its --help begins with `examples` (one command a line), then `summary`, then options.
CLI::App* AddCommand(CLI::App& program, const std::string& name, const std::string& summary, const std::string& examples);

// --config FILE and --set path=value (repeatable), the two ways to say what a run is.
struct ConfigOptions {
  std::string path;
  std::vector<std::string> overrides;
};
void AddConfigOptions(CLI::App& command, ConfigOptions& options, bool required);

// --checkpoint RUN and --set path=value, for commands that use a trained model.
struct CheckpointOptions {
  std::string path;
  std::vector<std::string> overrides;
  bool ema = false;
};
void AddCheckpointOptions(CLI::App& command, CheckpointOptions& options);
void AddEma(CLI::App& command, CheckpointOptions& options);  // of them, --ema alone

// --seed, with its default.
CLI::Option* AddSeed(CLI::App& command, uint64_t& seed, const std::string& description);

// An option that takes one value and may be given several times.
CLI::Option* AddRepeatable(CLI::App& command, const std::string& name, std::vector<std::string>& values,
                           const std::string& description);

// The exit code of `status`; where it is an error, "error: message" goes to stderr first.
int Finish(const absl::Status& status);

// Prints on stderr what is wrong with a command line, and the nearest legal name where one is near.
// Returns kUsage.
int ReportParseError(const CLI::App& program, const CLI::ParseError& error);

// Writes a result to stdout, the only place where data goes.
void WriteOut(absl::string_view text);

// Writes a part of a result at once, for results that come bit by bit; false where it could not be written (a reader that left, a
// full disk): FlushOut says so at the end.
bool StreamOut(absl::string_view text);

// Writes a file that the user named; a failure names it.
absl::Status WriteFile(const std::string& path, absl::string_view text);

// Flushes stdout at the program's end. A reader that left early (`| head`) is no error; a full disk is one.
int FlushOut(int exit_code);

// Three significant decimals with a decimal prefix: HumanCount(671026419200) is "671.03B"; K, M, B, T.
std::string HumanCount(double value);
// Binary: HumanBytes(4613734) is "4.4 MiB".
std::string HumanBytes(double bytes);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_CLI_H_
