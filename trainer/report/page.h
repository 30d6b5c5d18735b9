// One page that shows runs, from their files alone: HTML with charts in it, that needs no script and nothing beside it, reads on a phone, in
// the dark and on paper.
#ifndef JEVONS_TRAINER_REPORT_PAGE_H_
#define JEVONS_TRAINER_REPORT_PAGE_H_

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "configs/differences.h"
#include "trainer/report/comparison.h"
#include "trainer/report/run_history.h"

namespace jevons {

// What the page shows of a run beside its history; what is empty is left out, or said to be missing.
struct RunFacts {
  std::string model = {};                                                // in a line
  std::string summary = {};                                              // summary.json
  std::string trace = {};                                                // a trace of a step (train --trace), JSON
  std::string samples = {};                                              // text that the model made
  std::vector<std::pair<std::string, std::string>> hashes = {};          // what, and its hash
  std::vector<std::string> events = {};                                  // of a supervisor's journal
  std::vector<std::pair<std::string, std::vector<double>>> biases = {};  // of each MoE layer's gate, in the newest checkpoint
  int64_t biases_step = 0;
  std::string preset = {};                    // the nearest one
  std::vector<FieldValues> from_preset = {};  // what it has and the run has
};

// runs: those of the comparison. facts: of each.
std::string ReportPage(std::span<const RunHistory> runs, std::span<const RunFacts> facts, const RunComparison& comparison);

}  // namespace jevons

#endif  // JEVONS_TRAINER_REPORT_PAGE_H_
