// jevons tokenize: texts to token ids and back, one a line.
#include <CLI/CLI.hpp>
#include <fstream>
#include <iostream>
#include <memory>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "data/tokenizer/encoder.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/unicode.h"
#include "kernels/base/strict_json.h"
#include "launch/cli.h"
#include "launch/commands.h"

namespace jevons {
namespace {

struct Options {
  std::string tokenizer, input;
  bool bos = false, decode = false, plain = false;
};

absl::StatusOr<std::string> EncodeLine(const nlohmann::json& json, const EncodeOptions& options, Encoder& encoder) {
  if (!json.is_string()) return UsageError("not a JSON string");
  return "[" + absl::StrJoin(encoder.Encode(json.get_ref<const std::string&>(), options), ",") + "]\n";
}

absl::StatusOr<std::string> DecodeLine(const nlohmann::json& json, const Tokenizer& tokenizer) {
  if (!json.is_array()) return UsageError("not a JSON array of token ids");
  std::vector<int32_t> ids;
  for (const nlohmann::json& id : json) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX)
      return UsageError(absl::StrFormat("%s is not a token id", ShownJson(id)));
    ids.push_back(id.get<int32_t>());
  }
  JEVONS_ASSIGN_OR_RETURN(const std::string bytes, tokenizer.Decode(ids));
  return nlohmann::json(ReplaceInvalidUtf8(bytes)).dump() + "\n";
}

absl::Status Tokenize(const Options& options) {
  if (options.decode && (options.bos || options.plain))
    return UsageError("--decode takes neither --bos nor --plain: they say how text becomes tokens");
  JEVONS_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(options.tokenizer, EndToken::kOptional));
  if (options.bos && tokenizer.bos_id() < 0 && tokenizer.parts().text_template.json.empty())
    return UsageError(absl::StrFormat("--bos: %s has no token that begins a text", options.tokenizer));
  std::ifstream file;
  if (!options.input.empty()) {
    file.open(options.input);
    if (!file) return UsageError(absl::StrFormat("%s: cannot open", options.input));
  }
  std::istream& in = options.input.empty() ? std::cin : file;
  const EncodeOptions encode = {.specials = options.plain ? SpecialText::kPlain : SpecialText::kRecognized,
                                .add_bos = options.bos};
  Encoder encoder(tokenizer);
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    const auto json = ParseStrictJson(line);
    const auto out = !json.ok()       ? absl::StatusOr<std::string>(UsageError(json.status().message()))
                     : options.decode ? DecodeLine(*json, tokenizer)
                                      : EncodeLine(*json, encode, encoder);
    if (!out.ok())
      return Annotate(out.status(),
                      absl::StrFormat("%s, line %d", options.input.empty() ? "standard input" : options.input, number));
    WriteOut(*out);
  }
  if (in.bad()) return UsageError(absl::StrFormat("%s: cannot read (is it a folder?)", options.input));
  return absl::OkStatus();
}

}  // namespace

void RegisterTokenize(CLI::App& program, int* exit_code) {
  CLI::App* command = AddCommand(program, "tokenize", "Turns texts into token ids, or back: JSON, one a line.",
                                 "echo '\"In the beginning\"' | jevons tokenize --tokenizer data/tokenizer.json\n"
                                 "echo '[46,83]' | jevons tokenize --tokenizer data/tokenizer.json --decode");
  auto options = std::make_shared<Options>();
  command->add_option("--tokenizer", options->tokenizer, "tokenizer.json")->type_name("FILE")->required();
  command->add_option("--input", options->input, "read this file instead of standard input")->type_name("FILE");
  command->add_flag("--bos", options->bos,
                    "add what the tokenizer's template puts around a text; without one, its beginning token");
  command->add_flag("--plain", options->plain, "take the text of special and other added tokens as text");
  command->add_flag("--decode", options->decode,
                    "arrays of ids to strings; special tokens as their text, U+FFFD for what is not UTF-8");
  command->callback([options, exit_code] { *exit_code = Finish(Tokenize(*options)); });
}

}  // namespace jevons
