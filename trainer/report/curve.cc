#include "trainer/report/curve.h"

#include <algorithm>

namespace jevons {
namespace {

constexpr double kSmoothing = 0.9;

double Between(double x0, double y0, double x1, double y1, double at) {
  return x1 > x0 ? y0 + (y1 - y0) * ((at - x0) / (x1 - x0)) : y1;
}

}  // namespace

std::optional<double> Curve::At(double at) const {
  if (empty() || !(at >= x.front() && at <= x.back())) return std::nullopt;
  const auto i = static_cast<size_t>(std::lower_bound(x.begin(), x.end(), at) - x.begin());
  return i == 0 ? y[0] : Between(x[i - 1], y[i - 1], x[i], y[i], at);
}

std::optional<double> Curve::Reaches(double level) const {
  for (size_t i = 0; i < y.size(); ++i)
    if (y[i] <= level) return i == 0 ? x[i] : Between(y[i], x[i], y[i - 1], x[i - 1], level);
  return std::nullopt;
}

Curve Curve::Thinned(size_t points) const {
  if (x.size() <= points || points < 3) return *this;
  Curve thin;
  thin.Add(x.front(), y.front());
  const size_t inner = x.size() - 2;
  for (size_t p = 0; p < points - 2; ++p) {
    const size_t begin = 1 + inner * p / (points - 2), end = 1 + inner * (p + 1) / (points - 2);
    double at = 0, value = 0;
    for (size_t i = begin; i < end; ++i) {
      at += x[i];
      value += y[i];
    }
    thin.Add(at / static_cast<double>(end - begin), value / static_cast<double>(end - begin));
  }
  thin.Add(x.back(), y.back());
  return thin;
}

std::vector<double> SmoothedLosses(std::vector<double> losses) {
  for (size_t i = 1; i < losses.size(); ++i) losses[i] = kSmoothing * losses[i - 1] + (1 - kSmoothing) * losses[i];
  return losses;
}

}  // namespace jevons
