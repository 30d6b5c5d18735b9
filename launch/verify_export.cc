// jevons verify-export: whether a published folder holds exactly what a checkpoint does.
#include "trainer/interop/verify_export.h"

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
  std::string folder;
};

const char* NameOf(HfPrecision precision) {
  switch (precision) {
    case HfPrecision::kFp32: return "fp32";
    case HfPrecision::kBf16: return "bf16";
    case HfPrecision::kFp8: return "fp8";
  }
  return "";
}

absl::Status Verify(const Options& options) {
  JEVONS_ASSIGN_OR_RETURN(OpenedCheckpoint opened, OpenForUse(options.checkpoint, Needs::kModel));
  JEVONS_ASSIGN_OR_RETURN(const VerifyExportReport report, VerifyExport(PosixFileSystem(), opened.reader, opened.inputs.config,
                                                                        opened.inputs.tokenizer_path, options.folder));
  WriteOut(absl::StrFormat("%s: all %d tensors (%s, %s) are those of %s, bit for bit, and no other tensor is there\n",
                           options.folder, report.tensors, NameOf(report.precision),
                           HumanBytes(static_cast<double>(report.bytes)), opened.reader.path()));
  return absl::OkStatus();
}

}  // namespace

void RegisterVerifyExport(CLI::App& program, int* exit_code) {
  CLI::App* command = AddCommand(
      program, "verify-export",
      "Proves tensor by tensor that an exported folder holds exactly what the checkpoint does; reads both, writes nothing.",
      "jevons verify-export run model");
  auto options = std::make_shared<Options>();
  command->add_option("RUN", options->checkpoint.path, "a run, or one of its checkpoints")->required();
  command->add_option("FOLDER", options->folder, "what `jevons export` has written of it, in any precision")->required();
  command->add_option("--set", options->checkpoint.overrides,
                      "path=value: overrides a field of the checkpoint's config, as at the export");
  AddEma(*command, options->checkpoint);
  command->callback([options, exit_code] { *exit_code = Finish(Verify(*options)); });
}

}  // namespace jevons
