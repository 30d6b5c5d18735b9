// jevons eval: the validation loss of a checkpoint.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "kernels/base/log.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/gpu.h"
#include "launch/run_checkpoint.h"
#include "launch/runtime.h"
#include "trainer/run/state.h"

namespace jevons {
namespace {

struct Options {
  CheckpointOptions checkpoint;
  int64_t sequences = 0;
  bool json = false;
};

// Tells how far it is and how long it will take, where it takes long.
std::function<void(int64_t, int64_t)> Progress() {
  using Clock = std::chrono::steady_clock;
  constexpr double kSecondsBetween = 10;
  return [begin = Clock::now(), told = 0.0](int64_t done, int64_t sequences) mutable {
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    if (seconds - told < kSecondsBetween || done == sequences) return;
    told = seconds;
    LogInfo(absl::StrFormat("%d of %d sequences, about %.0f s to go", done, sequences,
                            seconds * static_cast<double>(sequences - done) / static_cast<double>(done)));
  };
}

absl::Status Eval(const Options& options, Communicator& world) {
  JEVONS_ASSIGN_OR_RETURN(OpenedCheckpoint opened, OpenForUse(options.checkpoint, Needs::kValidation));
  JEVONS_ASSIGN_OR_RETURN(const ValidationSet validation, OpenValidation(opened.inputs));
  JEVONS_ASSIGN_OR_RETURN(const double bytes_per_token, ValidationBytesPerToken(opened.inputs));
  JEVONS_RETURN_IF_ERROR(OpenGpus(opened.inputs.config, world).status());
  SetThreads(opened.inputs.config, world);
  Mesh mesh(world, {.world = 1, .pp = 1, .ep = 1});
  TrainStep step(opened.inputs.config, mesh);
  JEVONS_RETURN_IF_ERROR(LoadWeights(opened.reader, step));
  const int64_t all = std::numeric_limits<int64_t>::max();
  const auto evaluated = step.Evaluate(validation, options.sequences > 0 ? options.sequences : all, Progress());
  JEVONS_RETURN_IF_ERROR(Annotate(evaluated.status(), opened.reader.path()));
  const TrainStep::Evaluation& result = *evaluated;
  const double bits = bytes_per_token > 0 ? result.loss / std::log(2.0) / bytes_per_token : 0;
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
                 "jevons eval --checkpoint run\njevons eval --checkpoint run/checkpoints/step-00000100 --sequences 64 --json");
  auto options = std::make_shared<Options>();
  AddCheckpointOptions(*command, options->checkpoint);
  command
      ->add_option("--sequences", options->sequences,
                   "validation sequences, at most, spread over the set; all of them if not given")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  command->add_flag("--json", options->json, "print one JSON object");
  command->callback(
      [options, exit_code] { *exit_code = RunOnOneRank("eval", [&](Communicator& world) { return Eval(*options, world); }); });
}

}  // namespace jevons
