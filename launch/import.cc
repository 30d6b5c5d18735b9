// jevons import: a published checkpoint becomes a run.
#include "trainer/interop/import.h"

#include <CLI/CLI.hpp>
#include <memory>

#include "absl/strings/str_format.h"
#include "launch/cli.h"
#include "launch/commands.h"

namespace jevons {
namespace {

struct Options {
  std::string input, output;
};

absl::Status Import(const Options& options) {
  JEVONS_ASSIGN_OR_RETURN(const ImportReport report, ImportCheckpoint(PosixFileSystem(), options.input, options.output));
  WriteOut(absl::StrFormat("%s: %s parameters from %d tensors%s; go on with `jevons train --config %s/config.textproto --output %s`\n",
                           options.output, HumanCount(static_cast<double>(report.parameters)), report.tensors,
                           report.tokenizer ? "" : ", without a tokenizer", options.output, options.output));
  return absl::OkStatus();
}

}  // namespace

void RegisterImport(CLI::App& program, int* exit_code) {
  CLI::App* command = AddCommand(program, "import", "Makes a run from a published checkpoint (Hugging Face's layout, model_type deepseek_v3).",
                                 "jevons import --input DeepSeek-V3 --output run");
  auto options = std::make_shared<Options>();
  command->add_option("--input", options->input, "folder with config.json and *.safetensors in FP32, BF16 or block-scaled FP8")->required();
  command->add_option("--output", options->output, "the run's folder, new or empty")->required();
  command->callback([options, exit_code] { *exit_code = Finish(Import(*options)); });
}

}  // namespace jevons
