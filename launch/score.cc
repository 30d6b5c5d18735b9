// jevons score: what a checkpoint makes of given tokens, file against file, or of texts that might go on from others.
#include "trainer/run/score.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/log.h"
#include "launch/checkpoint_path.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/run_checkpoint.h"
#include "launch/runtime.h"
#include "nlohmann/json.hpp"
#include "parallel/hash.h"
#include "trainer/checkpoint/agreement.h"
#include "trainer/run/score_requests.h"
#include "trainer/run/state.h"

namespace jevons {
namespace {

constexpr int64_t kMostRequestBytes = int64_t{4} << 30;

constexpr char kExamples[] =
    "jevons score --checkpoint run --tokens tokens.safetensors --output scores.safetensors --logits\n"
    "mpirun -np 4 jevons score --checkpoint run --jsonl requests.jsonl > scores.jsonl\n"
    "jevons score --checkpoint run --task next_line.jsonl --task word_order.jsonl";

struct Options {
  CheckpointOptions checkpoint;
  std::string tokens, jsonl, output;
  std::vector<std::string> tasks;
  bool json = false;
  ScoreOptions score;
};

absl::Status CheckOutput(const Options& options) {
  if (options.output.empty()) return absl::OkStatus();
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> existing, PosixFileSystem().Stat(options.output));
  if (existing && existing->is_directory)
    return UsageError(absl::StrFormat("--output %s: there is a folder of that name; name a file", options.output));
  std::error_code none;  // where there is no such file, nothing is overwritten
  for (const auto& [flag, input] : {std::pair{"--tokens", options.tokens}, {"--jsonl", options.jsonl}})
    if (std::filesystem::equivalent(input, options.output, none))
      return UsageError(absl::StrFormat("--output %s: that is the file of %s; name another", options.output, flag));
  return absl::OkStatus();
}

absl::Status CheckOptions(const Options& options, int ranks) {
  const size_t inputs = size_t{!options.tokens.empty()} + size_t{!options.jsonl.empty()} + size_t{!options.tasks.empty()};
  if (inputs != 1) return UsageError("name what is to be scored: one of --tokens, --jsonl and --task");
  if (!options.tokens.empty() && options.output.empty()) return UsageError("--output is not given: name the file to write");
  if (!options.tasks.empty() && !options.output.empty())
    return UsageError("--output: results of tasks go to standard output; leave it out");
  if (options.score.any() && options.tokens.empty()) return UsageError("--logits, --gradients and --mtp are of --tokens");
  if (options.score.any() && ranks > 1)
    return UsageError("--logits, --gradients and --mtp are computed on one rank: start without mpirun, or leave them out");
  if (options.json && options.tasks.empty()) return UsageError("--json is of --task");
  return CheckOutput(options);
}

std::string HashText(std::span<const std::byte> bytes) { return absl::StrFormat("%016x", HashOf({}, bytes)); }

struct TokensToScore {
  CheckpointReader reader;
  RunConfig config;
  TokenTable tokens;
};

absl::StatusOr<TokensToScore> OpenTokens(const Options& options, int ranks) {
  JEVONS_RETURN_IF_ERROR(CheckOptions(options, ranks));
  JEVONS_ASSIGN_OR_RETURN(CheckpointReader reader, OpenCheckpointAt(PosixFileSystem(), options.checkpoint.path));
  if (options.checkpoint.ema) JEVONS_RETURN_IF_ERROR(UseAverage(reader));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig own, StageConfigOf(reader));
  JEVONS_ASSIGN_OR_RETURN(RunConfig config, ConfigForRanks(own, NameOfConfig(reader), options.checkpoint.overrides, ranks));
  if (config.model().vocab_size() == 0)
    return UsageError(
        absl::StrFormat("model.vocab_size = 0: the checkpoint %s has another; leave --set model.vocab_size away", reader.path()));
  JEVONS_ASSIGN_OR_RETURN(TokenTable tokens, ReadTokens(PosixFileSystem(), options.tokens, config.model().vocab_size()));
  if (!options.score.any()) {
    JEVONS_ASSIGN_OR_RETURN(config, ConfigForScores(config, tokens.length));
  }
  return TokensToScore{std::move(reader), std::move(config), std::move(tokens)};
}

absl::StatusOr<double> LookInto(const Options& options, TokensToScore& opened, Communicator& world) {
  SetThreads(opened.config, world);
  JEVONS_ASSIGN_OR_RETURN(const auto scorer, Scorer::Create(opened.config, opened.tokens, options.score, world));
  JEVONS_RETURN_IF_ERROR(LoadWeights(opened.reader, scorer->weights()));
  return scorer->Write(PosixFileSystem(), options.output);
}

absl::StatusOr<double> ScoreAll(const Options& options, TokensToScore& opened, Communicator& host) {
  JEVONS_ASSIGN_OR_RETURN(const LoadedStep loaded, LoadStep(opened.reader, opened.config, host));
  JEVONS_ASSIGN_OR_RETURN(const auto scores, loaded.step->Score(SequencesOf(opened.tokens), TellProgress()));
  const absl::StatusOr<double> loss =
      host.rank() == 0 ? WriteLogprobs(PosixFileSystem(), options.output, opened.tokens, scores) : absl::StatusOr<double>(0.0);
  JEVONS_RETURN_IF_ERROR(AgreeOnStatus(host, loss.status()));
  return loss;
}

absl::Status ScoreTokens(const Options& options, Communicator& host) {
  absl::StatusOr<TokensToScore> opened = OpenTokens(options, host.size());
  JEVONS_RETURN_IF_ERROR(opened.ok()
                             ? AgreeOnCommand(host, opened->config,
                                              {{"--checkpoint", opened->reader.path()},
                                               {"hash of --tokens", HashText(std::as_bytes(std::span(opened->tokens.ids)))}})
                             : AgreeOnCommand(host, opened.status()));
  JEVONS_ASSIGN_OR_RETURN(const double loss,
                          options.score.any() ? LookInto(options, *opened, host) : ScoreAll(options, *opened, host));
  if (host.rank() == 0)
    WriteOut(absl::StrFormat("%s: loss %.6f nats per token (perplexity %.4f) over %d sequences of %d tokens\n", options.output,
                             loss, std::exp(loss), opened->tokens.sequences, opened->tokens.length));
  return absl::OkStatus();
}

struct TextFile {
  std::string path;
  std::vector<ScoreRequest> requests;
  EncodedRequests encoded;
};

struct TextsToScore {
  CheckpointReader reader;
  RunConfig config;
  std::vector<TextFile> files;
  std::string hash;  // of their bytes
};

absl::StatusOr<TextsToScore> OpenTexts(const Options& options, int ranks) {
  JEVONS_RETURN_IF_ERROR(CheckOptions(options, ranks));
  JEVONS_ASSIGN_OR_RETURN(OpenedCheckpoint opened, OpenForUse(options.checkpoint, Needs::kTokenizer, ranks));
  JEVONS_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(opened.inputs.tokenizer_path));
  const int64_t length = opened.inputs.config.data().sequence_length();
  JEVONS_ASSIGN_OR_RETURN(RunConfig config, ConfigForScores(opened.inputs.config, length));
  TextsToScore texts{std::move(opened.reader), std::move(config), {}, {}};
  const bool tasks = options.jsonl.empty();
  for (const std::string& path : tasks ? options.tasks : std::vector<std::string>{options.jsonl}) {
    JEVONS_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(PosixFileSystem(), path, kMostRequestBytes));
    JEVONS_ASSIGN_OR_RETURN(std::vector<ScoreRequest> requests, ParseScoreRequests(text, path, tasks));
    JEVONS_ASSIGN_OR_RETURN(EncodedRequests encoded, EncodeScoreRequests(requests, path, tokenizer, length));
    texts.files.push_back({path, std::move(requests), std::move(encoded)});
    absl::StrAppend(&texts.hash, HashText(std::as_bytes(std::span(text))));
  }
  return texts;
}

using Scores = std::vector<std::vector<TokenScore>>;

absl::Status WriteScores(const Options& options, const TextFile& file, const Scores& scores) {
  std::string lines;
  auto next = scores.begin();
  for (const ScoreRequest& request : file.requests) {
    lines += ScoresLine(request, {next, request.continuations.size()});
    next += static_cast<std::ptrdiff_t>(request.continuations.size());
  }
  if (!options.output.empty()) return WriteFile(options.output, lines);
  WriteOut(lines);
  return absl::OkStatus();
}

std::string WithError(double share, const std::optional<double>& error) {
  return absl::StrFormat("%.4f", share) + (error ? absl::StrFormat(" +- %.4f", *error) : "");
}

void WriteResults(const Options& options, const TextsToScore& texts, const std::vector<TaskResult>& results) {
  nlohmann::ordered_json tasks = nlohmann::ordered_json::array();
  std::string table = absl::StrFormat("%-24s %9s  %-16s  %-16s\n", "task", "questions", "acc", "acc_norm");
  for (size_t i = 0; i < results.size(); ++i) {
    const TaskResult& result = results[i];
    const std::string name = std::filesystem::path(texts.files[i].path).stem();
    const auto or_null = [](const std::optional<double>& error) { return error ? nlohmann::json(*error) : nlohmann::json(); };
    tasks.push_back({{"task", name},
                     {"questions", result.questions},
                     {"acc", result.accuracy},
                     {"acc_stderr", or_null(result.accuracy_error)},
                     {"acc_norm", result.normalized},
                     {"acc_norm_stderr", or_null(result.normalized_error)}});
    absl::StrAppendFormat(&table, "%-24s %9d  %-16s  %-16s\n", name, result.questions,
                          WithError(result.accuracy, result.accuracy_error),
                          WithError(result.normalized, result.normalized_error));
  }
  const nlohmann::ordered_json json = {
      {"checkpoint", texts.reader.path()}, {"step", texts.reader.step()}, {"tasks", std::move(tasks)}};
  WriteOut(options.json ? json.dump(2) + "\n" : table);
}

absl::Status ScoreTexts(const Options& options, Communicator& host) {
  absl::StatusOr<TextsToScore> texts = OpenTexts(options, host.size());
  JEVONS_RETURN_IF_ERROR(texts.ok() ? AgreeOnCommand(host, texts->config,
                                                     {{"--checkpoint", texts->reader.path()}, {"hash of the texts", texts->hash}})
                                    : AgreeOnCommand(host, texts.status()));
  JEVONS_ASSIGN_OR_RETURN(const LoadedStep loaded, LoadStep(texts->reader, texts->config, host));
  std::vector<TaskResult> results;
  for (const TextFile& file : texts->files) {
    if (file.encoded.shortened > 0 && host.rank() == 0)
      LogWarning(absl::StrFormat(
          "%s: %d of %d texts are longer than the %d tokens that the model was trained on at a time; their "
          "contexts lose their first tokens",
          file.path, file.encoded.shortened, file.encoded.sequences.size(), texts->config.data().sequence_length()));
    const absl::StatusOr<Scores> scores = loaded.step->Score(file.encoded.sequences, TellProgress());
    JEVONS_RETURN_IF_ERROR(Annotate(scores.status(), texts->reader.path()));
    if (options.jsonl.empty())
      results.push_back(JudgeTask(file.requests, *scores));
    else
      JEVONS_RETURN_IF_ERROR(AgreeOnStatus(host, host.rank() == 0 ? WriteScores(options, file, *scores) : absl::OkStatus()));
  }
  if (host.rank() == 0 && !results.empty()) WriteResults(options, *texts, results);
  return absl::OkStatus();
}

}  // namespace

void RegisterScore(CLI::App& program, int* exit_code) {
  CLI::App* command = AddCommand(program, "score",
                                 "Log-probabilities of given tokens, with logits and gradients on request; log-likelihoods of "
                                 "texts after others; accuracy in tasks.",
                                 kExamples);
  auto options = std::make_shared<Options>();
  AddCheckpointOptions(*command, options->checkpoint);
  command->add_option("--tokens", options->tokens, "safetensors with input_ids, I64 [sequences, tokens]")->type_name("FILE");
  command
      ->add_option("--jsonl", options->jsonl,
                   "texts, one object a line: {\"context\": TEXT, \"continuations\": [TEXT, ...]}; for each a line comes out, "
                   "{\"loglikelihoods\", \"tokens\", \"bytes\", \"greedy\"}, of as many")
      ->type_name("FILE");
  AddRepeatable(*command, "--task", options->tasks,
                "texts likewise, with \"answer\", the index of the right continuation; how many the model finds likeliest (acc), "
                "and per byte (acc_norm); may be repeated")
      ->type_name("FILE");
  command
      ->add_option("--output", options->output,
                   "the file to write: of --tokens safetensors with logprobs, loss and what follows; of --jsonl, without it "
                   "standard output")
      ->type_name("FILE");
  command->add_flag("--json", options->json, "print results of tasks as one JSON object");
  command->add_flag("--logits", options->score.logits, "add logits [sequences, tokens, vocabulary]");
  command->add_flag("--gradients", options->score.gradients, "add grad.NAME, the loss's derivative by every parameter");
  command->add_flag("--mtp", options->score.mtp, "add mtp_logits.K, the logits of each module of multi-token prediction");
  command->callback([options, exit_code] {
    *exit_code = RunOnRanks([&](Communicator& world) {
      return options->tokens.empty() ? ScoreTexts(*options, world) : ScoreTokens(*options, world);
    });
  });
}

}  // namespace jevons
