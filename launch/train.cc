// jevons train: a run, new or resumed.
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "configs/load.h"
#include "configs/validate.h"
#include "kernels/base/log.h"
#include "kernels/cuda/report.h"
#include "kernels/ops/gemm.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/gpu.h"
#include "launch/memory.h"
#include "launch/runtime.h"
#include "launch/stop_signal.h"
#include "launch/supervise/host.h"
#include "launch/trace.h"
#include "launch/version.h"
#include "parallel/comm/heartbeat.h"
#include "parallel/comm/watchdog.h"
#include "trainer/run/train_loop.h"
#include "trainer/spec/flops.h"

namespace jevons {
namespace {

constexpr char kExamples[] =
    "mpirun -np 4 jevons train --config configs/presets/quickstart_cpu.textproto --set data.path=runs/data --set parallel.ep=4 "
    "--output run\n"
    "the same command again goes on from the last checkpoint; a rank that gets SIGTERM, SIGUSR1 or SIGINT has all save one and "
    "exit 75";

struct Options {
  ConfigOptions config;
  std::string output, trace;
  const std::atomic<int>* stop = nullptr;
};

absl::StatusOr<TrainOptions> Prepare(const Options& options, Communicator& world) {
  JEVONS_RETURN_IF_ERROR(OpenHeartbeat(world.rank(), world.size()));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig config, LoadRunConfig(options.config.path, options.config.overrides));
  JEVONS_RETURN_IF_ERROR(ValidationStatus(config, world.size()));
  JEVONS_ASSIGN_OR_RETURN(RunInputs inputs, ResolveInputs(config));
  JEVONS_RETURN_IF_ERROR(ValidationStatus(inputs.config, world.size()));
  if (options.output.empty()) return UsageError("--output is not given: name the folder of the run");
  // A launcher may hand the variable to hosts on which nobody keeps the folder.
  const char* const memory = HeartbeatIsOpen() ? std::getenv(kMemoryVariable) : nullptr;
  return TrainOptions{.inputs = std::move(inputs),
                      .output = options.output,
                      .meter = {},
                      .measure_last_step = !options.trace.empty(),
                      .memory_folder = memory != nullptr ? memory : "",
                      .stop = options.stop,
                      .labels = {}};
}

// "pipeline of 4 ranks, ZB_H1, 8 micro-batches" and its stages.
std::string PipelineText(const RunConfig& config, int world) {
  const Partition partition = Partition::Of(config).value();
  return absl::StrFormat("pipelines of %d ranks, %s, up to %d micro-batches each\n%s", partition.ranks(),
                         ScheduleType_Name(config.parallel().schedule()),
                         Rounds(MeshShapeOf(config, world), MicroBatchCounts(config).back()),
                         StageMapText(partition.parts(), config.model()));
}

void Describe(const TrainOptions& options, const Communicator& world, int threads) {
  const RunConfig& config = options.inputs.config;
  const ParamCount count = CountParameters(config.model());
  LogInfo(absl::StrFormat("%d ranks of %d threads, ep %d, products in %s", world.size(), threads, config.parallel().ep(),
                          ProductsText(config)));
  if (config.parallel().pp() > 1) LogInfo(absl::StripTrailingAsciiWhitespace(PipelineText(config, world.size())));
  if (const ParallelConfig& parallel = config.parallel();
      parallel.pp() == 1 && parallel.has_schedule() && parallel.schedule() != DUALPIPEV)
    LogInfo(absl::StrFormat(
        "parallel.schedule = %s is for pipelines: with parallel.pp = 1 each rank takes one micro-batch after the other",
        ScheduleType_Name(parallel.schedule())));
  if (const std::string cudnn = cuda::CudnnText(); config.parallel().backend() == CUDA && !cudnn.empty())
    LogInfo("attention by " + cudnn);
  LogInfo(absl::StrFormat("%d parameters (%d active), %d more in MTP modules; %.4g MFLOP per token, peak %.4g GFLOP/s",
                          count.total, count.active_without_embedding, count.mtp_unique, options.meter.flops_per_token / 1e6,
                          options.meter.peak_flops / 1e9));
}

// What the ranks compare before they do anything together, or why this one has nothing to compare.
absl::Status AgreeOnOptions(const absl::StatusOr<TrainOptions>& train, const Options& options, Communicator& host) {
  if (!train.ok()) return AgreeOnCommand(host, train.status());
  return AgreeOnCommand(host, train->inputs.config,
                        {{"--output", std::filesystem::absolute(train->output).lexically_normal()},
                         {"--trace", options.trace},
                         {"tokenizer hash", train->inputs.tokenizer_hash}});
}

absl::Status Train(const Options& options, Communicator& host) {
  absl::StatusOr<TrainOptions> prepared = Prepare(options, host);
  JEVONS_RETURN_IF_ERROR(AgreeOnOptions(prepared, options, host));
  TrainOptions train = *std::move(prepared);
  const RunConfig& config = train.inputs.config;
  JEVONS_RETURN_IF_ERROR(CheckPipeline(config, host.size()));
  JEVONS_RETURN_IF_ERROR(MeshShapeOn(config, host).status());
  const RunSchedule schedule(config);
  JEVONS_RETURN_IF_ERROR(schedule.CheckStages());
  if (schedule.bounded()) HeartbeatSteps(schedule.steps());
  SetWatchdogDeadline(config.parallel().watchdog_seconds());
  JEVONS_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> gpus, OpenGpus(config, host));
  JEVONS_RETURN_IF_ERROR(CheckMemory(config, host));
  Communicator& world = gpus ? *gpus : host;
  const CpuUse cpu = SetThreads(config, world);
  train.meter = MeasureMeter(config, world, cpu);
  train.labels = {
      {"version", VersionText()}, {"instruction_set", ProductsText(config)}, {kTokenizerLabel, train.inputs.tokenizer_hash}};
  train.begins = [&] { Describe(train, world, cpu.threads); };
  JEVONS_ASSIGN_OR_RETURN(const RunSummary summary, jevons::Train(train, world));
  if (world.rank() != 0) return absl::OkStatus();
  WriteOut(SummaryText(summary, train));
  std::ofstream file(train.output + "/summary.json");
  file << SummaryJson(summary) << std::flush;
  if (!file.good()) return FailureError(train.output + "/summary.json: cannot be written; look at the disk");
  return options.trace.empty() ? absl::OkStatus() : WriteTrace(options.trace, summary.last_step);
}

}  // namespace

void RegisterTrain(CLI::App& program, int* exit_code) {
  CLI::App* command = AddCommand(program, "train", "Trains a model, or goes on with one.", kExamples);
  auto options = std::make_shared<Options>();
  AddConfigOptions(*command, options->config, /*required=*/true);
  command->add_option("--output", options->output, "folder of the run: checkpoints, metrics, summary; needed");
  AddTrace(*command, options->trace);
  command->callback([options, exit_code] {
    options->stop = CatchStopSignals();
    auto session = StartRanks();
    *exit_code = session.ok() ? FinishRanks(Train(*options, (*session)->world()), (*session)->world()) : Finish(session.status());
    HeartbeatExit(*exit_code);
  });
}

}  // namespace jevons
