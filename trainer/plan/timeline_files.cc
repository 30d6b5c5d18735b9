#include "trainer/plan/timeline_files.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "trainer/metrics/human.h"
#include "trainer/plan/report.h"

namespace jevons {
namespace {

constexpr double kWidth = 1200, kRow = 16;

const char* ColourOf(const Action& action) {
  if (action.overlapped()) return "#7b5ea7";
  switch (action.first().kind) {
    case TaskKind::kForward: return "#4a90d9";
    case TaskKind::kBackward: return "#3c9d6a";
    case TaskKind::kBackwardInput: return "#67b98b";
    case TaskKind::kBackwardWeight: return "#d9a441";
    default: return "#999999";
  }
}

std::string TimelineSvg(const Plan& plan) {
  const double scale = kWidth / plan.timeline.makespan;
  std::string svg = absl::StrFormat("<svg viewBox=\"0 0 %.0f %.0f\" width=\"100%%\" role=\"img\" aria-label=\"pipeline\">\n",
                                    kWidth + 60, kRow * plan.schedule.ranks() + 20);
  for (int r = 0; r < plan.schedule.ranks(); ++r) {
    absl::StrAppendFormat(&svg, "<text x=\"0\" y=\"%.0f\" font-size=\"10\">rank %d</text>\n", kRow * r + 11, r);
    for (size_t i = 0; i < plan.schedule.actions[r].size(); ++i) {
      const Action& action = plan.schedule.actions[r][i];
      const TimeSpan& at = plan.timeline.ranks[r].actions[i];
      if (action.communicates()) continue;
      absl::StrAppendFormat(
          &svg, "<rect x=\"%.2f\" y=\"%.0f\" width=\"%.2f\" height=\"13\" fill=\"%s\"><title>%s %.1f ms</title></rect>\n",
          50 + at.begin * scale, kRow * r, std::max(0.3, (at.end - at.begin) * scale - 0.3), ColourOf(action),
          EscapedMarkup(ToString(action)), 1e3 * (at.end - at.begin));
    }
  }
  return svg + "</svg>\n";
}

std::string BarSvg(const std::vector<std::pair<std::string, double>>& bars) {
  double most = 1e-12;
  for (const auto& bar : bars) most = std::max(most, bar.second);
  std::string svg = absl::StrFormat("<svg viewBox=\"0 0 700 %d\" width=\"700\">\n", 20 * bars.size() + 4);
  for (size_t i = 0; i < bars.size(); ++i) {
    absl::StrAppendFormat(&svg,
                          "<text x=\"0\" y=\"%d\" font-size=\"12\">%s</text><rect x=\"220\" y=\"%d\" width=\"%.1f\" "
                          "height=\"14\" fill=\"#4a90d9\"/>"
                          "<text x=\"%.1f\" y=\"%d\" font-size=\"12\">%.3f s</text>\n",
                          20 * i + 14, EscapedMarkup(bars[i].first), 20 * i + 3, 400 * bars[i].second / most,
                          226 + 400 * bars[i].second / most, 20 * i + 14, bars[i].second);
  }
  return svg + "</svg>\n";
}

}  // namespace

std::string TraceJson(const std::vector<TraceProcess>& processes) {
  nlohmann::ordered_json events = nlohmann::ordered_json::array();
  for (size_t pid = 0; pid < processes.size(); ++pid) {
    const auto name = [&](const char* what, size_t tid, const std::string& value) {
      events.push_back({{"name", what}, {"ph", "M"}, {"pid", pid}, {"tid", tid}, {"args", {{"name", value}}}});
    };
    if (!processes[pid].name.empty()) name("process_name", 0, processes[pid].name);
    for (size_t tid = 0; tid < processes[pid].threads.size(); ++tid) {
      const TraceThread& thread = processes[pid].threads[tid];
      name("thread_name", tid, thread.name);
      for (const TraceEvent& event : thread.events)
        events.push_back({{"name", event.name},
                          {"ph", "X"},
                          {"ts", event.at.begin * 1e6},
                          {"dur", (event.at.end - event.at.begin) * 1e6},
                          {"pid", pid},
                          {"tid", tid}});
    }
  }
  return nlohmann::ordered_json({{"displayTimeUnit", "ms"}, {"traceEvents", events}}).dump() + "\n";
}

std::string TraceJson(const Plan& plan) {
  TraceProcess step;
  for (int r = 0; r < plan.schedule.ranks(); ++r) {
    TraceThread& thread = step.threads.emplace_back();
    thread.name = absl::StrFormat("rank %d", r);
    for (size_t i = 0; i < plan.schedule.actions[r].size(); ++i)
      thread.events.push_back({ToString(plan.schedule.actions[r][i]), plan.timeline.ranks[r].actions[i]});
    thread.events.push_back({"optimizer", {plan.timeline.makespan, plan.timeline.makespan + plan.lines.optimizer}});
  }
  return TraceJson({step});
}

std::string PlanHtml(const Plan& plan, const RunPlan& run) {
  const StepLines& l = plan.lines;
  std::vector<std::pair<std::string, double>> kernels;
  for (size_t i = 0; i < kCosts; ++i)
    if (plan.work.seconds[i] > 0) kernels.emplace_back(kCostNames[i], plan.work.seconds[i]);
  std::string html =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>jevons plan</title>\n"
      "<style>body{font-family:sans-serif;max-width:1300px;margin:2em auto;padding:0 "
      "1em}pre{background:#f4f4f4;padding:1em;overflow:auto}</style></head><body>\n";
  html += "<h1>" + EscapedMarkup(plan.layout.ToString()) + "</h1>\n<h2>One step of the pipeline</h2>\n";
  html +=
      "<p>Blue: forward. Green: backward (light: input gradients alone). Yellow: weight gradients. Violet: forward beside "
      "backward. White: idle.</p>\n";
  html += TimelineSvg(plan);
  html += "<h2>Where a step goes, mean of the ranks</h2>\n" + BarSvg({{"forward alone", l.forward},
                                                                      {"backward alone", l.backward},
                                                                      {"weight gradients alone", l.weight},
                                                                      {"forward beside backward", l.overlapped},
                                                                      {"bubble and waiting", l.bubble},
                                                                      {"optimizer", l.optimizer}});
  html += "<h2>Kernels, each alone on the GPU</h2>\n" + BarSvg(kernels);
  html += "<h2>All figures</h2>\n<pre>" + EscapedMarkup(PlanText(plan, run)) + "\n" + EscapedMarkup(StagesText(plan)) + "\n" +
          EscapedMarkup(ConstantsText({})) + "</pre>\n";
  return html + "</body></html>\n";
}

}  // namespace jevons
