// jevons import: a published checkpoint becomes a run.
#include "trainer/interop/import.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "launch/cli.h"
#include "launch/commands.h"

namespace jevons {
namespace {

struct Options {
  std::string input, output;
};

// The path as a shell reads it back.
std::string Quoted(const std::string& path) {
  const auto plain = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || std::strchr("_@%+=:,./-", c) != nullptr;
  };
  if (!path.empty() && std::all_of(path.begin(), path.end(), plain)) return path;
  return absl::StrCat("'", absl::StrReplaceAll(path, {{"'", "'\\''"}}), "'");
}

absl::Status Import(const Options& options) {
  JEVONS_ASSIGN_OR_RETURN(const ImportReport report, ImportCheckpoint(PosixFileSystem(), options.input, options.output));
  WriteOut(absl::StrFormat(
      "%s: %s parameters from %d tensors%s. Look at it with `jevons inspect %s`; to train on, name your data as data.path "
      "in its config.textproto, then train with that file as --config and this folder as --output\n",
      options.output, HumanCount(static_cast<double>(report.parameters)), report.tensors,
      report.tokenizer ? "" : ", without a tokenizer", Quoted(options.output)));
  return absl::OkStatus();
}

}  // namespace

void RegisterImport(CLI::App& program, int* exit_code) {
  CLI::App* command =
      AddCommand(program, "import", "Makes a run from a published checkpoint (Hugging Face's layout, model_type deepseek_v3).",
                 "jevons import --input DeepSeek-V3 --output run");
  auto options = std::make_shared<Options>();
  command
      ->add_option("--input", options->input, "folder with config.json and *.safetensors in FP32, BF16, FP16 or block-scaled FP8")
      ->required();
  command->add_option("--output", options->output, "the run's folder, new or empty")->required();
  command->callback([options, exit_code] { *exit_code = Finish(Import(*options)); });
}

}  // namespace jevons
