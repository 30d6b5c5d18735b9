// jevons score: what a checkpoint makes of given tokens, file against file.
#include "trainer/run/score.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>

#include "absl/strings/str_format.h"
#include "launch/checkpoint_path.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/run_checkpoint.h"
#include "launch/runtime.h"
#include "trainer/run/state.h"

namespace jevons {
namespace {

struct Options {
  CheckpointOptions checkpoint;
  std::string tokens, output;
  ScoreOptions score;
};

absl::Status Score(const Options& options, Communicator& world) {
  FileSystem& files = PosixFileSystem();
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> existing, files.Stat(options.output));
  if (existing && existing->is_directory)
    return UsageError(absl::StrFormat("--output %s: there is a folder of that name; name a file", options.output));
  std::error_code none;  // where there is no such file, nothing is overwritten
  if (std::filesystem::equivalent(options.tokens, options.output, none))
    return UsageError(absl::StrFormat("--output %s: that is the file of --tokens; name another", options.output));
  JEVONS_ASSIGN_OR_RETURN(CheckpointReader reader, OpenCheckpointAt(files, options.checkpoint.path));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig own, StageConfigOf(reader));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig config, ConfigForOneRank(own, reader, options.checkpoint.overrides));
  if (config.model().vocab_size() == 0)
    return UsageError(
        absl::StrFormat("model.vocab_size = 0: the checkpoint %s has another; leave --set model.vocab_size away", reader.path()));
  JEVONS_ASSIGN_OR_RETURN(const TokenTable tokens, ReadTokens(files, options.tokens, config.model().vocab_size()));
  SetThreads(config, world);
  JEVONS_ASSIGN_OR_RETURN(const auto scorer, Scorer::Create(config, tokens, options.score, world));
  JEVONS_RETURN_IF_ERROR(LoadWeights(reader, scorer->weights()));
  JEVONS_ASSIGN_OR_RETURN(const double loss, scorer->Write(files, options.output));
  WriteOut(absl::StrFormat("%s: loss %.6f nats per token (perplexity %.4f) over %d sequences of %d tokens\n", options.output,
                           loss, std::exp(loss), tokens.sequences, tokens.length));
  return absl::OkStatus();
}

}  // namespace

void RegisterScore(CLI::App& program, int* exit_code) {
  CLI::App* command =
      AddCommand(program, "score", "Log-probabilities of given tokens; on request logits and gradients.",
                 "jevons score --checkpoint run --tokens tokens.safetensors --output scores.safetensors --logits");
  auto options = std::make_shared<Options>();
  AddCheckpointOptions(*command, options->checkpoint);
  command->add_option("--tokens", options->tokens, "safetensors with input_ids, I64 [sequences, tokens]")->required();
  command->add_option("--output", options->output, "safetensors to write: logprobs, loss and what follows")->required();
  command->add_flag("--logits", options->score.logits, "add logits [sequences, tokens, vocabulary]");
  command->add_flag("--gradients", options->score.gradients, "add grad.NAME, the loss's derivative by every parameter");
  command->add_flag("--mtp", options->score.mtp, "add mtp_logits.K, the logits of each module of multi-token prediction");
  command->callback(
      [options, exit_code] { *exit_code = RunOnOneRank("score", [&](Communicator& world) { return Score(*options, world); }); });
}

}  // namespace jevons
