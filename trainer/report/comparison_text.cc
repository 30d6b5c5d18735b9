// A comparison, told: for people and for programs.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "trainer/report/comparison.h"

namespace jevons {
namespace {

using Json = nlohmann::ordered_json;
using Rows = std::vector<std::vector<std::string>>;

std::string MeasuredText(const std::optional<Measured>& measured) {
  if (!measured) return "-";
  if (measured->values.size() == 1) return absl::StrFormat("%.5g", measured->values[0]);
  return absl::StrFormat("%.5g +/- %.2g", measured->mean(), measured->spread());
}

// Columns as wide as their widest cell; the first stands left, the others right. A row of one cell is a heading.
std::string Table(const Rows& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    if (row.size() < 2) continue;
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i)
      absl::StrAppend(&text, i == 0 ? "" : "  ",
                      absl::StrFormat("%*s", (i == 0 ? -1 : 1) * (row.size() > 1 ? static_cast<int>(widths[i]) : 0), row[i]));
    text.erase(text.find_last_not_of(' ') + 1);
    text += "\n";
  }
  return text;
}

Json MeasuredJson(const std::optional<Measured>& measured) {
  if (!measured) return Json();
  return {{"mean", measured->mean()}, {"spread", measured->spread()}, {"values", measured->values}};
}

}  // namespace

std::string ValuesOf(const FieldValues& field, const Column& column) {
  std::vector<std::string> values;
  for (const size_t run : column.runs)
    if (std::find(values.begin(), values.end(), field.values[run]) == values.end()) values.push_back(field.values[run]);
  return absl::StrJoin(values, ", ");
}

std::string FigureText(const Figure& figure, size_t column) {
  std::string text = MeasuredText(figure.columns[column]);
  if (!figure.relative || column == 0 || !figure.columns[column] || !figure.columns[0] || figure.columns[0]->mean() == 0)
    return text;
  return absl::StrFormat("%s (%+.2f%%)", text, 100 * (figure.columns[column]->mean() / figure.columns[0]->mean() - 1));
}

std::string RunComparisonText(const RunComparison& comparison) {
  Rows rows = {{""}};
  for (const Column& column : comparison.columns) rows[0].push_back(column.name);
  if (!comparison.config.empty()) rows.push_back({"config"});
  for (const FieldValues& field : comparison.config) {
    auto& row = rows.emplace_back(std::vector<std::string>{"  " + field.path});
    for (const Column& column : comparison.columns) row.push_back(ValuesOf(field, column));
  }
  std::string section;
  for (const Figure& figure : comparison.figures) {
    if (figure.section != section) rows.push_back({section = figure.section});
    auto& row = rows.emplace_back(std::vector<std::string>{"  " + figure.label});
    for (size_t i = 0; i < figure.columns.size(); ++i) row.push_back(FigureText(figure, i));
  }
  std::string text = Table(rows);
  for (const std::string& note : comparison.notes) absl::StrAppend(&text, "# ", note, "\n");
  return text;
}

std::string RunComparisonJson(const RunComparison& comparison) {
  Json json = {{"at", kAxisNames[static_cast<size_t>(comparison.at)]}};
  for (const ComparedRun& run : comparison.runs)
    json["runs"].push_back({{"path", run.path}, {"name", run.name}, {"tags", run.tags}});
  for (const Column& column : comparison.columns) json["columns"].push_back({{"name", column.name}, {"runs", column.runs}});
  json["config"] = Json::array();
  for (const FieldValues& field : comparison.config) json["config"].push_back({{"field", field.path}, {"values", field.values}});
  for (const Figure& figure : comparison.figures) {
    Json columns = Json::array();
    for (const auto& measured : figure.columns) columns.push_back(MeasuredJson(measured));
    Json& at = json["figures"].emplace_back(Json{{"name", figure.name}, {"section", figure.section}});
    if (figure.budget) at["budget"] = *figure.budget;
    at["columns"] = std::move(columns);
  }
  json["notes"] = comparison.notes;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace jevons
