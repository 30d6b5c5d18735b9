// The parts of a page about one run; each returns HTML, a sentence where the run's files do not have what it shows.
#ifndef JEVONS_TRAINER_REPORT_SECTIONS_H_
#define JEVONS_TRAINER_REPORT_SECTIONS_H_

#include <string>
#include <vector>

#include "trainer/report/page.h"

namespace jevons {

// Rows of cells, made safe; the first row is the head. Columns from `numbers_from` on hold numbers and stand right.
std::string HtmlTable(const std::vector<std::vector<std::string>>& rows, size_t numbers_from);
// "forward 62% ====" for each: what it is, how much, and its share of all as a bar. `text` says the amount.
struct Share {
  std::string name, text;
  double amount = 0;
};
std::string ShareTable(const std::vector<Share>& shares);

std::string TilesHtml(const RunHistory& run);
std::string WhatHtml(const RunHistory& run, const RunFacts& facts);
std::string CurvesHtml(const RunHistory& run);
std::string TimeHtml(const RunHistory& run);
std::string CostHtml(const RunHistory& run, const RunFacts& facts);
std::string MemoryHtml(const RunFacts& facts);
std::string ExpertsHtml(const RunHistory& run, const RunFacts& facts);
std::string Fp8Html(const RunHistory& run);
std::string TimelineHtml(const RunFacts& facts);
std::string ConfigHtml(const RunHistory& run, const RunFacts& facts);

}  // namespace jevons

#endif  // JEVONS_TRAINER_REPORT_SECTIONS_H_
