// jevons bench calibrate: a table of this machine, as jevons plan --cluster reads it.
#ifndef JEVONS_LAUNCH_BENCH_CALIBRATE_H_
#define JEVONS_LAUNCH_BENCH_CALIBRATE_H_

namespace CLI {
class App;
}

namespace jevons {

void RegisterBenchCalibrate(CLI::App& bench, int* exit_code);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_BENCH_CALIBRATE_H_
