// The table of published runs: CSV in.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/nearest.h"
#include "kernels/base/status.h"
#include "trainer/plan/published.h"

namespace jevons {
namespace {

using Cells = std::vector<std::string>;

// Records of cells; a quoted cell may hold commas, doubled quotes and line ends.
struct Record {
  int line = 0;
  Cells cells;
};

absl::StatusOr<std::vector<Record>> ReadRecords(const std::string& text, const std::string& name) {
  std::vector<Record> records;
  int line = 1;
  size_t i = text.rfind("\xEF\xBB\xBF", 0) == 0 ? 3 : 0;
  while (i < text.size()) {
    if (text[i] == '#') {
      while (i < text.size() && text[i] != '\n') ++i;
      if (i < text.size()) ++i, ++line;
      continue;
    }
    Record record{.line = line, .cells = {""}};
    bool quoted = false;
    for (; i < text.size() && (quoted || text[i] != '\n'); ++i) {
      const char c = text[i];
      if (c == '\n') ++line;
      if (c == '"' && quoted && i + 1 < text.size() && text[i + 1] == '"') {
        record.cells.back() += '"';
        ++i;
      } else if (c == '"') {
        quoted = !quoted;
      } else if (c == ',' && !quoted) {
        record.cells.emplace_back();
      } else {
        record.cells.back() += c;
      }
    }
    if (quoted) return UsageError(absl::StrFormat("%s:%d: a quote does not end", name, record.line));
    if (i < text.size()) ++i, ++line;
    for (std::string& cell : record.cells) cell = std::string(absl::StripAsciiWhitespace(cell));
    if (record.cells.size() > 1 || !record.cells[0].empty()) records.push_back(std::move(record));
  }
  return records;
}

class RowReader {
 public:
  RowReader(const std::string& name, const Cells& header, const Record& record) : name_(name), header_(header), record_(record) {}

  std::string Text(absl::string_view column) const {
    for (size_t c = 0; c < header_.size(); ++c)
      if (absl::EqualsIgnoreCase(header_[c], column)) return c < record_.cells.size() ? record_.cells[c] : "";
    return "";
  }

  std::optional<double> Real(absl::string_view column) {
    const std::string cell = Text(column);
    double value = 0;
    if (cell.empty()) return std::nullopt;
    if (absl::SimpleAtod(cell, &value) && std::isfinite(value) && value > 0 && value < 1e12) return value;
    Complain(column, cell, "must be a positive number, or empty");
    return std::nullopt;
  }

  std::optional<int64_t> Count(absl::string_view column) {
    const std::optional<double> value = Real(column);
    if (!value) return std::nullopt;
    if (*value == std::floor(*value) && *value <= 1e9) return static_cast<int64_t>(*value);
    Complain(column, Text(column),
             absl::StrCat("must be a whole number up to 1e9; nearest: ", std::max(1.0, std::round(std::min(*value, 1e9)))));
    return std::nullopt;
  }

  bool Yes(absl::string_view column) {
    const std::string cell = Text(column);
    if (!cell.empty() && !absl::EqualsIgnoreCase(cell, "yes")) Complain(column, cell, "must be yes, or empty");
    return !cell.empty();
  }

  void Complain(absl::string_view column, const std::string& value, const std::string& rule) {
    if (problem_.empty())
      problem_ = absl::StrFormat("%s:%d: %s = %s: %s", name_, record_.line, column, value.empty() ? "not set" : value, rule);
  }
  const std::string& problem() const { return problem_; }

 private:
  const std::string& name_;
  const Cells& header_;
  const Record& record_;
  std::string problem_;
};

constexpr const char* kColumns[] = {"source", "model",        "hardware", "gpus",   "precision", "seq",
                                    "gbs",    "mbs",          "tp",       "pp",     "cp",        "vpp",
                                    "ep",     "tokens_per_s", "tflops",   "mem_gb", "in_sight",  "notes"};

// Needed columns must be there, and none may be misspelt; others are the table's own.
absl::Status CheckHeader(const Cells& header, const std::string& place) {
  const auto has = [&](absl::string_view wanted) {
    return std::any_of(header.begin(), header.end(),
                       [&](const std::string& column) { return absl::EqualsIgnoreCase(column, wanted); });
  };
  constexpr size_t kTellingLength = 5;  // shorter names are near to others that are meant
  constexpr int kSlips = 2;
  for (const std::string& column : header) {
    for (const char* known : kColumns) {
      const std::string lower = absl::AsciiStrToLower(column);
      const bool near =
          std::min(lower.size(), std::strlen(known)) >= kTellingLength && lower != known && EditDistance(lower, known) <= kSlips;
      if (near && !has(known))
        return UsageError(absl::StrFormat("%s: unknown column \"%s\"; did you mean \"%s\"?", place, column, known));
    }
  }
  for (const char* needed : {"model", "hardware", "gpus"})
    if (!has(needed))
      return UsageError(
          absl::StrFormat("%s: no column \"%s\"; the first line must name model, hardware and gpus", place, needed));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<PublishedRun>> ParsePublished(const std::string& text, const std::string& name) {
  JEVONS_ASSIGN_OR_RETURN(const std::vector<Record> records, ReadRecords(text, name));
  if (records.empty())
    return UsageError(absl::StrFormat("%s: empty: the first line names the columns: source,model,hardware,gpus,...", name));
  const Cells& header = records[0].cells;
  JEVONS_RETURN_IF_ERROR(CheckHeader(header, absl::StrFormat("%s:%d", name, records[0].line)));
  std::vector<PublishedRun> runs;
  for (size_t i = 1; i < records.size(); ++i) {
    RowReader row(name, header, records[i]);
    PublishedRun run{.line = records[i].line,
                     .source = row.Text("source"),
                     .model = row.Text("model"),
                     .hardware = row.Text("hardware"),
                     .precision = row.Text("precision"),
                     .notes = row.Text("notes"),
                     .gpus = row.Count("gpus").value_or(0),
                     .seq = row.Count("seq"),
                     .gbs = row.Count("gbs"),
                     .mbs = row.Count("mbs"),
                     .tp = row.Count("tp"),
                     .pp = row.Count("pp"),
                     .cp = row.Count("cp"),
                     .vpp = row.Count("vpp"),
                     .ep = row.Count("ep"),
                     .tokens_per_s = row.Real("tokens_per_s"),
                     .tflops = row.Real("tflops"),
                     .mem_gb = row.Real("mem_gb"),
                     .in_sight = row.Yes("in_sight")};
    if (run.model.empty()) row.Complain("model", "", "must name the model");
    if (run.hardware.empty()) row.Complain("hardware", "", "must name the GPU");
    if (run.gpus == 0) row.Complain("gpus", "", "must say how many");
    if (!row.problem().empty()) return UsageError(row.problem());
    runs.push_back(std::move(run));
  }
  return runs;
}

}  // namespace jevons
