// Runs side by side: where their configs differ, what they reached, at equal budgets, and what a loss cost them.
#ifndef JEVONS_TRAINER_REPORT_COMPARISON_H_
#define JEVONS_TRAINER_REPORT_COMPARISON_H_

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "configs/differences.h"
#include "trainer/report/run_history.h"

namespace jevons {

struct CompareOptions {
  Axis at = Axis::kTokens;          // what makes budgets equal
  std::optional<double> loss = {};  // tell what it took to reach it; nats per token
  bool by_seeds = false;            // runs whose configs differ in seeds alone are one column
  std::vector<double> prices =
      {};  // dollars for a device's hour; the first one counts for all dollars, and all have rows; empty: what was paid
};

// Of one or more runs. Runs of this program have no noise but their seeds': one config and seed give the same bits on the CPU.
struct Measured {
  std::vector<double> values;  // of each run
  double mean() const;
  double spread() const;  // standard deviation from the mean, of n - 1; 0 for one run
};

// A row of the table; none where a run of the column does not say.
struct Figure {
  std::string name, label, section = {};
  std::vector<std::optional<Measured>> columns = {};
  bool relative = false;              // the difference from the first column is told
  std::optional<double> budget = {};  // of figures at equal budgets, on the axis
};

struct Column {
  std::string name;
  std::vector<size_t> runs;  // of RunComparison::runs
};

struct ComparedRun {
  std::string path, name, tags;
};

struct RunComparison {
  Axis at = Axis::kTokens;
  std::vector<ComparedRun> runs;
  std::vector<Column> columns;
  std::vector<FieldValues> config;  // what differs; a value for each run
  std::vector<Figure> figures;
  std::vector<std::string> notes;  // how the figures are made, and what is missing
};

// UsageError where the runs cannot be put side by side as asked.
absl::StatusOr<RunComparison> CompareRuns(std::span<const RunHistory> runs, const CompareOptions& options);

std::string RunComparisonText(const RunComparison& comparison);
std::string RunComparisonJson(const RunComparison& comparison);
// A cell of the table: "3.4432", "3.4432 +/- 0.0012 (-1.20%)" of several, "-" of none.
std::string FigureText(const Figure& figure, size_t column);
// Of a field, what the runs of a column have; each value once.
std::string ValuesOf(const FieldValues& field, const Column& column);

}  // namespace jevons

#endif  // JEVONS_TRAINER_REPORT_COMPARISON_H_
