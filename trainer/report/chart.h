// Charts as SVG within a page: lines over two axes, maps of coloured cells. Colours and fonts are the page's (page_style.h), so that a chart
// is dark where the page is. Drawn for a width of 420 px, at which the text is readable.
#ifndef JEVONS_TRAINER_REPORT_CHART_H_
#define JEVONS_TRAINER_REPORT_CHART_H_

#include <array>
#include <span>
#include <string>
#include <vector>

#include "trainer/report/curve.h"

namespace jevons {

// Round values within [low, high], 1, 2 or 5 times a power of ten apart: at most `most`, and at least one.
std::vector<double> LinearTicks(double low, double high, size_t most);
// Likewise for an axis by powers of ten; 0 < low. Where the range holds few round values, linear ones.
std::vector<double> LogTicks(double low, double high, size_t most);

struct Series {
  std::string name;  // in the legend; empty: not there
  Curve curve;
  size_t color = 0;     // of the page's kSeriesColors
  bool faint = false;   // what another line smooths
  bool points = false;  // marks each point: for curves of few
};

struct LineChart {
  std::string title, x_label;
  std::vector<Series> series = {};
  bool log_y = false;  // where all values are positive
  bool zero = false;   // the y axis begins at 0

  // A figure with caption and legend; a sentence where no series has a point.
  std::string Html() const;
};

// A cell's class: where its value lies among rising `bounds`; Bounds::size() + 1 classes.
struct HeatScale {
  std::string name;  // of the page's colours: "load", "bias", "much"
  std::vector<double> bounds;
  std::vector<std::string> labels;  // of the classes
};

struct HeatMap {
  std::string title, x_label, y_label;
  std::vector<std::string> rows = {};            // their names
  std::vector<double> columns = {};              // where they stand on the x axis; empty: 0, 1, 2, ...
  std::vector<std::vector<double>> values = {};  // [rows][columns]
  HeatScale scale = {};

  // A figure with caption, without a legend.
  std::string Html() const;
};
std::string HeatLegend(const HeatScale& scale);

}  // namespace jevons

#endif  // JEVONS_TRAINER_REPORT_CHART_H_
