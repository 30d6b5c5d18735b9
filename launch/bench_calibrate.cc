#include "launch/bench_calibrate.h"

#include <CLI/CLI.hpp>
#include <chrono>
#include <ctime>
#include <memory>

#include "absl/strings/str_format.h"
#include "configs/cluster.h"
#include "configs/load.h"
#include "configs/validate.h"
#include "kernels/cpu/fma_peak.h"
#include "launch/cli.h"
#include "launch/machine.h"
#include "launch/measure_dispatch.h"
#include "launch/measure_kernels.h"
#include "launch/runtime.h"

namespace jevons {
namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;

struct Options {
  ConfigOptions config;
  std::string output;
};

absl::StatusOr<RunConfig> LoadConfig(const Options& options, int ranks) {
  if (options.config.path.empty()) {
    if (options.config.overrides.empty()) return RunConfig();
    return UsageError("--set changes a config: name it by --config FILE");
  }
  JEVONS_ASSIGN_OR_RETURN(RunConfig config, LoadRunConfig(options.config.path, options.config.overrides));
  JEVONS_RETURN_IF_ERROR(ValidationStatus(config, ranks));
  if (config.parallel().backend() != CPU)
    return UsageError(
        "parallel.backend = CUDA: bench calibrate measures the CPU alone; for GPUs take a table of "
        "configs/clusters; nearest legal: CPU");
  if (config.model().vocab_size() == 0)
    return UsageError("model.vocab_size = 0: there is no data to take it from; add --set model.vocab_size=2048");
  return config;
}

std::string Now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", std::gmtime(&now));
  return text;
}

// All ranks measure at once, as they compute at once; the first one's kernels count.
Measurements Measure(const RunConfig& config, const Options& options, Communicator& world) {
  const MemoryState memory = ReadMemory();
  const bool typical = options.config.path.empty();
  const std::string shapes = typical ? "Sizes from 256 to 1024" : "Sizes of " + options.config.path;
  Measurements m{.device = ProcessorName(),
                 .date = Now(),
                 .shapes = shapes,
                 .ranks = world.size(),
                 .ranks_per_node = MachineRanks().size(),
                 .threads = SetThreads(config, world).threads,
                 .memory_gib = memory.total / kGiB,
                 .occupied_gib = memory.used / kGiB,
                 .products = {},
                 .copy = {},
                 .elementwise = {},
                 .cast = {},
                 .dollars_per_device_hour = config.cost().price_per_device_hour()};
  world.Barrier();
  m.peak_tflops = MeasureFmaPeak(m.threads) / 1e3;
  world.Barrier();
  MeasureKernels(Stream(), typical ? TypicalSizes() : SizesOf(config), m);
  MeasureDispatch(typical ? nullptr : &config, world, m);
  return m;
}

absl::Status Calibrate(const Options& options, Communicator& world) {
  const absl::StatusOr<RunConfig> config = LoadConfig(options, world.size());
  JEVONS_RETURN_IF_ERROR(AgreeOnCommand(world, config));
  const Measurements m = Measure(*config, options, world);
  if (world.rank() != 0) return absl::OkStatus();
  const std::string text = CalibrationText(m);
  JEVONS_RETURN_IF_ERROR(ParseCluster(text, options.output).status());
  if (!options.output.empty()) return WriteFile(options.output, text);
  WriteOut(text);
  return absl::OkStatus();
}

}  // namespace

void RegisterBenchCalibrate(CLI::App& bench, int* exit_code) {
  CLI::App* command =
      AddCommand(bench, "calibrate", "Measures this machine and writes the table of it that jevons plan --cluster reads.",
                 "jevons bench calibrate --output machine.textproto\n"
                 "mpirun -np 2 jevons bench calibrate --config RUN.textproto --set model.vocab_size=2048 "
                 "--output machine.textproto");
  auto options = std::make_shared<Options>();
  AddConfigOptions(*command, options->config, /*required=*/false);
  command->add_option("--output", options->output, "the table; without it, standard output")->type_name("FILE");
  command->callback(
      [options, exit_code] { *exit_code = RunOnRanks([&](Communicator& world) { return Calibrate(*options, world); }); });
}

}  // namespace jevons
