// The parts of a page that show experts, memory, FP8, a step's ranks and the config.
#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/load.h"
#include "trainer/metrics/human.h"
#include "trainer/report/chart.h"
#include "trainer/report/sections.h"

namespace jevons {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostColumns = 100;     // of a map over time
constexpr size_t kMostMapCells = 20000;  // of layers x experts, on a page of under 1 MB
constexpr size_t kSnapshots = 4;

HeatScale LoadScale() {
  return {
      "load",
      {1e-9, 0.25, 0.5, 0.8, 1.25, 2, 4},
      {"none at all", "under 0.25", "0.25 to 0.5", "0.5 to 0.8", "0.8 to 1.25 of the mean", "1.25 to 2", "2 to 4", "4 and more"}};
}
HeatScale MostScale() {
  return {"much", {1.25, 1.5, 2, 3, 5}, {"max/mean under 1.25", "1.25 to 1.5", "1.5 to 2", "2 to 3", "3 to 5", "5 and more"}};
}

double MeanOfLayer(const std::vector<int64_t>& rows) {
  return rows.empty()
             ? 0
             : static_cast<double>(std::accumulate(rows.begin(), rows.end(), int64_t{0})) / static_cast<double>(rows.size());
}

std::vector<std::string> LayerNames(const RunHistory& run, size_t layers) {
  std::vector<std::string> names;
  const int64_t dense = run.config.model().dense_layers(), all = run.config.model().layers();
  for (size_t i = 0; i < layers; ++i) {
    const int64_t layer = dense + static_cast<int64_t>(i);
    names.push_back(layer < all ? absl::StrCat(layer) : absl::StrCat("MTP ", layer - all));
  }
  return names;
}

// At most `most` of them, evenly, the first and the last among them.
std::vector<size_t> Evenly(size_t count, size_t most) {
  std::vector<size_t> chosen;
  const size_t n = std::min(count, most);
  for (size_t i = 0; i < n; ++i) chosen.push_back(n == 1 ? 0 : i * (count - 1) / (n - 1));
  return chosen;
}

HeatMap OverTime(const RunHistory& run) {
  HeatMap map{.title = "Fullest expert of each layer: max/mean load over the run",
              .x_label = "step",
              .y_label = "layer",
              .rows = LayerNames(run, run.experts.back().layers.size()),
              .values = {},
              .scale = MostScale()};
  map.values.resize(map.rows.size());
  for (const size_t at : Evenly(run.experts.size(), kMostColumns)) {
    const ExpertLoads& loads = run.experts[at];
    if (loads.layers.size() != map.rows.size()) continue;
    map.columns.push_back(static_cast<double>(loads.step));
    for (size_t layer = 0; layer < loads.layers.size(); ++layer) {
      const auto& rows = loads.layers[layer];
      const double mean = MeanOfLayer(rows);
      map.values[layer].push_back(mean > 0 ? static_cast<double>(*std::max_element(rows.begin(), rows.end())) / mean : 0);
    }
  }
  return map;
}

HeatMap Snapshot(const RunHistory& run, const ExpertLoads& loads) {
  HeatMap map{.title = absl::StrFormat("Rows of each expert, step %d", loads.step),
              .x_label = "expert",
              .y_label = "layer",
              .rows = LayerNames(run, loads.layers.size()),
              .columns = {},
              .values = {},
              .scale = LoadScale()};
  for (const auto& rows : loads.layers) {
    const double mean = MeanOfLayer(rows);
    auto& cells = map.values.emplace_back();
    for (const int64_t count : rows) cells.push_back(mean > 0 ? static_cast<double>(count) / mean : 0);
  }
  return map;
}

std::string BiasHtml(const RunHistory& run, const RunFacts& facts) {
  if (facts.biases.empty()) return "<p>Gate biases: there is no checkpoint to read them from.</p>\n";
  // Only differences within a layer choose experts.
  std::vector<std::vector<double>> over_mean;
  double most = 0;
  for (const auto& [name, values] : facts.biases) {
    const double mean =
        std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(std::max<size_t>(values.size(), 1));
    auto& cells = over_mean.emplace_back();
    for (const double value : values) most = std::max(most, std::abs(cells.emplace_back(value - mean)));
  }
  if (most == 0) return "<p>The gate biases of each layer are all the same.</p>\n";
  std::vector<double> bounds;
  std::vector<std::string> labels;
  for (const double part : {-0.6, -0.3, -0.1, 0.1, 0.3, 0.6}) bounds.push_back(part * most);
  for (size_t i = 0; i <= bounds.size(); ++i)
    labels.push_back(i == 0               ? absl::StrFormat("under %.2g", bounds[0])
                     : i == bounds.size() ? absl::StrFormat("%.2g and more", bounds.back())
                                          : absl::StrFormat("%.2g to %.2g", bounds[i - 1], bounds[i]));
  HeatMap map{
      .title = absl::StrFormat("Gate bias of each expert over its layer's mean, checkpoint of step %d", facts.biases_step),
      .x_label = "expert",
      .y_label = "layer",
      .rows = LayerNames(run, facts.biases.size()),
      .columns = {},
      .values = std::move(over_mean),
      .scale = {"bias", bounds, labels}};
  return "<div class=\"grid2\">\n" + map.Html() + "</div>\n" + HeatLegend(map.scale);
}

// The class of a task by its kind, as parallel/pipeline/action.h prints it: "0F7", "2B0", "0F7&5B1".
const char* ActionClass(const std::string& name) {
  if (name == "wait") return "much0";
  if (absl::StrContains(name, "&")) return "a3";
  const size_t kind = name.find_first_not_of("0123456789");
  switch (kind == std::string::npos ? ' ' : name[kind]) {
    case 'F': return "a0";
    case 'B':
    case 'I': return "a2";
    case 'W': return "a4";
    case 'R': return "a1";
    default: return "a5";
  }
}

}  // namespace

std::string ExpertsHtml(const RunHistory& run, const RunFacts& facts) {
  if (run.config.model().layers() == run.config.model().dense_layers() && run.config.model().mtp().depth() == 0)
    return "<p>The model has no experts.</p>\n";
  std::string html = "<div class=\"grid2\">\n";
  html += LineChart{.title = "Load of the fullest expert, worst layer, over the mean",
                    .x_label = "tokens",
                    .series = {{.name = "", .curve = run.OverTokens("load/max_over_mean"), .color = 1}}}
              .Html();
  html += LineChart{.title = "Dead experts: no rows in a step",
                    .x_label = "tokens",
                    .series = {{.name = "", .curve = run.OverTokens("load/dead_experts"), .color = 7}},
                    .zero = true}
              .Html();
  if (run.experts.empty())
    return html + "</div>\n<p>There is no record of each expert's rows (experts.jsonl).</p>\n" + BiasHtml(run, facts);
  html += OverTime(run).Html() + "</div>\n" + HeatLegend(MostScale()) + "<div class=\"grid2\">\n";
  const ExpertLoads& last = run.experts.back();
  const size_t cells = last.layers.empty() ? 0 : last.layers.size() * last.layers[0].size();
  for (const size_t at :
       Evenly(run.experts.size(), std::clamp<size_t>(kMostMapCells / std::max<size_t>(cells, 1), 1, kSnapshots)))
    html += Snapshot(run, run.experts[at]).Html();
  return html + "</div>\n" + HeatLegend(LoadScale()) + BiasHtml(run, facts);
}

std::string MemoryHtml(const RunFacts& facts) {
  const Json summary = Json::parse(facts.summary, nullptr, /*allow_exceptions=*/false);
  if (!summary.is_object() || !summary.contains("memory_class_bytes") || !summary["memory_class_bytes"].is_object())
    return "<p>Not known before the run has ended: summary.json is written then.</p>\n";
  const auto shares = [](const Json& object) {
    std::vector<Share> shares;
    if (object.is_object())
      for (const auto& [name, bytes] : object.items())
        if (bytes.is_number())
          shares.push_back({name, absl::StrFormat("%.1f MiB", bytes.get<double>() / (1 << 20)), bytes.get<double>()});
    return ShareTable(shares);
  };
  std::string html = "<p>Of the first rank, at its fullest.</p>\n" + shares(summary["memory_class_bytes"]);
  html += "<details><summary>Activations kept for backward, when most was held</summary>" +
          shares(summary.value("memory_saved_bytes", Json())) + "</details>\n";
  return html;
}

std::string Fp8Html(const RunHistory& run) {
  std::vector<Series> saturated, underflowed;
  size_t color = 0;
  for (const char* name : {"activations", "gradients", "weights", "cached"}) {
    saturated.push_back({.name = name, .curve = run.OverTokens(absl::StrCat("fp8/", name, "_saturated")), .color = color});
    underflowed.push_back({.name = name, .curve = run.OverTokens(absl::StrCat("fp8/", name, "_underflowed")), .color = color++});
  }
  if (std::all_of(saturated.begin(), saturated.end(), [](const Series& s) { return s.curve.empty(); }))
    return "<p>No products were in FP8.</p>\n";
  std::string html =
      "<div class=\"grid2\">\n" +
      LineChart{.title = "Share of FP8 values that became 0", .x_label = "tokens", .series = underflowed, .log_y = true}.Html() +
      LineChart{.title = "Share of FP8 values that were too large", .x_label = "tokens", .series = saturated, .zero = true}
          .Html();
  Curve gap;
  for (const MetricsRecord& record : run.steps) {
    const auto shadow = record.Value("shadow/loss"), loss = record.Value("loss/main"), tokens = record.Value("tokens");
    if (shadow && loss && tokens && std::isfinite(*loss / *shadow)) gap.Add(*tokens, 100 * (*loss / *shadow - 1));
  }
  if (!gap.empty())
    html += LineChart{.title = "Loss in FP8 against the same step without, %",
                      .x_label = "tokens",
                      .series = {{.name = "", .curve = gap, .color = 1, .points = true}}}
                .Html();
  return html + "</div>\n";
}

std::string TimelineHtml(const RunFacts& facts) {
  if (facts.trace.empty()) return "<p>No step was traced: <code>train --trace RUN/trace.json</code> keeps one.</p>\n";
  const Json trace = Json::parse(facts.trace, nullptr, /*allow_exceptions=*/false);
  if (!trace.is_object() || !trace.contains("traceEvents")) return "<p>trace.json is no trace.</p>\n";
  struct Thread {
    std::string name;
    std::vector<std::pair<std::string, std::pair<double, double>>> tasks;  // name, begin and length, seconds
  };
  std::map<int64_t, Thread> threads;  // of the measured step, process 0
  double end = 0;
  for (const Json& event : trace["traceEvents"]) {
    if (event.value("pid", -1) != 0) continue;
    Thread& thread = threads[event.value("tid", int64_t{0})];
    if (event.value("ph", "") == "M" && event.value("name", "") == "thread_name") thread.name = event["args"].value("name", "");
    if (event.value("ph", "") != "X") continue;
    const double begin = event.value("ts", 0.0) * 1e-6, length = event.value("dur", 0.0) * 1e-6;
    thread.tasks.push_back({event.value("name", ""), {begin, length}});
    end = std::max(end, begin + length);
  }
  std::erase_if(threads, [](const auto& thread) { return thread.second.tasks.empty(); });
  if (end <= 0) return "<p>trace.json holds no task.</p>\n";
  constexpr double kWide = 1200, kNames = 120, kRow = 18;
  const double high = kRow * static_cast<double>(threads.size());
  std::string svg =
      absl::StrFormat("<svg viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"a step on its ranks\">", kWide, high + 24);
  double top = 0;
  for (const auto& [tid, thread] : threads) {
    absl::StrAppendFormat(&svg, "<text x=\"0\" y=\"%.0f\">%s</text>", top + 13, EscapedMarkup(thread.name));
    for (const auto& [name, at] : thread.tasks)
      absl::StrAppendFormat(
          &svg, "<rect class=\"%s\" x=\"%.5g\" y=\"%g\" width=\"%.4g\" height=\"14\"><title>%s %.3g ms</title></rect>",
          ActionClass(name), kNames + (kWide - kNames) * at.first / end, top + 2,
          std::max(0.5, (kWide - kNames) * at.second / end - 0.4), EscapedMarkup(name), 1e3 * at.second);
    top += kRow;
  }
  absl::StrAppendFormat(&svg, "<text x=\"%g\" y=\"%g\">0</text><text x=\"%g\" y=\"%g\" text-anchor=\"end\">%.3g ms</text></svg>",
                        kNames, high + 16, kWide, high + 16, 1e3 * end);
  std::string legend = "<p class=\"legend\">";
  for (const auto& [color, name] : {std::pair{"a0", "forward"},
                                    {"a2", "backward"},
                                    {"a4", "weight gradients"},
                                    {"a3", "forward beside backward"},
                                    {"a1", "forward again"},
                                    {"much0", "waits"},
                                    {"a5", "other"}})
    absl::StrAppendFormat(&legend,
                          "<span class=\"key\"><svg viewBox=\"0 0 12 12\" class=\"swatch\"><rect width=\"12\" height=\"12\" "
                          "class=\"%s\"/></svg>%s</span>",
                          color, name);
  return "<div class=\"scroll wide\">" + svg + "</div>\n" + legend + "</p>\n";
}

std::string ConfigHtml(const RunHistory& run, const RunFacts& facts) {
  std::string html;
  if (!facts.preset.empty()) {
    std::vector<std::vector<std::string>> rows = {{"field", facts.preset, "this run"}};
    for (const FieldValues& field : facts.from_preset) rows.push_back({field.path, field.values[0], field.values[1]});
    html =
        absl::StrFormat("<p>Nearest preset: %s; %d fields differ.</p>\n", EscapedMarkup(facts.preset), facts.from_preset.size());
    if (!facts.from_preset.empty()) html += HtmlTable(rows, 3);
  }
  return html + "<details><summary>The whole config</summary><pre>" + EscapedMarkup(ResolvedText(run.config)) +
         "</pre></details>\n";
}

}  // namespace jevons
