#include "launch/loss_curves.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/str_format.h"
#include "trainer/report/curve.h"

namespace jevons {
namespace {

constexpr int kTableRows = 10;
constexpr std::array<const char*, 6> kColors = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#7f7f7f"};
constexpr double kWidth = 900, kPanel = 300, kMargin = 60, kGap = 50;

double Mean(const std::vector<double>& values, size_t begin) {
  double sum = 0;
  for (size_t i = begin; i < values.size(); ++i) sum += values[i];
  return begin < values.size() ? sum / static_cast<double>(values.size() - begin) : 0;
}

double Largest(const std::vector<double>& values, size_t begin) {
  double largest = 0;
  for (size_t i = begin; i < values.size(); ++i) largest = std::max(largest, std::abs(values[i]));
  return largest;
}

// One panel: lines over the steps between `low` and `high`, whose numbers stand at the left.
struct Panel {
  double top, low, high;
  std::string Frame(const std::string& title) const {
    std::string text = absl::StrFormat("<rect x=\"%g\" y=\"%g\" width=\"%g\" height=\"%g\" fill=\"none\" stroke=\"#999\"/>\n",
                                       kMargin, top, kWidth - 2 * kMargin, kPanel);
    for (const double at : {0.0, 0.5, 1.0})
      absl::StrAppendFormat(&text, "<text x=\"%g\" y=\"%g\" text-anchor=\"end\">%.3g</text>\n", kMargin - 6,
                            top + kPanel * (1 - at) + 4, low + at * (high - low));
    return text + absl::StrFormat("<text x=\"%g\" y=\"%g\">%s</text>\n", kMargin, top - 8, title);
  }
  std::string Line(const std::vector<double>& values, const char* color) const {
    std::string points;
    for (size_t i = 0; i < values.size(); ++i) {
      const double x = kMargin + (kWidth - 2 * kMargin) * static_cast<double>(i) / static_cast<double>(values.size());
      const double share = (std::clamp(values[i], low, high) - low) / std::max(1e-9, high - low);
      absl::StrAppendFormat(&points, "%.1f,%.1f ", x, top + kPanel * (1 - share));
    }
    return absl::StrFormat("<polyline points=\"%s\" fill=\"none\" stroke=\"%s\"/>\n", points, color);
  }
};

}  // namespace

std::vector<double> RelativeGap(const LossCurve& base, const LossCurve& other) {
  const std::vector<double> a = SmoothedLosses(base.loss), b = SmoothedLosses(other.loss);
  std::vector<double> gap(a.size());
  for (size_t i = 0; i < a.size(); ++i) gap[i] = 100 * (b[i] - a[i]) / a[i];
  return gap;
}

std::string CurvesTable(const std::vector<LossCurve>& curves) {
  std::string text = absl::StrFormat("%-8s", "step");
  for (size_t c = 0; c < curves.size(); ++c) absl::StrAppendFormat(&text, "%*s", c == 0 ? 14 : 22, curves[c].name);
  const size_t steps = curves.front().loss.size();
  for (int row = 1; row <= kTableRows; ++row) {
    const size_t step = steps * static_cast<size_t>(row) / kTableRows;
    if (step == 0) continue;
    absl::StrAppendFormat(&text, "\n%-8d", step);
    for (size_t c = 0; c < curves.size(); ++c) {
      absl::StrAppendFormat(&text, "%14.4f", SmoothedLosses(curves[c].loss)[step - 1]);
      if (c > 0) absl::StrAppendFormat(&text, " %+6.3f%%", RelativeGap(curves.front(), curves[c])[step - 1]);
    }
  }
  text += "\n";
  for (size_t c = 1; c < curves.size(); ++c) {
    const std::vector<double> gap = RelativeGap(curves.front(), curves[c]);
    absl::StrAppendFormat(
        &text, "%s (%s) against %s: %+.3f%% at the end; over the second half %+.3f%% on average, at most %.3f%%\n",
        curves[c].name, curves[c].text, curves.front().text, gap.back(), Mean(gap, gap.size() / 2), Largest(gap, gap.size() / 2));
  }
  return text;
}

std::string CurvesCsv(const std::vector<LossCurve>& curves) {
  std::string text = "step";
  for (const LossCurve& curve : curves) absl::StrAppendFormat(&text, ",%s,%s_smoothed", curve.name, curve.name);
  std::vector<std::vector<double>> smoothed;
  for (const LossCurve& curve : curves) smoothed.push_back(SmoothedLosses(curve.loss));
  for (size_t i = 0; i < curves.front().loss.size(); ++i) {
    absl::StrAppendFormat(&text, "\n%d", i + 1);
    for (size_t c = 0; c < curves.size(); ++c) absl::StrAppendFormat(&text, ",%.5f,%.5f", curves[c].loss[i], smoothed[c][i]);
  }
  return text + "\n";
}

std::string CurvesSvg(const std::vector<LossCurve>& curves) {
  const std::vector<double> base = SmoothedLosses(curves.front().loss);
  const auto [low, high] = std::minmax_element(base.begin(), base.end());
  double widest = 0.25;  // the report's bound is always in view; the first tenth, where curves start, does not set the scale
  for (size_t c = 1; c < curves.size(); ++c)
    widest = std::max(widest, Largest(RelativeGap(curves.front(), curves[c]), base.size() / 10));
  const Panel losses{.top = kGap, .low = *low, .high = *high};
  const Panel gaps{.top = 2 * kGap + kPanel, .low = -widest, .high = widest};
  std::string text = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" font-family=\"sans-serif\" font-size=\"13\">\n", kWidth,
      3 * kGap + 2 * kPanel);
  text += losses.Frame(absl::StrFormat("training loss over %d steps, smoothed (0.9)", base.size()));
  text += gaps.Frame(absl::StrFormat("difference from %s [%%]", curves.front().text));
  for (size_t c = 0; c < curves.size(); ++c) {
    const char* color = kColors[c % kColors.size()];
    text += losses.Line(SmoothedLosses(curves[c].loss), color);
    text += gaps.Line(RelativeGap(curves.front(), curves[c]), color);
    absl::StrAppendFormat(&text, "<text x=\"%g\" y=\"%g\" fill=\"%s\" text-anchor=\"end\">%s</text>\n", kWidth - kMargin - 10,
                          kGap + 20 + 18 * static_cast<double>(c), color, curves[c].text);
  }
  return text + "</svg>\n";
}

}  // namespace jevons
