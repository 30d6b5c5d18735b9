#include "trainer/report/page.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "trainer/metrics/human.h"
#include "trainer/report/chart.h"
#include "trainer/report/page_style.h"
#include "trainer/report/sections.h"

namespace jevons {
namespace {

std::string Heading(int level, const std::string& text) {
  return absl::StrFormat("<h%d>%s</h%d>\n", level, EscapedMarkup(text), level);
}

std::string RunHtml(const RunHistory& run, const RunFacts& facts, int level) {
  std::string html = TilesHtml(run);
  const auto part = [&](const char* name, const std::string& body) { absl::StrAppend(&html, Heading(level, name), body); };
  part("What was trained", WhatHtml(run, facts));
  part("Curves", CurvesHtml(run));
  part("Time", TimeHtml(run));
  part("Cost", CostHtml(run, facts));
  part("Experts", ExpertsHtml(run, facts));
  part("Memory", MemoryHtml(facts));
  part("FP8", Fp8Html(run));
  part("A step on its ranks", TimelineHtml(facts));
  part("Samples", facts.samples.empty() ? "<p>None: what the run's folder has as samples.txt is shown here.</p>\n"
                                        : "<pre>" + EscapedMarkup(facts.samples) + "</pre>\n");
  part("Config", ConfigHtml(run, facts));
  return html;
}

std::string OverlaidHtml(std::span<const RunHistory> runs) {
  std::string html = "<div class=\"grid2\">\n";
  const auto add = [&](const std::string& title, Axis axis, const auto& curve_of, bool points) {
    LineChart chart{.title = title, .x_label = kAxisLabels[static_cast<size_t>(axis)], .log_y = true};
    bool all = true;
    for (size_t i = 0; i < runs.size(); ++i) {
      chart.series.push_back(
          {.name = runs[i].name, .curve = curve_of(runs[i], axis, Price()), .color = i % kSeriesColors, .points = points});
      all = all && !chart.series.back().curve.empty();
    }
    if (all) absl::StrAppend(&html, chart.Html());
  };
  for (const Axis axis : {Axis::kTokens, Axis::kFlops, Axis::kSeconds, Axis::kDollars, Axis::kReference})
    add(absl::StrFormat("Loss, smoothed, over %s", kAxisLabels[static_cast<size_t>(axis)]), axis, TrainingLoss, false);
  add("Validation loss over tokens", Axis::kTokens, ValidationLoss, true);
  return html + "</div>\n";
}

std::string ComparisonHtml(const RunComparison& comparison) {
  std::string html = "<div class=\"scroll wide\"><table>\n<tr><th></th>";
  for (const Column& column : comparison.columns) absl::StrAppend(&html, "<th class=\"n\">", EscapedMarkup(column.name), "</th>");
  html += "</tr>\n";
  const auto head = [&](const std::string& name) {
    absl::StrAppendFormat(&html, "<tr class=\"part\"><th colspan=\"%d\">%s</th></tr>\n", comparison.columns.size() + 1,
                          EscapedMarkup(name));
  };
  const auto row = [&](const std::string& name, const auto& cell) {
    absl::StrAppend(&html, "<tr><td>", EscapedMarkup(name), "</td>");
    for (size_t i = 0; i < comparison.columns.size(); ++i)
      absl::StrAppend(&html, "<td class=\"n\">", EscapedMarkup(cell(i)), "</td>");
    html += "</tr>\n";
  };
  if (!comparison.config.empty()) head("config");
  for (const FieldValues& field : comparison.config)
    row(field.path, [&](size_t i) { return ValuesOf(field, comparison.columns[i]); });
  std::string section;
  for (const Figure& figure : comparison.figures) {
    if (figure.section != section) head(section = figure.section);
    row(figure.label, [&](size_t i) { return FigureText(figure, i); });
  }
  html += "</table></div>\n";
  for (const std::string& note : comparison.notes) absl::StrAppend(&html, "<p class=\"soft\">", EscapedMarkup(note), ".</p>\n");
  return html;
}

}  // namespace

std::string ReportPage(std::span<const RunHistory> runs, std::span<const RunFacts> facts, const RunComparison& comparison) {
  const std::string title = runs.size() == 1 ? runs[0].name : absl::StrFormat("%d runs", runs.size());
  std::string html = absl::StrCat(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><title>",
      EscapedMarkup(title), "</title>\n<style>", kPageStyle, "</style></head><body>\n", Heading(1, title));
  if (runs.size() == 1) return html + RunHtml(runs[0], facts[0], 2) + "</body></html>\n";
  absl::StrAppend(&html, OverlaidHtml(runs), Heading(2, "Side by side"), ComparisonHtml(comparison));
  for (size_t i = 0; i < runs.size(); ++i)
    absl::StrAppend(&html, Heading(2, "Run " + runs[i].name), RunHtml(runs[i], facts[i], 3));
  return html + "</body></html>\n";
}

}  // namespace jevons
