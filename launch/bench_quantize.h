// jevons bench quantize: how fast numbers become FP8 and back, beside a copy of memory.
#ifndef JEVONS_LAUNCH_BENCH_QUANTIZE_H_
#define JEVONS_LAUNCH_BENCH_QUANTIZE_H_

namespace CLI {
class App;
}

namespace jevons {

void RegisterBenchQuantize(CLI::App& bench, int* exit_code);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_BENCH_QUANTIZE_H_
