// A curve of measured points: what stands between them, where it comes below a value, and few points that look the same.
#ifndef JEVONS_TRAINER_REPORT_CURVE_H_
#define JEVONS_TRAINER_REPORT_CURVE_H_

#include <cstddef>
#include <optional>
#include <vector>

namespace jevons {

struct Curve {
  std::vector<double> x, y;  // x never falls

  bool empty() const { return x.empty(); }
  void Add(double at, double value) {
    x.push_back(at);
    y.push_back(value);
  }
  // On the line between the two points around `at`; nothing outside of the points: no run is continued by a guess.
  std::optional<double> At(double at) const;
  // The first place where the line comes down to `level`.
  std::optional<double> Reaches(double level) const;
  // At most `points`, each the mean of as many neighbours; the ends stay.
  Curve Thinned(size_t points) const;
};

// Exponential moving average, coefficient 0.9, as the DeepSeek-V3 report compares curves (appendix B.1).
std::vector<double> SmoothedLosses(std::vector<double> losses);

}  // namespace jevons

#endif  // JEVONS_TRAINER_REPORT_CURVE_H_
