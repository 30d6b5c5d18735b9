// jevons generate: text from a checkpoint.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <memory>

#include "absl/strings/str_format.h"
#include "configs/text_file.h"
#include "data/tokenizer/unicode.h"
#include "kernels/base/log.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/run_checkpoint.h"
#include "launch/runtime.h"
#include "launch/stop_signal.h"
#include "launch/text_stream.h"
#include "trainer/model/decoder.h"
#include "trainer/run/state.h"

namespace jevons {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kExamples[] =
    "jevons generate --checkpoint run --prompt \"In the beginning\"\n"
    "jevons generate --checkpoint run --prompt-file question.txt --stop \"\\n\\n\" --count 4 --temperature 1 --top-k 50\n"
    "echo \"In the beginning\" | jevons generate --checkpoint run --prompt-file - --temperature 0";

struct Options {
  CheckpointOptions checkpoint;
  std::string prompt, prompt_file;
  std::vector<std::string> stops;
  int64_t tokens = 200, count = 1;
  Sampling sampling{.temperature = 0.8, .top_k = 0, .top_p = 0.95, .seed = 1};
  const std::atomic<int>* stop_signal = nullptr;
};

absl::Status Check(const Options& options) {
  for (const double value : {options.sampling.temperature, options.sampling.top_p})  // CLI11's ranges let NaN through
    if (!(value >= 0)) return UsageError("--temperature and --top-p must be numbers");
  if (options.count > 1 && options.sampling.temperature == 0)
    return UsageError(
        absl::StrFormat("--count %d with --temperature 0: all samples would be the same; raise the temperature", options.count));
  for (const std::string& stop : options.stops) {
    if (stop.empty()) return UsageError("--stop is empty: name the text that ends the generation");
    if (FirstInvalidUtf8(stop) < stop.size()) return UsageError("--stop is not UTF-8: the text that is made always is");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadPrompt(const Options& options) {
  if (options.prompt_file.empty()) return options.prompt;
  JEVONS_ASSIGN_OR_RETURN(std::string text,
                          ReadTextFile(options.prompt_file == "-" ? "/dev/stdin" : options.prompt_file, "a text to go on from"));
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

// Tokens and the seconds that they took.
struct Speed {
  int64_t tokens = 0;
  double seconds = 0;
  void Add(int64_t more, Clock::time_point begin) {
    tokens += more;
    seconds += std::chrono::duration<double>(Clock::now() - begin).count();
  }
  std::string ToString() const {
    return absl::StrFormat("%d tokens, %.1f tokens/s", tokens, seconds > 0 ? static_cast<double>(tokens) / seconds : 0);
  }
};

class Generator {
 public:
  Generator(const Options& options, const Tokenizer& tokenizer, Decoder& decoder)
      : options_(options), tokenizer_(tokenizer), decoder_(decoder) {}

  // All samples to standard output, until a signal comes or nobody reads.
  absl::Status Run(const std::string& prompt, std::span<const int32_t> ids) {
    JEVONS_RETURN_IF_ERROR(Prefill(ids));
    for (int64_t sample = 0; sample < options_.count && !Ended(); ++sample) {
      if (options_.count > 1) WriteOut(absl::StrFormat("--- sample %d of %d ---\n", sample + 1, options_.count));
      Show(ReplaceInvalidUtf8(prompt));
      const absl::Status status = Sample(sample, static_cast<int64_t>(ids.size()));
      Show("\n");
      JEVONS_RETURN_IF_ERROR(status);
    }
    LogInfo(absl::StrFormat("prompt %s; generated %s%s", prompt_speed_.ToString(), speed_.ToString(),
                            options_.stop_signal->load() != 0 ? "; interrupted" : ""));
    return absl::OkStatus();
  }

 private:
  bool Ended() const { return reader_left_ || options_.stop_signal->load() != 0; }
  void Show(absl::string_view text) { reader_left_ |= !StreamOut(text); }

  absl::StatusOr<std::span<const float>> Logits() {
    JEVONS_ASSIGN_OR_RETURN(const std::span<const float> logits, decoder_.Logits());
    return logits.first(static_cast<size_t>(tokenizer_.vocab_size()));  // the model's may be rounded up
  }

  absl::Status Prefill(std::span<const int32_t> ids) {
    const auto begin = Clock::now();
    for (size_t done = 0; done < ids.size() && !Ended(); done += static_cast<size_t>(Decoder::kRowsAtOnce))
      decoder_.Append(ids.subspan(done, std::min(static_cast<size_t>(Decoder::kRowsAtOnce), ids.size() - done)));
    if (Ended()) return absl::OkStatus();
    JEVONS_ASSIGN_OR_RETURN(const std::span<const float> logits, Logits());
    first_.assign(logits.begin(), logits.end());
    prompt_speed_.Add(decoder_.length(), begin);
    return absl::OkStatus();
  }

  absl::Status Sample(int64_t sample, int64_t prompt) {
    Sampling sampling = options_.sampling;
    sampling.sample = static_cast<uint64_t>(sample);
    decoder_.Truncate(prompt);
    TextStream stream(options_.stops);
    const auto begin = Clock::now();
    std::span<const float> logits = first_;
    int64_t made = 0;
    while (made < options_.tokens && !Ended()) {
      const int32_t id = SampleToken(logits, sampling, static_cast<uint64_t>(made));
      ++made;
      if (id == tokenizer_.eos_id()) break;
      JEVONS_ASSIGN_OR_RETURN(const std::string bytes, tokenizer_.Decode({&id, 1}));
      Show(stream.Push(bytes));
      if (stream.stopped() || made == options_.tokens) break;
      decoder_.Append({&id, 1});
      JEVONS_ASSIGN_OR_RETURN(logits, Logits());
    }
    Show(stream.Finish());
    speed_.Add(made, begin);
    return absl::OkStatus();
  }

  const Options& options_;
  const Tokenizer& tokenizer_;
  Decoder& decoder_;
  std::vector<float> first_;  // logits after the prompt
  Speed prompt_speed_, speed_;
  bool reader_left_ = false;
};

absl::Status Generate(const Options& options, const std::string& prompt, Communicator& world) {
  JEVONS_ASSIGN_OR_RETURN(OpenedCheckpoint opened, OpenForUse(options.checkpoint, Needs::kTokenizer));
  const RunConfig& config = opened.inputs.config;
  JEVONS_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(opened.inputs.tokenizer_path));
  std::vector<int32_t> ids = tokenizer.Encode(prompt, {.specials = SpecialText::kRecognized, .add_bos = false});
  if (ids.empty()) ids.push_back(tokenizer.eos_id());  // nothing was said: a document begins where one ended
  const auto length = static_cast<int64_t>(ids.size()), context = config.data().sequence_length();
  if (length > context)
    return UsageError(absl::StrFormat(
        "the prompt has %d tokens, and the model was trained on %d at a time (data.sequence_length): shorten it, or allow it by "
        "--set data.sequence_length=%d",
        length, context, length));
  if (length + options.tokens > context)
    LogWarning(absl::StrFormat("%d tokens of prompt and %d to come: the model was trained on %d at a time", length,
                               options.tokens, context));

  SetThreads(config, world);
  const DType compute = ComputeDType(config);
  const WeightStore weights(config.model(), {0, config.model().moe().routed_experts()}, compute);
  JEVONS_RETURN_IF_ERROR(LoadWeights(opened.reader, weights));
  const WeightBinding binding(config.model(), weights);
  Decoder decoder(config.model(), binding.weights(), compute, length + options.tokens);
  return Annotate(Generator(options, tokenizer, decoder).Run(prompt, ids), opened.reader.path());
}

}  // namespace

void RegisterGenerate(CLI::App& program, int* exit_code) {
  CLI::App* command =
      AddCommand(program, "generate",
                 "Continues a text with a trained model, on the CPU: to standard output, character by character as they "
                 "come. Ctrl-C ends it with exit code 130.",
                 kExamples);
  auto options = std::make_shared<Options>();
  AddCheckpointOptions(*command, options->checkpoint);
  CLI::Option* prompt =
      command->add_option("--prompt", options->prompt, "the text to go on from; empty: a new document")->type_name("TEXT");
  command
      ->add_option("--prompt-file", options->prompt_file,
                   "the same from a file, - for standard input; a line's end at its end is not part of it")
      ->type_name("FILE")
      ->excludes(prompt);
  command->add_option("--tokens", options->tokens, "tokens to make, at most")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  AddRepeatable(*command, "--stop", options->stops, "end before this text; may be repeated")->type_name("TEXT");
  command
      ->add_option(
          "--count", options->count,
          "samples to make, of more than one each below a line \"--- sample 1 of 3 ---\"; the first is the same for every count")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_option("--temperature", options->sampling.temperature, "0 takes the likeliest token each time")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command->add_option("--top-k", options->sampling.top_k, "sample among so many of the likeliest tokens; 0: among all")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  command->add_option("--top-p", options->sampling.top_p, "sample among the likeliest tokens of this joint probability")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  AddSeed(*command, options->sampling.seed, "the same seed, the same text");
  command->callback([options, exit_code] {
    // The prompt comes first: while it is awaited from a terminal a signal ends the process as it does any other.
    const absl::Status checked = Check(*options);
    const absl::StatusOr<std::string> prompt = checked.ok() ? ReadPrompt(*options) : checked;
    if (!prompt.ok()) {
      *exit_code = Finish(prompt.status());
      return;
    }
    options->stop_signal = CatchStopSignals();
    *exit_code = RunOnOneRank("generate", [&](Communicator& world) { return Generate(*options, *prompt, world); });
    if (const int signal = options->stop_signal->load(); *exit_code == 0 && signal != 0) *exit_code = 128 + signal;
  });
}

}  // namespace jevons
