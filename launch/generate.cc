// jevons generate: text from a checkpoint.
#include <CLI/CLI.hpp>
#include <memory>

#include "absl/strings/str_format.h"
#include "kernels/base/log.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/run_checkpoint.h"
#include "launch/runtime.h"
#include "trainer/model/decoder.h"
#include "trainer/state.h"

namespace jevons {
namespace {

struct Options {
  std::string checkpoint, prompt;
  std::vector<std::string> overrides;
  int64_t tokens = 200;
  Sampling sampling{.temperature = 0.8, .top_p = 0.95, .seed = 1};
};

absl::Status Generate(const Options& options) {
  for (const double value : {options.sampling.temperature, options.sampling.top_p})  // CLI11's ranges let NaN through
    if (!(value >= 0)) return UsageError("--temperature and --top-p must be numbers");
  JEVONS_ASSIGN_OR_RETURN(OpenedCheckpoint opened, OpenForUse(options.checkpoint, options.overrides, Needs::kTokenizer));
  const RunConfig& config = opened.inputs.config;
  JEVONS_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(opened.inputs.tokenizer_path));
  const DType compute = ComputeDType(config);
  const WeightStore weights(config.model(), {0, config.model().moe().routed_experts()}, compute);
  JEVONS_RETURN_IF_ERROR(LoadWeights(opened.reader, weights));
  const WeightBinding binding(config.model(), weights);

  std::vector<int32_t> ids = tokenizer.Encode(options.prompt, {.specials = SpecialText::kRecognized, .add_bos = false});
  if (ids.empty()) ids.push_back(tokenizer.eos_id());  // nothing was said: a document begins where one ended
  const auto prompt = static_cast<int64_t>(ids.size());
  Decoder decoder(config.model(), binding.weights(), compute, prompt + options.tokens);
  if (prompt + options.tokens > config.data().sequence_length())
    LogWarning(absl::StrFormat("%d tokens of prompt and %d to come: the model was trained on %d at a time", prompt,
                               options.tokens, config.data().sequence_length()));
  WriteOut(options.prompt);
  for (int32_t id : ids) decoder.Append(id);
  const auto vocabulary = static_cast<size_t>(tokenizer.vocab_size());  // the model's may be rounded up
  std::span<const float> logits = decoder.Logits().first(vocabulary);
  for (int64_t i = 0; i < options.tokens; ++i) {
    JEVONS_RETURN_IF_ERROR(Annotate(decoder.CheckFinite(), opened.reader.path()));
    const int32_t id = SampleToken(logits, options.sampling, static_cast<uint64_t>(i));
    if (id == tokenizer.eos_id()) break;
    JEVONS_ASSIGN_OR_RETURN(const std::string text, tokenizer.Decode({&id, 1}));
    WriteOut(text);
    if (i + 1 == options.tokens) break;
    decoder.Append(id);
    logits = decoder.Logits().first(vocabulary);
  }
  WriteOut("\n");
  return absl::OkStatus();
}

}  // namespace

void RegisterGenerate(CLI::App& program, int* exit_code) {
  CLI::App* command = AddCommand(program, "generate", "Continues a text with a trained model.",
                                 "jevons generate --checkpoint run --prompt \"In the beginning\"");
  auto options = std::make_shared<Options>();
  command->add_option("--checkpoint", options->checkpoint, "a run, or one of its checkpoints")->required();
  command->add_option("--prompt", options->prompt, "the text to go on from; empty: a new document");
  command->add_option("--tokens", options->tokens, "tokens to make, at most")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  command->add_option("--temperature", options->sampling.temperature, "0 takes the likeliest token each time")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command->add_option("--top-p", options->sampling.top_p, "sample among the likeliest tokens of this joint probability")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--seed", options->sampling.seed, "the same seed, the same text")->capture_default_str();
  command->add_option("--set", options->overrides, "path=value: overrides a field of the checkpoint's config");
  command->callback([options, exit_code] {
    *exit_code = RunOnOneRank("generate", [&](Communicator&) { return Generate(*options); });
  });
}

}  // namespace jevons
