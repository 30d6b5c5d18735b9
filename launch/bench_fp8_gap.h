// jevons bench fp8-gap: what FP8 products cost in loss.
#ifndef JEVONS_LAUNCH_BENCH_FP8_GAP_H_
#define JEVONS_LAUNCH_BENCH_FP8_GAP_H_

namespace CLI {
class App;
}

namespace jevons {

void RegisterBenchFp8Gap(CLI::App& bench, int* exit_code);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_BENCH_FP8_GAP_H_
