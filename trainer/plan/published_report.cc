#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "trainer/plan/published.h"

namespace jevons {
namespace {

struct Errors {
  int rows = 0, within = 0;
  double sum = 0, worst = 0;

  void Add(double error) {
    ++rows;
    within += std::abs(error) <= 0.1;
    sum += std::abs(error);
    worst = std::max(worst, std::abs(error));
  }
  std::string ToString() const {
    return absl::StrFormat("%d rows, mean error %.1f%%, worst %.1f%%, %d within 10%%\n", rows, 100 * sum / rows, 100 * worst,
                           within);
  }
};

}  // namespace

nlohmann::ordered_json ValidationJson(const std::vector<Prediction>& predictions) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const Prediction& p : predictions) {
    nlohmann::ordered_json row = {{"line", p.run.line},
                                  {"model", p.run.model},
                                  {"hardware", p.run.hardware},
                                  {"gpus", p.run.gpus},
                                  {"in_sight", p.run.in_sight}};
    if (!p.plan) {
      row["error"] = std::string(p.status.message());
    } else {
      row["tokens_per_s"] = p.plan->tokens_per_second_per_gpu();
      row["tflops"] = p.plan->tflops(true);
      row["mem_gb"] = p.plan->mean_memory() / 1e9;
      row["step_seconds"] = p.plan->step_seconds;
      row["layout"] = p.plan->layout.ToString();
      row["assumed"] = p.assumed;
      if (p.speed_error) row["speed_error"] = *p.speed_error;
      if (p.memory_error) row["memory_error"] = *p.memory_error;
    }
    rows.push_back(row);
  }
  return rows;
}

std::string ValidationText(const std::vector<Prediction>& predictions) {
  std::string text = absl::StrFormat("%4s %-20s %-6s %5s %-14s %11s %11s %7s %8s %8s %7s  %s\n", "line", "model", "GPU", "GPUs",
                                     "precision", "published", "predicted", "error", "GB", "pred.", "error", "assumed");
  Errors fitted, blind;
  for (const Prediction& p : predictions) {
    const PublishedRun& run = p.run;
    absl::StrAppendFormat(&text, "%4d %-20s %-6s %5d %-14s ", run.line, run.model, run.hardware, run.gpus, run.precision);
    if (!p.plan) {
      absl::StrAppend(&text, "not predicted: ", p.status.message(), "\n");
      continue;
    }
    const bool rate = run.tokens_per_s.has_value();
    const auto cell = [](std::optional<double> value, const char* unit) {
      return value ? absl::StrFormat("%.5g%s", *value, unit) : std::string("-");
    };
    const auto error = [](std::optional<double> value) {
      return value ? absl::StrFormat("%+.1f%%", 100 * *value) : std::string("-");
    };
    const char* unit = rate ? " t/s" : run.tflops ? " TF" : "";
    absl::StrAppendFormat(
        &text, "%11s %11s %7s %8s %8.1f %7s  %s%s%s recomputation%s\n", cell(rate ? run.tokens_per_s : run.tflops, unit),
        cell(rate ? p.plan->tokens_per_second_per_gpu() : p.plan->tflops(true), unit), error(p.speed_error), cell(run.mem_gb, ""),
        p.plan->mean_memory() / 1e9, error(p.memory_error), p.assumed, p.assumed.empty() ? "" : ", ",
        Name(p.plan->layout.recompute), p.plan->layout.gradient_bytes < 4 ? ", BF16 gradients" : "");
    if (p.speed_error) (run.in_sight ? fitted : blind).Add(*p.speed_error);
  }
  if (fitted.rows > 0) absl::StrAppend(&text, "speed, rows known when constants were chosen: ", fitted.ToString());
  if (blind.rows > 0) absl::StrAppend(&text, "speed, other rows: ", blind.ToString());
  return text;
}

}  // namespace jevons
