// Training losses of several runs of one length, side by side.
#ifndef JEVONS_LAUNCH_LOSS_CURVES_H_
#define JEVONS_LAUNCH_LOSS_CURVES_H_

#include <string>
#include <vector>

namespace jevons {

struct LossCurve {
  std::string name;          // "base", a column of the table
  std::string text;          // "BF16", for people
  std::vector<double> loss;  // of step 1, 2, ...
};

// 100 (b - a) / a of the losses, smoothed (trainer/report/curve.h), step by step.
std::vector<double> RelativeGap(const LossCurve& base, const LossCurve& other);

// The first curve is what the others are compared with.
std::string CurvesTable(const std::vector<LossCurve>& curves);  // at ten steps, and each gap's size, for a terminal
std::string CurvesCsv(const std::vector<LossCurve>& curves);    // step, then loss and smoothed loss of each
std::string CurvesSvg(const std::vector<LossCurve>& curves);    // smoothed losses above, gaps below

}  // namespace jevons

#endif  // JEVONS_LAUNCH_LOSS_CURVES_H_
