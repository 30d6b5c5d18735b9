// jevons export: a checkpoint in the published layout.
#include "trainer/interop/export.h"

#include <CLI/CLI.hpp>
#include <memory>

#include "absl/strings/str_format.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/run_checkpoint.h"

namespace jevons {
namespace {

struct Options {
  CheckpointOptions checkpoint;
  std::string output, precision;
};

HfPrecision PrecisionOf(const Options& options, const RunConfig& config) {
  if (options.precision == "fp8") return HfPrecision::kFp8;
  if (options.precision == "bf16") return HfPrecision::kBf16;
  if (options.precision == "fp32") return HfPrecision::kFp32;
  return config.precision().compute() == FP32 ? HfPrecision::kFp32 : HfPrecision::kBf16;
}

absl::Status Export(const Options& options) {
  JEVONS_ASSIGN_OR_RETURN(OpenedCheckpoint opened, OpenForUse(options.checkpoint, Needs::kModel));
  const RunConfig& config = opened.inputs.config;
  JEVONS_ASSIGN_OR_RETURN(const ExportReport report, ExportCheckpoint(PosixFileSystem(), opened.reader, config,
                                                                      {.output = options.output,
                                                                       .precision = PrecisionOf(options, config),
                                                                       .tokenizer = opened.inputs.tokenizer_path}));
  WriteOut(absl::StrFormat("%s: %d tensors, %s in %d file%s%s\n", options.output, report.tensors,
                           HumanBytes(static_cast<double>(report.bytes)), report.shards, report.shards == 1 ? "" : "s",
                           opened.inputs.tokenizer_path.empty() ? ", without a tokenizer" : ""));
  return absl::OkStatus();
}

}  // namespace

void RegisterExport(CLI::App& program, int* exit_code) {
  CLI::App* command =
      AddCommand(program, "export", "Writes a checkpoint in Hugging Face's layout: for transformers, vLLM, evaluation.",
                 "jevons export --checkpoint run --output model --precision bf16");
  auto options = std::make_shared<Options>();
  AddCheckpointOptions(*command, options->checkpoint);
  command->add_option("--output", options->output, "folder to make, new or empty")->required();
  command
      ->add_option("--precision", options->precision,
                   "bf16, fp8 (weights in blocks of 128x128) or fp32; if not given, what the run computed in")
      ->check(CLI::IsMember({"bf16", "fp8", "fp32"}));
  command->callback([options, exit_code] { *exit_code = Finish(Export(*options)); });
}

}  // namespace jevons
