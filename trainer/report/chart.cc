#include "trainer/report/chart.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "trainer/metrics/human.h"

namespace jevons {
namespace {

constexpr double kWidth = 420, kHeight = 230, kLeft = 50, kRight = 22, kTop = 8, kBottom = 38;
constexpr size_t kXTicks = 5, kYTicks = 6, kPoints = 300;

// Few enough of many: every n-th.
std::vector<double> Fewer(const std::vector<double>& ticks, size_t most) {
  const size_t stride = (ticks.size() + most - 1) / most;
  std::vector<double> few;
  for (size_t i = 0; i < ticks.size(); i += stride) few.push_back(ticks[i]);
  return few;
}

// Of an axis: values to places.
struct Scale {
  double low, high, from, to;
  bool log = false;
  double operator()(double value) const {
    const auto of = [&](double v) { return log ? std::log10(v) : v; };
    return from + (to - from) * (high > low ? (of(std::clamp(value, low, high)) - of(low)) / (of(high) - of(low)) : 0.5);
  }
};

std::string TextAt(double x, double y, const char* anchor, const std::string& text) {
  return absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>", x, y, anchor, EscapedMarkup(text));
}

std::string OpenSvg(double width, double height, const std::string& title) {
  return absl::StrFormat("<svg viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"%s\">", width, height, EscapedMarkup(title));
}

std::string XAxis(const Scale& x, std::span<const double> ticks, double bottom, const std::string& label) {
  std::string svg;
  for (const double tick : ticks)
    absl::StrAppend(&svg, absl::StrFormat("<path class=\"tick\" d=\"M%.1f %gv4\"/>", x(tick), bottom),
                    TextAt(x(tick), bottom + 15, "middle", ShortNumber(tick)));
  return svg + TextAt((x.from + x.to) / 2, bottom + 31, "middle", label);
}

std::string Figure(const std::string& title, const std::string& legend, const std::string& svg) {
  return absl::StrFormat("<figure><figcaption>%s%s</figcaption>%s</figure>\n", EscapedMarkup(title), legend, svg);
}

}  // namespace

std::vector<double> LinearTicks(double low, double high, size_t most) {
  if (!(high > low)) return {low};
  double step = std::pow(10, std::floor(std::log10((high - low) / static_cast<double>(most))));
  const auto count = [&](double by) { return std::floor(high / by + 1e-9) - std::ceil(low / by - 1e-9) + 1; };
  for (size_t i = 0; count(step) > static_cast<double>(most); ++i) step *= i % 3 == 1 ? 2.5 : 2;  // 1, 2, 5, 10, ...
  std::vector<double> ticks;
  for (double n = std::ceil(low / step - 1e-9); n * step <= high + 1e-9 * step; ++n) ticks.push_back(n * step + 0.0);  // no -0
  return ticks.empty() ? std::vector<double>{low} : ticks;
}

std::vector<double> LogTicks(double low, double high, size_t most) {
  std::vector<double> powers, ticks;
  for (double power = std::floor(std::log10(low)); power <= std::log10(high) + 1e-9; ++power) {
    for (const double digit : {1.0, 2.0, 5.0}) {
      const double tick = digit * std::pow(10, power);
      if (tick < low * (1 - 1e-9) || tick > high * (1 + 1e-9)) continue;
      ticks.push_back(tick);
      if (digit == 1) powers.push_back(tick);
    }
  }
  if (ticks.size() < 3) return LinearTicks(low, high, most);
  return ticks.size() <= most ? ticks : Fewer(powers, most);
}

std::string LineChart::Html() const {
  Scale x{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(), kLeft, kWidth - kRight};
  Scale y{x.low, x.high, kHeight - kBottom, kTop, log_y};
  size_t named = 0;
  for (const Series& s : series) {
    for (const double v : s.curve.x) x.low = std::min(x.low, v), x.high = std::max(x.high, v);
    for (const double v : s.curve.y) y.low = std::min(y.low, v), y.high = std::max(y.high, v);
    named += !s.name.empty() && !s.curve.empty();
  }
  if (!(y.low <= y.high)) return absl::StrFormat("<p>%s: not recorded.</p>\n", EscapedMarkup(title));
  if (zero) y.low = std::min(y.low, 0.0);
  y.log = log_y && y.low > 0;
  if (y.low == y.high) y.low -= y.low == 0 ? 1 : std::abs(y.low) / 10, y.high += y.high == 0 ? 1 : std::abs(y.high) / 10;

  std::string svg = OpenSvg(kWidth, kHeight, title);
  for (const double tick : y.log ? LogTicks(y.low, y.high, kYTicks) : LinearTicks(y.low, y.high, kYTicks))
    absl::StrAppend(&svg, absl::StrFormat("<path class=\"grid\" d=\"M%g %.1fH%g\"/>", kLeft, y(tick), kWidth - kRight),
                    TextAt(kLeft - 6, y(tick) + 4, "end", ShortNumber(tick)));
  absl::StrAppend(&svg, XAxis(x, LinearTicks(x.low, x.high, kXTicks), kHeight - kBottom, x_label));
  std::string legend;
  for (const Series& s : series) {
    const Curve thin = s.curve.Thinned(kPoints);
    if (thin.empty()) continue;
    std::string path, marks;
    for (size_t i = 0; i < thin.x.size(); ++i) {
      absl::StrAppendFormat(&path, "%s%.1f %.1f", i == 0 ? "M" : "L", x(thin.x[i]), y(thin.y[i]));
      if (s.points || thin.x.size() == 1)
        absl::StrAppendFormat(&marks, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\" class=\"s%d\"/>", x(thin.x[i]), y(thin.y[i]),
                              s.color);
    }
    absl::StrAppendFormat(&svg, "<path class=\"line s%d%s\" d=\"%s\"/>%s", s.color, s.faint ? " faint" : "", path, marks);
    if (named > 1 && !s.name.empty())
      absl::StrAppendFormat(&legend, "<span class=\"key s%d\"><i></i>%s</span>", s.color, EscapedMarkup(s.name));
  }
  return Figure(title, legend, svg + "</svg>");
}

std::string HeatMap::Html() const {
  size_t cells = 0, name = 0;
  for (const auto& row : values) cells = std::max(cells, row.size());
  for (const std::string& row : rows) name = std::max(name, row.size());
  if (cells == 0) return absl::StrFormat("<p>%s: not recorded.</p>\n", EscapedMarkup(title));
  const double left = 12 + 6.5 * static_cast<double>(name) + 14, wide = (kWidth - left - kRight) / static_cast<double>(cells);
  const double high = std::clamp(300.0 / static_cast<double>(values.size()), 3.0, 16.0),
               bottom = kTop + high * static_cast<double>(values.size());
  std::string svg = OpenSvg(kWidth, bottom + kBottom, title);
  // One path for each class: cells that stand beside each other are one rectangle.
  std::vector<std::string> paths(scale.bounds.size() + 1);
  const auto class_of = [&](double value) {
    return static_cast<size_t>(std::upper_bound(scale.bounds.begin(), scale.bounds.end(), value) - scale.bounds.begin());
  };
  for (size_t r = 0; r < values.size(); ++r) {
    for (size_t begin = 0, end = 0; begin < values[r].size(); begin = end) {
      const size_t of = class_of(values[r][begin]);
      while (end < values[r].size() && class_of(values[r][end]) == of) ++end;
      absl::StrAppendFormat(&paths[of], "M%.5g %.4gh%.5gv%.3gh-%.5gz", left + wide * static_cast<double>(begin),
                            kTop + high * static_cast<double>(r), wide * static_cast<double>(end - begin), high,
                            wide * static_cast<double>(end - begin));
    }
  }
  for (size_t c = 0; c < paths.size(); ++c)
    if (!paths[c].empty()) absl::StrAppendFormat(&svg, "<path class=\"cell %s%d\" d=\"%s\"/>", scale.name, c, paths[c]);
  const size_t every = std::max<size_t>(1, static_cast<size_t>(std::ceil(13 / high)));
  for (size_t r = 0; r < rows.size(); r += every)
    absl::StrAppend(&svg, TextAt(left - 5, kTop + high * (static_cast<double>(r) + 0.5) + 4, "end", rows[r]));
  absl::StrAppend(&svg, absl::StrFormat("<text transform=\"translate(10 %.1f) rotate(-90)\" text-anchor=\"middle\">%s</text>",
                                        (kTop + bottom) / 2, EscapedMarkup(y_label)));
  // Column i spans from i to i + 1; where columns have places, a tick says that of its own.
  const Scale x{0, static_cast<double>(cells), left, kWidth - kRight};
  if (columns.empty()) {
    absl::StrAppend(&svg, XAxis(x, LinearTicks(x.low, x.high, kXTicks), bottom, x_label));
  } else {
    for (size_t i = 0; i < kXTicks; ++i) {
      const size_t at = i * (columns.size() - 1) / (kXTicks - 1);
      if (i > 0 && at == (i - 1) * (columns.size() - 1) / (kXTicks - 1)) continue;
      const double place = x(static_cast<double>(at) + 0.5);
      absl::StrAppend(&svg, absl::StrFormat("<path class=\"tick\" d=\"M%.1f %gv4\"/>", place, bottom),
                      TextAt(place, bottom + 15, "middle", ShortNumber(columns[at])));
    }
    absl::StrAppend(&svg, TextAt((x.from + x.to) / 2, bottom + 31, "middle", x_label));
  }
  return Figure(title, "", svg + "</svg>");
}

std::string HeatLegend(const HeatScale& scale) {
  std::string html = "<p class=\"legend\">";
  for (size_t c = 0; c < scale.labels.size(); ++c)
    absl::StrAppendFormat(&html,
                          "<span class=\"key\"><svg viewBox=\"0 0 12 12\" class=\"swatch\"><rect width=\"12\" height=\"12\" "
                          "class=\"cell %s%d\"/></svg>%s</span>",
                          scale.name, c, EscapedMarkup(scale.labels[c]));
  return html + "</p>\n";
}

}  // namespace jevons
