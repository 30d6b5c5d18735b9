// jevons bench tokenizer: how fast a tokenizer encodes and decodes on one thread.
#ifndef JEVONS_LAUNCH_BENCH_TOKENIZER_H_
#define JEVONS_LAUNCH_BENCH_TOKENIZER_H_

namespace CLI {
class App;
}

namespace jevons {

// Adds the subcommand to `bench`.
void RegisterBenchTokenizer(CLI::App& bench, int* exit_code);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_BENCH_TOKENIZER_H_
