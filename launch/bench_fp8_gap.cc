#include "launch/bench_fp8_gap.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "configs/load.h"
#include "configs/validate.h"
#include "kernels/base/log.h"
#include "launch/cli.h"
#include "launch/runtime.h"
#include "parallel/comm/watchdog.h"
#include "trainer/metrics/jsonl.h"
#include "trainer/train_loop.h"

namespace jevons {
namespace {

// The report compares curves smoothed so (appendix B.1: exponential moving average, coefficient 0.9).
constexpr double kSmoothing = 0.9;
constexpr int kTableRows = 10;

struct Options {
  ConfigOptions config;
  std::string output;
};

using Curve = std::vector<double>;  // the training loss of step 1, 2, ...

absl::StatusOr<Curve> ReadCurve(const std::string& run) {
  const std::string path = run + "/metrics.jsonl";
  std::ifstream file(path);
  Curve curve;
  for (std::string line; std::getline(file, line);) {
    const auto record = FromJsonLine(line + "\n");
    if (!record) return IntegrityError(path + ": has a line that is no record; remove the folder and run again");
    for (const auto& [name, value] : record->values)
      if (name == "loss/main") curve.push_back(value);
  }
  if (curve.empty()) return IntegrityError(path + ": has no losses; remove the folder and run again");
  return curve;
}

Curve Smoothed(Curve curve) {
  for (size_t i = 1; i < curve.size(); ++i) curve[i] = kSmoothing * curve[i - 1] + (1 - kSmoothing) * curve[i];
  return curve;
}

absl::StatusOr<Curve> TrainWith(ProductType product, const std::string& output, RunConfig config, Communicator& world) {
  config.mutable_precision()->set_gemm(product);
  JEVONS_RETURN_IF_ERROR(ValidationStatus(config, world.size()));
  JEVONS_ASSIGN_OR_RETURN(RunInputs inputs, ResolveInputs(config));
  const int threads = SetThreads(config, world);
  TrainOptions train{.inputs = std::move(inputs), .output = output, .meter = {}, .stop = nullptr, .labels = {}};
  train.meter = MeasureMeter(train.inputs.config, world, threads);
  const std::string products = ProductsText(train.inputs.config);
  train.labels = {{"instruction_set", products}, {kTokenizerLabel, train.inputs.tokenizer_hash}};
  if (world.rank() == 0) LogInfo(absl::StrFormat("%s: products in %s", output, products));
  JEVONS_RETURN_IF_ERROR(jevons::Train(train, world).status());
  return ReadCurve(output);
}

// Both curves over the steps, for any viewer.
std::string Svg(const Curve& base, const Curve& fp8) {
  constexpr double kWidth = 900, kHeight = 480, kMargin = 50;
  const auto [low, high] = std::minmax_element(base.begin(), base.end());
  const auto points = [&](const Curve& curve) {
    std::string text;
    for (size_t i = 0; i < curve.size(); ++i)
      absl::StrAppendFormat(&text, "%.1f,%.1f ", kMargin + (kWidth - 2 * kMargin) * static_cast<double>(i) / static_cast<double>(curve.size()),
                            kHeight - kMargin - (kHeight - 2 * kMargin) * (curve[i] - *low) / std::max(1e-9, *high - *low));
    return text;
  };
  return absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" font-family=\"sans-serif\" font-size=\"14\">\n"
      "<polyline points=\"%s\" fill=\"none\" stroke=\"#1f77b4\"/>\n<polyline points=\"%s\" fill=\"none\" stroke=\"#d62728\"/>\n"
      "<text x=\"%g\" y=\"30\">training loss, smoothed: blue without FP8, red with; %d steps, %.4f to %.4f</text>\n</svg>\n",
      kWidth, kHeight, points(base), points(fp8), kMargin, base.size(), base.front(), base.back());
}

absl::Status WriteFiles(const std::string& folder, const Curve& base, const Curve& fp8) {
  std::ofstream csv(folder + "/fp8_gap.csv"), svg(folder + "/fp8_gap.svg");
  csv << "step,base,fp8,base_smoothed,fp8_smoothed\n";
  const Curve base_smoothed = Smoothed(base), fp8_smoothed = Smoothed(fp8);
  for (size_t i = 0; i < base.size(); ++i)
    csv << absl::StrFormat("%d,%.6f,%.6f,%.6f,%.6f\n", i + 1, base[i], fp8[i], base_smoothed[i], fp8_smoothed[i]);
  svg << Svg(base_smoothed, fp8_smoothed);
  csv.flush();
  svg.flush();
  return csv.good() && svg.good() ? absl::OkStatus() : FailureError(folder + ": the curves cannot be written; look at the disk");
}

std::string Table(const Curve& base, const Curve& fp8) {
  const Curve a = Smoothed(base), b = Smoothed(fp8);
  const auto gap = [&](size_t i) { return 100 * (b[i] - a[i]) / a[i]; };
  std::string text = "step         without FP8     with FP8    difference\n";
  for (int row = 1; row <= kTableRows; ++row) {
    const size_t i = a.size() * static_cast<size_t>(row) / kTableRows;
    if (i > 0) absl::StrAppendFormat(&text, "%-10d %13.4f %12.4f %+12.3f%%\n", i, a[i - 1], b[i - 1], gap(i - 1));
  }
  double largest = 0;
  for (size_t i = a.size() / 2; i < a.size(); ++i) largest = std::max(largest, std::abs(gap(i)));
  absl::StrAppendFormat(&text, "relative difference of the smoothed losses: %+.3f%% at the end, at most %.3f%% over the second half\n",
                        gap(a.size() - 1), largest);
  return text;
}

absl::Status Run(const Options& options, Communicator& world) {
  if (options.output.empty()) return UsageError("--output is not given: name a folder for the two runs and the curves");
  JEVONS_ASSIGN_OR_RETURN(const RunConfig config, LoadRunConfig(options.config.path, options.config.overrides));
  SetWatchdogDeadline(config.parallel().watchdog_seconds());
  JEVONS_ASSIGN_OR_RETURN(const Curve base, TrainWith(AS_COMPUTE, options.output + "/base", config, world));
  JEVONS_ASSIGN_OR_RETURN(const Curve fp8, TrainWith(FP8_BLOCK, options.output + "/fp8", config, world));
  if (base.size() != fp8.size())
    return IntegrityError(absl::StrFormat("%s: the runs have %d and %d steps; remove the folder and run again", options.output, base.size(),
                                          fp8.size()));
  if (world.rank() != 0) return absl::OkStatus();
  JEVONS_RETURN_IF_ERROR(WriteFiles(options.output, base, fp8));
  WriteOut(Table(base, fp8));
  return absl::OkStatus();
}

}  // namespace

void RegisterBenchFp8Gap(CLI::App& bench, int* exit_code) {
  CLI::App* command = AddCommand(bench, "fp8-gap", "Trains twice from one seed, without and with FP8 products, and compares the losses.",
                                 "jevons bench fp8-gap --config configs/presets/fp8_gap_cpu.textproto --set data.path=data --output gap");
  auto options = std::make_shared<Options>();
  AddConfigOptions(*command, options->config, /*required=*/true);
  command->add_option("--output", options->output, "folder for the two runs and the curves; the same command resumes");
  command->callback([options, exit_code] {
    auto session = StartRanks();
    *exit_code = session.ok() ? FinishRanks(Run(*options, (*session)->world()), (*session)->world()) : Finish(session.status());
  });
}

}  // namespace jevons
