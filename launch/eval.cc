// jevons eval: the validation loss of a checkpoint.
#include <CLI/CLI.hpp>
#include <cmath>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/run_checkpoint.h"
#include "launch/runtime.h"
#include "trainer/checkpoint/agreement.h"

namespace jevons {
namespace {

struct Options {
  CheckpointOptions checkpoint;
  int64_t sequences = 0;
  bool json = false;
};

absl::Status Eval(const Options& options, Communicator& host) {
  absl::StatusOr<OpenedCheckpoint> found = OpenForUse(options.checkpoint, Needs::kValidation, host.size());
  JEVONS_RETURN_IF_ERROR(found.ok() ? AgreeOnCommand(host, found->inputs.config, {{"--checkpoint", found->reader.path()}})
                                    : AgreeOnCommand(host, found.status()));
  OpenedCheckpoint& opened = *found;
  const absl::StatusOr<ValidationSet> set = OpenValidation(opened.inputs);
  JEVONS_RETURN_IF_ERROR(AgreeOnStatus(host, set.status()));
  const absl::StatusOr<double> bytes = ValidationBytesPerToken(opened.inputs);
  JEVONS_RETURN_IF_ERROR(AgreeOnStatus(host, bytes.status()));
  JEVONS_ASSIGN_OR_RETURN(const LoadedStep loaded, LoadStep(opened.reader, opened.inputs.config, host));
  const int64_t all = std::numeric_limits<int64_t>::max();
  const auto evaluated = loaded.step->Evaluate(*set, options.sequences > 0 ? options.sequences : all, TellProgress());
  JEVONS_RETURN_IF_ERROR(Annotate(evaluated.status(), opened.reader.path()));
  const TrainStep::Evaluation& result = *evaluated;
  if (host.rank() != 0) return absl::OkStatus();
  const double bits = *bytes > 0 ? result.loss / std::log(2.0) / *bytes : 0;
  if (options.json) {
    const nlohmann::ordered_json json = {
        {"checkpoint", opened.reader.path()},  {"step", opened.reader.step()}, {"validation_loss", result.loss},
        {"perplexity", std::exp(result.loss)}, {"bits_per_byte", bits},        {"tokens", result.tokens}};
    WriteOut(json.dump(2) + "\n");
    return absl::OkStatus();
  }
  WriteOut(absl::StrFormat("step %d: validation loss %.4f nats per token (perplexity %.2f), %.4f bits per byte, %d tokens\n",
                           opened.reader.step(), result.loss, std::exp(result.loss), bits, result.tokens));
  return absl::OkStatus();
}

}  // namespace

void RegisterEval(CLI::App& program, int* exit_code) {
  CLI::App* command =
      AddCommand(program, "eval", "Validation loss and bits per byte of a checkpoint.",
                 "jevons eval --checkpoint run\njevons eval --checkpoint run/checkpoints/step-00000100 --sequences 64 --json\n"
                 "mpirun -np 4 jevons eval --checkpoint run");
  auto options = std::make_shared<Options>();
  AddCheckpointOptions(*command, options->checkpoint);
  command
      ->add_option("--sequences", options->sequences,
                   "validation sequences, at most, spread over the set; all of them if not given")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  command->add_flag("--json", options->json, "print one JSON object");
  command->callback(
      [options, exit_code] { *exit_code = RunOnRanks([&](Communicator& world) { return Eval(*options, world); }); });
}

}  // namespace jevons
