#include "launch/bench_fp8_gap.h"

#include <CLI/CLI.hpp>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "configs/load.h"
#include "configs/validate.h"
#include "kernels/base/log.h"
#include "launch/cli.h"
#include "launch/gpu.h"
#include "launch/loss_curves.h"
#include "launch/memory.h"
#include "launch/runtime.h"
#include "launch/stop_signal.h"
#include "parallel/comm/watchdog.h"
#include "trainer/metrics/jsonl.h"
#include "trainer/run/train_loop.h"

namespace jevons {
namespace {

struct Options {
  ConfigOptions config;
  std::string output = "runs/fp8-gap";
  bool ablations = false;
  const std::atomic<int>* stop = nullptr;
};

// One of the runs that are compared: what it changes in the precision.
struct Variant {
  const char* name;
  const char* text;
  void (*apply)(PrecisionConfig& precision);
};
void WithoutFp8(PrecisionConfig& precision) {
  PrecisionConfig plain;
  plain.set_compute(precision.compute());
  precision = plain;
}
constexpr Variant kBase = {"base", "without FP8", WithoutFp8};
constexpr Variant kFp8 = {"fp8", "FP8", [](PrecisionConfig& precision) { precision.set_gemm(FP8_BLOCK); }};
constexpr Variant kAblations[] = {
    {"blocks", "FP8, gradients in 128x128 blocks",
     [](PrecisionConfig& precision) {
       precision.set_gemm(FP8_BLOCK);
       precision.set_gradient_tiles(BLOCKS_128X128);
     }},
    {"unpromoted", "FP8, sums not promoted",
     [](PrecisionConfig& precision) {
       precision.set_gemm(FP8_BLOCK);
       precision.set_promote(false);
     }},
    // How far two runs part that differ in rounding alone: no smaller gap means anything.
    {"fp32", "FP32 throughout",
     [](PrecisionConfig& precision) {
       WithoutFp8(precision);
       precision.set_compute(FP32);
     }},
};

absl::StatusOr<std::vector<double>> ReadLosses(const std::string& run) {
  const std::string path = run + "/metrics.jsonl";
  std::ifstream file(path);
  std::vector<double> losses;
  for (std::string line; std::getline(file, line);) {
    const auto record = FromJsonLine(line + "\n");
    if (!record) return IntegrityError(path + ": has a line that is no record; remove the folder and run again");
    for (const auto& [name, value] : record->values)
      if (name == "loss/main") losses.push_back(value);
  }
  if (losses.empty()) return IntegrityError(path + ": has no losses; remove the folder and run again");
  return losses;
}

absl::StatusOr<LossCurve> TrainVariant(const Variant& variant, const Options& options, RunInputs inputs, Communicator& world) {
  const std::string output = options.output + "/" + variant.name;
  variant.apply(*inputs.config.mutable_precision());
  JEVONS_RETURN_IF_ERROR(ValidationStatus(inputs.config, world.size()));
  JEVONS_RETURN_IF_ERROR(CheckMemory(inputs.config, world));
  const CpuUse cpu = SetThreads(inputs.config, world);
  TrainOptions train{.inputs = std::move(inputs), .output = output, .meter = {}, .stop = options.stop, .labels = {}};
  train.meter = MeasureMeter(train.inputs.config, world, cpu);
  const std::string products = ProductsText(train.inputs.config);
  train.labels = {{"instruction_set", products}, {kTokenizerLabel, train.inputs.tokenizer_hash}};
  if (world.rank() == 0) LogInfo(absl::StrFormat("%s: products in %s", output, products));
  JEVONS_RETURN_IF_ERROR(jevons::Train(train, world).status());
  JEVONS_ASSIGN_OR_RETURN(std::vector<double> losses, ReadLosses(output));
  return LossCurve{.name = variant.name, .text = variant.text, .loss = std::move(losses)};
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text << std::flush;
  return file.good() ? absl::OkStatus() : FailureError(path + ": cannot be written; look at the disk");
}

absl::StatusOr<RunInputs> LoadInputs(const Options& options, int ranks) {
  if (options.output.empty()) return UsageError("--output is empty: name a folder for the runs and the curves");
  JEVONS_ASSIGN_OR_RETURN(const RunConfig config, LoadRunConfig(options.config.path, options.config.overrides));
  JEVONS_RETURN_IF_ERROR(ValidationStatus(config, ranks));
  return ResolveInputs(config);
}

absl::Status Run(const Options& options, Communicator& host) {
  const absl::StatusOr<RunInputs> inputs = LoadInputs(options, host.size());
  JEVONS_RETURN_IF_ERROR(AgreeOnCommand(host, inputs.ok() ? absl::StatusOr<RunConfig>(inputs->config) : inputs.status()));
  const RunConfig& config = inputs->config;
  SetWatchdogDeadline(config.parallel().watchdog_seconds());
  JEVONS_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> gpus, OpenGpus(config, host));
  Communicator& world = gpus ? *gpus : host;
  std::vector<Variant> variants = {kBase, kFp8};
  if (options.ablations) variants.insert(variants.end(), std::begin(kAblations), std::end(kAblations));
  std::vector<LossCurve> curves;
  for (const Variant& variant : variants) {
    JEVONS_ASSIGN_OR_RETURN(LossCurve curve, TrainVariant(variant, options, *inputs, world));
    if (!curves.empty() && curve.loss.size() != curves.front().loss.size())
      return IntegrityError(absl::StrFormat("%s: %s has %d steps and %s has %d; remove the folder and run again", options.output,
                                            curves.front().name, curves.front().loss.size(), curve.name, curve.loss.size()));
    curves.push_back(std::move(curve));
  }
  if (world.rank() != 0) return absl::OkStatus();
  JEVONS_RETURN_IF_ERROR(WriteFile(options.output + "/fp8_gap.csv", CurvesCsv(curves)));
  JEVONS_RETURN_IF_ERROR(WriteFile(options.output + "/fp8_gap.svg", CurvesSvg(curves)));
  WriteOut(CurvesTable(curves));
  return absl::OkStatus();
}

}  // namespace

void RegisterBenchFp8Gap(CLI::App& bench, int* exit_code) {
  CLI::App* command = AddCommand(bench, "fp8-gap", "Trains from one seed without and with FP8 products, and compares the losses.",
                                 "jevons bench fp8-gap --config configs/presets/fp8_gap_cpu.textproto --output runs/fp8-gap");
  auto options = std::make_shared<Options>();
  AddConfigOptions(*command, options->config, /*required=*/true);
  command->add_option("--output", options->output, "folder for the runs and the curves; the same command resumes")
      ->capture_default_str();
  command->add_flag(
      "--ablations", options->ablations,
      "also: gradients in blocks of 128x128; sums that are not promoted; and FP32, whose gap is what rounding alone makes");
  command->callback([options, exit_code] {
    options->stop = CatchStopSignals();
    *exit_code = RunOnRanks([&](Communicator& world) { return Run(*options, world); });
  });
}

}  // namespace jevons
