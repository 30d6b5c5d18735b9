#include "launch/cli.h"

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "configs/nearest.h"
#include "launch/data_files.h"

namespace jevons {
namespace {

int write_error = 0;  // errno of the last write to stdout that failed

// CLI11's help with the examples put before it.
class HelpWithExamples : public CLI::Formatter {
 public:
  explicit HelpWithExamples(std::string examples) : examples_(std::move(examples)) {}

  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
    return absl::StrCat("Example:\n  ", absl::StrReplaceAll(examples_, {{"\n", "\n  "}}), "\n\n",
                        CLI::Formatter::make_help(app, std::move(name), mode));
  }

 private:
  std::string examples_;
};

// The subcommand that the command line reached, or the program itself.
const CLI::App* Reached(const CLI::App& program) {
  const CLI::App* app = &program;
  // What a prefix takes is another program's to judge.
  while (!app->get_subcommands().empty() && !app->get_subcommands().back()->get_prefix_command())
    app = app->get_subcommands().back();
  return app;
}

std::vector<std::string> LegalNames(const CLI::App& app, bool flags) {
  std::vector<std::string> names;
  if (flags) {
    for (const CLI::Option* option : app.get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
  } else {
    for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
      names.push_back(command->get_name());
    }
  }
  return names;
}

std::string UnexpectedArgument(const CLI::App& app, const std::string& argument) {
  const bool flag = absl::string_view(argument).substr(0, 1) == "-";
  const std::string given = argument.substr(0, argument.find('='));
  const bool command = !flag && !LegalNames(app, /*flags=*/false).empty();
  std::string message = absl::StrFormat("%s: unknown %s", given, flag ? "flag" : command ? "command" : "argument");
  const std::string nearest = NearestName(given, LegalNames(app, flag));
  if (!nearest.empty()) absl::StrAppend(&message, "; did you mean ", nearest, "?");
  return message;
}

}  // namespace

CLI::App* AddCommand(CLI::App& program, const std::string& name, const std::string& summary, const std::string& examples) {
  CLI::App* command = program.add_subcommand(name, summary);
  command->formatter(std::make_shared<HelpWithExamples>(examples));
  return command;
}

void AddConfigOptions(CLI::App& command, ConfigOptions& options, bool required) {
  command.add_option("--config", options.path, "the run, a text-format file (see configs/run.proto and configs/presets)")
      ->type_name("FILE")
      ->transform(FindFile)
      ->required(required);
  AddRepeatable(command, "--set", options.overrides,
                "change one field of it, e.g. model.layers=8; may be repeated (`jevons inspect --fields` lists all)")
      ->type_name("PATH=VALUE");
}

void AddCheckpointOptions(CLI::App& command, CheckpointOptions& options) {
  command.add_option("--checkpoint", options.path, "a run (its newest checkpoint), or one of its checkpoints")
      ->type_name("RUN")
      ->required();
  AddRepeatable(command, "--set", options.overrides, "change one field of the checkpoint's config; may be repeated")
      ->type_name("PATH=VALUE");
  AddEma(command, options);
}

void AddEma(CLI::App& command, CheckpointOptions& options) {
  command.add_flag("--ema", options.ema,
                   "the moving average of the weights in place of the weights; of a run with optimizer.ema_decay");
}

CLI::Option* AddSeed(CLI::App& command, uint64_t& seed, const std::string& description) {
  return command.add_option("--seed", seed, description)
      ->check([](const std::string& text) {  // CLI11 takes -1 for 2^64 - 1
        return text.find('-') == std::string::npos ? "" : absl::StrFormat("%s is not a whole number from 0 to 2^64-1", text);
      })
      ->capture_default_str();
}

CLI::Option* AddRepeatable(CLI::App& command, const std::string& name, std::vector<std::string>& values,
                           const std::string& description) {
  return command.add_option(name, values, description)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false);
}

int Finish(const absl::Status& status) {
  if (!status.ok()) absl::FPrintF(stderr, "error: %s\n", std::string(status.message()));
  return static_cast<int>(ExitCodeOf(status));
}

int ReportParseError(const CLI::App& program, const CLI::ParseError& error) {
  const CLI::App* app = Reached(program);
  const std::vector<std::string> unexpected = program.remaining(true);
  // A misspelt flag often shows as another that is missing, so the misspelling is named first.
  std::string what = unexpected.empty() ? error.what() : UnexpectedArgument(*app, unexpected.front());
  if (const size_t at = what.find("At Most 1 required but received"); at != std::string::npos)
    what = what.substr(0, at) + "given more than once";
  std::string command = app->get_name();
  while ((app = app->get_parent()) != nullptr) command = app->get_name() + " " + command;
  absl::FPrintF(stderr, "error: %s\n`%s --help` shows what there is.\n", what, command);
  return static_cast<int>(ExitCode::kUsage);
}

void WriteOut(absl::string_view text) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) write_error = errno;
}

bool StreamOut(absl::string_view text) {
  WriteOut(text);
  errno = 0;
  if (std::fflush(stdout) != 0) write_error = errno;
  return write_error == 0;
}

absl::Status WriteFile(const std::string& path, absl::string_view text) {
  std::ofstream file(path, std::ios::binary);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.close();
  return file ? absl::OkStatus() : FailureError(absl::StrFormat("%s: cannot be written; look at the folder and the disk", path));
}

int FlushOut(int exit_code) {
  errno = 0;
  if (std::fflush(stdout) != 0) write_error = errno;
  if (write_error == 0 || write_error == EPIPE || exit_code != 0) return exit_code;
  absl::FPrintF(stderr, "error: standard output: cannot write: %s\n", std::strerror(write_error));
  return static_cast<int>(ExitCode::kFailure);
}

std::string HumanCount(double value) {
  static constexpr const char* kPrefixes[] = {"", "K", "M", "B", "T"};
  int prefix = 0;
  for (; value >= 1000 && prefix < 4; ++prefix) value /= 1000;
  return prefix == 0 ? absl::StrFormat("%g", value) : absl::StrFormat("%.2f%s", value, kPrefixes[prefix]);
}

std::string HumanBytes(double bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  for (; bytes >= 1024 && unit < 4; ++unit) bytes /= 1024;
  return absl::StrFormat("%.*f %s", unit == 0 ? 0 : 1, bytes, kUnits[unit]);
}

}  // namespace jevons
