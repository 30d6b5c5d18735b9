// jevons help and jevons version: what --help and --version say, as commands.
#include <CLI/CLI.hpp>
#include <memory>

#include "absl/strings/str_format.h"
#include "configs/nearest.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/version.h"

namespace jevons {
namespace {

absl::Status Help(const CLI::App& program, const std::vector<std::string>& path) {
  const CLI::App* app = &program;
  std::string name = program.get_name();
  for (const std::string& wanted : path) {
    const CLI::App* found = nullptr;
    std::vector<std::string> names;
    for (const CLI::App* command : app->get_subcommands([](const CLI::App*) { return true; })) {
      names.push_back(command->get_name());
      if (command->get_name() == wanted) found = command;
    }
    if (found == nullptr) {
      const std::string nearest = NearestName(wanted, names);
      return UsageError(absl::StrFormat("%s: unknown command%s", wanted,
                                        nearest.empty() ? "; `jevons help` lists them" : "; did you mean " + nearest + "?"));
    }
    app = found;
    name += " " + wanted;
  }
  WriteOut(app->get_formatter()->make_help(app, name, CLI::AppFormatMode::Normal));
  return absl::OkStatus();
}

}  // namespace

void RegisterHelp(CLI::App& program, int* exit_code) {
  CLI::App* help = AddCommand(program, "help", "What a command does: its examples and options.",
                              "jevons help\njevons help train\njevons help bench step");
  auto path = std::make_shared<std::vector<std::string>>();
  help->add_option("COMMAND", *path, "the command; none: the program");
  help->callback([&program, path, exit_code] { *exit_code = Finish(Help(program, *path)); });
  CLI::App* version =
      AddCommand(program, "version", "Version, revision, compiler, kernels, MPI and CUDA of this program.", "jevons version");
  version->callback([exit_code] {
    WriteOut(FullVersionText() + "\n");
    *exit_code = 0;
  });
}

}  // namespace jevons
