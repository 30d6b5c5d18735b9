#include "launch/bench_tokenizer.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "data/tokenizer/encoder.h"
#include "data/tokenizer/text_file.h"
#include "data/tokenizer/tokenizer.h"
#include "launch/cli.h"

namespace jevons {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kMaxInputBytes = int64_t{1} << 30;
// The text is encoded in lines of about so many bytes, like documents: no word reaches over a line's end.
constexpr size_t kChunkBytes = size_t{1} << 14;

struct Options {
  std::string tokenizer, input;
  int repeats = 5;
  bool json = false;
};

struct Figures {
  double load_seconds = 0;
  int64_t bytes = 0, tokens = 0;
  double cold = 0, warm = 0, decode = 0;  // seconds; cold: with an encoder that has seen nothing
  int64_t peak_bytes = 0;                 // resident
};

template <typename Work>
double Seconds(Work work) {
  const auto begin = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// VmHWM: unlike getrusage's figure it forgets the program that started this one.
int64_t PeakResidentBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    int64_t kibibytes = 0;
    if (word == "VmHWM:" && status >> kibibytes) return kibibytes * 1024;
  }
  return 0;
}

std::vector<absl::string_view> Chunks(absl::string_view text) {
  std::vector<absl::string_view> chunks;
  while (!text.empty()) {
    const size_t line_end = text.find('\n', std::min(kChunkBytes, text.size()));
    const size_t size = line_end == absl::string_view::npos ? text.size() : line_end + 1;
    chunks.push_back(text.substr(0, size));
    text.remove_prefix(size);
  }
  return chunks;
}

absl::StatusOr<Figures> Measure(const Options& options) {
  Figures figures;
  const auto begin = Clock::now();
  JEVONS_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(options.tokenizer, EndToken::kOptional));
  figures.load_seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  JEVONS_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(options.input, kMaxInputBytes));
  if (text.empty()) return UsageError(absl::StrFormat("%s: the file is empty", options.input));
  const std::vector<absl::string_view> chunks = Chunks(text);
  Encoder encoder(tokenizer);
  std::vector<int32_t> ids;
  const auto encode = [&] {
    ids.clear();
    for (const absl::string_view chunk : chunks) encoder.Append(chunk, SpecialText::kRecognized, ids);
  };
  figures.cold = figures.warm = Seconds(encode);
  for (int i = 1; i < options.repeats; ++i) figures.warm = std::min(figures.warm, Seconds(encode));
  for (int i = 0; i < options.repeats; ++i) {
    absl::StatusOr<std::string> decoded = std::string();
    const double seconds = Seconds([&] { decoded = tokenizer.Decode(ids); });
    if (!decoded.ok()) return decoded.status();
    figures.decode = i == 0 ? seconds : std::min(figures.decode, seconds);
  }
  figures.bytes = static_cast<int64_t>(text.size());
  figures.tokens = static_cast<int64_t>(ids.size());
  figures.peak_bytes = PeakResidentBytes();
  return figures;
}

absl::Status Bench(const Options& options) {
  JEVONS_ASSIGN_OR_RETURN(const Figures f, Measure(options));
  const auto rate = [&](double seconds) { return static_cast<double>(f.bytes) / seconds / 1e6; };
  if (options.json) {
    const nlohmann::ordered_json json = {{"bytes", f.bytes},
                                         {"tokens", f.tokens},
                                         {"load_seconds", f.load_seconds},
                                         {"encode_mb_per_s", rate(f.warm)},
                                         {"encode_cold_mb_per_s", rate(f.cold)},
                                         {"decode_mb_per_s", rate(f.decode)},
                                         {"peak_resident_bytes", f.peak_bytes}};
    WriteOut(json.dump(2) + "\n");
    return absl::OkStatus();
  }
  WriteOut(
      absl::StrFormat("%d bytes, %d tokens, %.3f bytes per token, one thread\n"
                      "load    %8.3f s\nencode  %8.1f MB/s  (the first time %.1f MB/s)\ndecode  %8.1f MB/s\nmemory  %s at "
                      "the most\n",
                      f.bytes, f.tokens, static_cast<double>(f.bytes) / static_cast<double>(f.tokens), f.load_seconds,
                      rate(f.warm), rate(f.cold), rate(f.decode), HumanBytes(static_cast<double>(f.peak_bytes))));
  return absl::OkStatus();
}

}  // namespace

void RegisterBenchTokenizer(CLI::App& bench, int* exit_code) {
  CLI::App* command = AddCommand(bench, "tokenizer", "Encoding and decoding on one thread: MB/s, memory.",
                                 "jevons bench tokenizer --tokenizer data/tokenizer.json --input corpus.txt");
  auto options = std::make_shared<Options>();
  command->add_option("--tokenizer", options->tokenizer, "tokenizer.json")->type_name("FILE")->required();
  command->add_option("--input", options->input, "text to encode")->type_name("FILE")->required();
  command->add_option("--repeats", options->repeats, "the best of so many counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_flag("--json", options->json, "print JSON");
  command->callback([options, exit_code] { *exit_code = Finish(Bench(*options)); });
}

}  // namespace jevons
