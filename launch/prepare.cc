// jevons prepare: text to a tokenizer and token files.
#include "data/prepare/prepare.h"

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "launch/cli.h"
#include "launch/commands.h"

namespace jevons {
namespace {

constexpr char kExamples[] =
    "jevons prepare --input corpus.txt --output runs/data --vocab-size 2048\n"
    "jevons prepare --input a.jsonl.zst shards/ 'more/*.json.gz' --output runs/data --tokenizer "
    "tokenizer.json\n"
    "jevons prepare --input stories.txt --document-separator '<|endoftext|>' --output runs/data --vocab-size "
    "8192\n"
    "jevons prepare --input crawl.jsonl --on-bad-line skip --output runs/data --tokenizer kimi.json "
    "--end-token '[EOS]'";

struct Options {
  PrepareOptions prepare;
  std::string document_rule = "blank-line";
  std::string on_bad_line = "error";
  bool json = false;
};

std::string SplitText(const char* name, const SplitInfo& split) {
  return absl::StrFormat("%-11s %12d documents %15d tokens %15d bytes\n", name, split.documents, split.tokens, split.bytes);
}

nlohmann::ordered_json SplitJson(const SplitInfo& split) {
  return {{"documents", split.documents}, {"tokens", split.tokens}, {"bytes", split.bytes}};
}

void Print(const PrepareReport& report, const Options& options) {
  const DatasetInfo& info = report.info;
  if (options.json) {
    const nlohmann::ordered_json json = {{"output", options.prepare.output},    {"vocab_size", info.vocab_size},
                                         {"train", SplitJson(info.train)},      {"validation", SplitJson(info.validation)},
                                         {"bad_documents", info.bad_documents}, {"empty_documents", report.empty_documents},
                                         {"end_token", info.end_token},         {"seconds", report.seconds}};
    WriteOut(json.dump(2) + "\n");
    return;
  }
  const double bytes = static_cast<double>(info.train.bytes + info.validation.bytes);
  const double tokens = static_cast<double>(info.train.tokens + info.validation.tokens);
  WriteOut(absl::StrFormat("%s: vocabulary of %d tokens, %.2f bytes per token, %.1f s\n", options.prepare.output, info.vocab_size,
                           bytes / tokens, report.seconds));
  WriteOut(SplitText("train", info.train) + SplitText("validation", info.validation));
  if (info.bad_documents > 0) WriteOut(absl::StrFormat("%-11s %12d documents\n", "bad", info.bad_documents));
}

absl::Status Run(Options& options) {
  if (options.prepare.document_separator.empty()) {
    JEVONS_ASSIGN_OR_RETURN(options.prepare.document_rule, DocumentRuleFor(options.document_rule));
  } else {
    options.prepare.document_rule = DocumentRule::kSeparator;
  }
  JEVONS_ASSIGN_OR_RETURN(options.prepare.on_bad_line, BadLineFor(options.on_bad_line));
  JEVONS_ASSIGN_OR_RETURN(const PrepareReport report, Prepare(options.prepare));
  Print(report, options);
  return absl::OkStatus();
}

}  // namespace

void RegisterPrepare(CLI::App& program, int* exit_code) {
  auto options = std::make_shared<Options>();
  PrepareOptions& prepare = options->prepare;
  CLI::App* command = AddCommand(program, "prepare", "text to a tokenizer and token files", kExamples);
  command
      ->add_option("--input", prepare.inputs,
                   absl::StrFormat("files ending in %s; folders, for all such files below them; or patterns", kInputNames))
      ->type_name("PATH")
      ->required();
  command->add_option("--output", prepare.output, "folder to make")->type_name("FOLDER")->required();
  CLI::Option* vocab_size =
      command->add_option("--vocab-size", prepare.vocab_size, "train a tokenizer of so many tokens, bytes and specials included");
  CLI::Option* tokenizer = command->add_option("--tokenizer", prepare.tokenizer, "use this tokenizer.json instead")
                               ->type_name("FILE")
                               ->excludes(vocab_size);
  command
      ->add_option("--end-token", prepare.end_token,
                   "added token of the given tokenizer that ends documents; else found by its usual names")
      ->type_name("TEXT");
  command->add_option("--validation-fraction", prepare.validation_fraction, "share of the documents kept for validation")
      ->capture_default_str();
  CLI::Option* rule = command
                          ->add_option("--document-rule", options->document_rule,
                                       "where a document of plain text ends: blank-line, form-feed or file")
                          ->capture_default_str();
  command
      ->add_option("--document-separator", prepare.document_separator,
                   "a document of plain text ends at this text, wherever it stands")
      ->type_name("TEXT")
      ->check([](const std::string& text) { return text.empty() ? "the separator is empty" : ""; })
      ->excludes(rule);
  command
      ->add_option("--on-bad-line", options->on_bad_line,
                   "error, or skip: leave out, and count, a line that is not JSON, lacks the field or is not "
                   "UTF-8, or such a document of plain text")
      ->capture_default_str();
  command->add_option("--text-field", prepare.text_field, "field of a JSON line that holds the text")->capture_default_str();
  command
      ->add_option("--tokenizer-sample-bytes", prepare.tokenizer_sample_bytes,
                   "train the tokenizer on about this much of the input")
      ->capture_default_str()
      ->excludes(tokenizer);
  AddSeed(*command, prepare.seed, "chooses the validation documents");
  command->add_option("--threads", prepare.threads, "0: one per core that the affinity mask and the control group grant")
      ->capture_default_str();
  command->add_flag("--overwrite", prepare.overwrite, "replace a dataset that is there already");
  command->add_flag("--json", options->json, "print JSON");
  command->callback([options, exit_code] { *exit_code = Finish(Run(*options)); });
}

}  // namespace jevons
