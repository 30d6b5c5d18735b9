// jevons bench: how fast this machine runs the parts of training, beside the limits measured in the same run.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <memory>

#include "absl/strings/str_format.h"
#include "configs/load.h"
#include "configs/validate.h"
#include "kernels/base/philox.h"
#include "kernels/cuda/report.h"
#include "kernels/ops/gemm.h"
#include "launch/bench_calibrate.h"
#include "launch/bench_fp8_gap.h"
#include "launch/bench_quantize.h"
#include "launch/bench_tokenizer.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/gpu.h"
#include "launch/memory.h"
#include "launch/runtime.h"
#include "launch/trace.h"
#include "parallel/comm/bandwidth.h"
#include "trainer/step/planned_memory.h"
#include "trainer/step/train_step.h"

namespace jevons {
namespace {

using Clock = std::chrono::steady_clock;

double Since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

struct StepOptions {
  ConfigOptions config;
  std::string trace;
  bool no_mtp = false;
  int steps = 8;
};

// Random tokens: the speed of a step does not depend on the text.
SampleBatch RandomBatch(const RunConfig& config, int64_t sequences) {
  const int64_t S = config.data().sequence_length();
  SampleBatch batch{.first = 0, .count = sequences, .tokens = {}, .document_start = {}};
  batch.tokens.resize(static_cast<size_t>(sequences * (S + 1)));
  for (size_t i = 0; i < batch.tokens.size(); ++i)
    batch.tokens[i] = static_cast<int32_t>(RandomBits(1, 2, i) % static_cast<uint64_t>(config.model().vocab_size()));
  if (config.data().document_mask()) batch.document_start.assign(static_cast<size_t>(sequences * S), 0);
  return batch;
}

// GFLOP/s of one large product in BF16: the limit of a step in BF16 where it is more than the FP32 peak.
double MeasureBf16Product() {
  constexpr int64_t kSize = 2048;
  Arena arena("bench", int64_t{64} << 20);
  const Tensor a = arena.Allocate("a", DType::kBF16, {kSize, kSize}), b = arena.Allocate("b", DType::kBF16, {kSize, kSize});
  const Tensor c = arena.Allocate("c", DType::kF32, {kSize, kSize});
  Zero(a);
  Zero(b);
  double best = 0;
  for (int i = 0; i < 4; ++i) {
    const auto begin = Clock::now();
    Gemm({.stream = {}, .scratch = &arena}, {.a = a, .b = b, .c = c, .b_form = Form::kTransposed});
    best = std::max(best, 2.0 * kSize * kSize * kSize / Since(begin) / 1e9);
  }
  return best;
}

struct StepFigures {
  double median_seconds = 0;
  int64_t tokens = 0;
  PhaseTimer::Seconds phases{};  // of the median step
  int64_t host_waits = 0;        // for the device, in a step
};

absl::StatusOr<StepFigures> TimeSteps(const RunConfig& config, TrainStep& step, Communicator& world, int steps) {
  const int64_t sequences = config.train().batch_sequences();
  const SampleBatch batch = RandomBatch(config, step.SamplesOf(sequences).size());
  StepPlan plan{.step = 0,
                .first_sample = 0,
                .sequences = sequences,
                .tokens_before = 0,
                .learning_rate = 1e-4,
                .gamma = 0.001,
                .mtp_weight = 0.3};
  std::vector<std::pair<double, PhaseTimer::Seconds>> runs;
  StepFigures figures;
  constexpr int kWarmUp = 2;
  for (int i = 0; i < kWarmUp + steps; ++i, ++plan.step) {
    world.Barrier();
    step.timer().Take();
    const auto begin = Clock::now();
    JEVONS_ASSIGN_OR_RETURN(const StepStats stats, step.Run(plan, batch));
    Synchronize(step.stream());
    if (i >= kWarmUp) runs.emplace_back(Since(begin), stats.seconds);
    figures.host_waits = stats.host_waits;
  }
  std::sort(runs.begin(), runs.end());
  const auto& median = runs[runs.size() / 2];
  figures.median_seconds = median.first;
  figures.tokens = sequences * config.data().sequence_length();
  figures.phases = median.second;
  return figures;
}

std::string Report(const RunConfig& config, const StepFigures& f, const Meter& meter, const TrainStep& step,
                   const MemoryUse& planned, int ranks, int threads) {
  const DType compute = ComputeDType(config);
  const bool cuda = config.parallel().backend() == CUDA;
  const double rate = static_cast<double>(f.tokens) / f.median_seconds, flops = rate * meter.flops_per_token;
  std::string text = absl::StrFormat(
      "%d ranks of %d threads, products in %s\n%.1f tokens/s  (median step %.3f s, %d tokens, MTP depth %d)\n"
      "%.1f MFLOP/token (causal, without MTP), %.1f GFLOP/s, %.1f%% of the measured %s of %.1f GFLOP/s\n",
      ranks, threads, ProductsText(config), rate, f.median_seconds, f.tokens, config.model().mtp().depth(),
      meter.flops_per_token / 1e6, flops / 1e9, 100 * flops / meter.peak_flops,
      cuda ? "BF16 product 8192x8192x8192" : "peak of their instructions", meter.peak_flops / 1e9);
  if (!cuda && compute == DType::kBF16) {
    const double peak = MeasureBf16Product();
    absl::StrAppendFormat(&text, "%.1f%% of the measured BF16 product 2048x2048x2048 of %.1f GFLOP/s\n", flops / 1e9 / peak * 100,
                          peak);
  }
  text += "phase        seconds   share\n";
  for (size_t i = 0; i < f.phases.size(); ++i)
    if (f.phases[i] > 0)
      absl::StrAppendFormat(&text, "%-11s %8.4f  %5.1f%%\n", kPhaseNames[i], f.phases[i], 100 * f.phases[i] / f.median_seconds);
  if (cuda)
    absl::StrAppendFormat(&text, "the host waits %d times for the device in a step\nserved, in all steps: %s\n", f.host_waits,
                          cuda::ServedText(cuda::ServedSoFar()));
  const MemoryUse used = step.memory();
  absl::StrAppendFormat(&text, "memory       %s (planned %s, %+.2f%%): weights %s, gradients %s, optimizer %s, activations %s\n",
                        HumanBytes(static_cast<double>(used.total())), HumanBytes(static_cast<double>(planned.total())),
                        100.0 * (static_cast<double>(used.total()) / static_cast<double>(planned.total()) - 1),
                        HumanBytes(static_cast<double>(used.weights)), HumanBytes(static_cast<double>(used.gradients)),
                        HumanBytes(static_cast<double>(used.optimizer)), HumanBytes(static_cast<double>(used.activations)));
  if (used.host > 0)
    absl::StrAppendFormat(&text, "  on the host: average of the weights %s\n", HumanBytes(static_cast<double>(used.host)));
  return text;
}

absl::StatusOr<RunConfig> LoadStepConfig(const StepOptions& options, int ranks) {
  std::vector<std::string> overrides = options.config.overrides;
  if (options.no_mtp) overrides.push_back("model.mtp.depth=0");
  // The bench has its own number of steps and reads no data.
  overrides.push_back(absl::StrFormat("train.steps=%d", options.steps));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig config, LoadRunConfig(options.config.path, overrides));
  JEVONS_RETURN_IF_ERROR(ValidationStatus(config, ranks));
  if (config.model().vocab_size() == 0)
    return UsageError("model.vocab_size = 0: there is no data to take it from; add --set model.vocab_size=2048");
  return config;
}

absl::Status BenchStep(const StepOptions& options, Communicator& host) {
  const absl::StatusOr<RunConfig> loaded = LoadStepConfig(options, host.size());
  JEVONS_RETURN_IF_ERROR(AgreeOnCommand(host, loaded, {{"--trace", options.trace}}));
  const RunConfig& config = *loaded;
  JEVONS_RETURN_IF_ERROR(CheckPipeline(config, host.size()));
  JEVONS_RETURN_IF_ERROR(MeshShapeOn(config, host).status());
  JEVONS_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> gpus, OpenGpus(config, host));
  JEVONS_RETURN_IF_ERROR(CheckMemory(config, host));
  Communicator& world = gpus ? *gpus : host;
  const CpuUse cpu = SetThreads(config, world);
  const Meter meter = MeasureMeter(config, world, cpu);
  JEVONS_ASSIGN_OR_RETURN(const MeshShape shape, MeshShapeOn(config, world));
  Mesh mesh(world, shape);
  TrainStep step(config, mesh);
  step.Initialize();
  JEVONS_ASSIGN_OR_RETURN(const StepFigures figures, TimeSteps(config, step, world, options.steps));
  const MemoryUse planned = PlanMemory(config, shape, world.rank(), step.peak_load()).use;
  if (world.rank() == 0) WriteOut(Report(config, figures, meter, step, planned, world.size(), cpu.threads));
  if (options.trace.empty()) return absl::OkStatus();
  const MeasuredStep last = step.MeasureLastStep();
  return world.rank() == 0 ? WriteTrace(options.trace, last) : absl::OkStatus();
}

absl::Status BenchAllToAll(Communicator& world) {
  if (world.rank() == 0)
    WriteOut(absl::StrFormat("all-to-all, %d ranks\nbytes per peer   microseconds   GB/s sent by each rank\n", world.size()));
  for (int64_t bytes = 1024; bytes <= int64_t{16} << 20; bytes *= 4) {
    const AllToAllResult result = MeasureAllToAll(world, bytes, bytes < (1 << 20) ? 50 : 10);
    if (world.rank() == 0)
      WriteOut(absl::StrFormat("%14d   %12.1f   %8.3f\n", bytes, result.seconds * 1e6, result.gigabytes_per_second));
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterBench(CLI::App& program, int* exit_code) {
  CLI::App* bench = AddCommand(program, "bench", "Measures speed and memory beside this machine's limits.",
                               "jevons bench step --config configs/presets/small_cpu.textproto --no-mtp\n"
                               "mpirun -np 4 jevons bench all-to-all");
  bench->require_subcommand(1);
  CLI::App* step = AddCommand(*bench, "step", "The training step: tokens/s, GFLOP/s, share of the peak, time by phase, memory.",
                              "jevons bench step --config configs/presets/small_cpu.textproto --no-mtp");
  auto options = std::make_shared<StepOptions>();
  AddConfigOptions(*step, options->config, /*required=*/true);
  step->add_flag("--no-mtp", options->no_mtp, "leave the MTP modules out");
  step->add_option("--steps", options->steps, "steps to time, after two that warm up")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  AddTrace(*step, options->trace);
  step->callback(
      [options, exit_code] { *exit_code = RunOnRanks([&](Communicator& world) { return BenchStep(*options, world); }); });
  RegisterBenchTokenizer(*bench, exit_code);
  CLI::App* exchange =
      AddCommand(*bench, "all-to-all", "The exchange between ranks, by message size.", "mpirun -np 4 jevons bench all-to-all");
  exchange->callback([exit_code] { *exit_code = RunOnRanks([](Communicator& world) { return BenchAllToAll(world); }); });
  RegisterBenchCalibrate(*bench, exit_code);
  RegisterBenchQuantize(*bench, exit_code);
  RegisterBenchFp8Gap(*bench, exit_code);
}

}  // namespace jevons
