#include "trainer/ladder/law_solver.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_format.h"

namespace jevons {
namespace {

constexpr double kDelta = 1e-3;             // of log L, beyond which Huber's loss is linear
constexpr double kLeastIndependence = 0.1;  // of log D beside log N: a tenth more or fewer tokens for a size
constexpr double kExponents[] = {0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.55, 0.75, 1.0};

using Vector = std::vector<double>;
using Matrix = std::vector<Vector>;  // rows

// A x = b with partial pivoting; false where A is singular.
bool Solve(Matrix A, Vector b, Vector& x) {
  const size_t n = b.size();
  for (size_t k = 0; k < n; ++k) {
    size_t pivot = k;
    for (size_t i = k + 1; i < n; ++i)
      if (std::abs(A[i][k]) > std::abs(A[pivot][k])) pivot = i;
    if (!(std::abs(A[pivot][k]) > 0)) return false;
    std::swap(A[k], A[pivot]);
    std::swap(b[k], b[pivot]);
    for (size_t i = k + 1; i < n; ++i) {
      const double factor = A[i][k] / A[k][k];
      for (size_t j = k; j < n; ++j) A[i][j] -= factor * A[k][j];
      b[i] -= factor * b[k];
    }
  }
  x.assign(n, 0);
  for (size_t k = n; k-- > 0;) {
    double rest = b[k];
    for (size_t j = k + 1; j < n; ++j) rest -= A[k][j] * x[j];
    x[k] = rest / A[k][k];
  }
  return std::all_of(x.begin(), x.end(), [](double value) { return std::isfinite(value); });
}

double Huber(double residual) {
  const double r = std::abs(residual) / kDelta;
  return r <= 1 ? r * r / 2 : r - 0.5;
}

// The law in the numbers that are fitted: log A at the samples' middle and the exponent of each term; then log E, unless it is pinned. Logs keep
// factors positive, and at the middle of the samples a factor hardly depends on its exponent.
class Problem {
 public:
  Problem(std::span<const LossSample> samples, std::optional<double> pinned)
      : samples_(samples), pinned_(pinned), middle_(samples[0].x.size(), 0) {
    for (const LossSample& sample : samples)
      for (size_t j = 0; j < middle_.size(); ++j) middle_[j] += std::log(sample.x[j]) / static_cast<double>(samples.size());
  }

  size_t size() const { return 2 * middle_.size() + (pinned_ ? 0 : 1); }

  Vector Encode(const LossLaw& law) const {
    Vector theta;
    for (size_t j = 0; j < middle_.size(); ++j) {
      theta.push_back(std::log(law.terms[j].factor) - law.terms[j].exponent * middle_[j]);
      theta.push_back(law.terms[j].exponent);
    }
    if (!pinned_) theta.push_back(std::log(law.asymptote));
    return theta;
  }

  LossLaw Decode(const Vector& theta) const {
    LossLaw law{.asymptote = pinned_ ? *pinned_ : std::exp(theta.back()), .terms = {}};
    for (size_t j = 0; j < middle_.size(); ++j)
      law.terms.push_back({.factor = std::exp(theta[2 * j] + theta[2 * j + 1] * middle_[j]), .exponent = theta[2 * j + 1]});
    return law;
  }

  // log L - log of the law, and its gradient.
  double Residual(const LossSample& sample, const Vector& theta, Vector* gradient) const {
    const double asymptote = pinned_ ? *pinned_ : std::exp(theta.back());
    double law = asymptote;
    Vector terms(middle_.size());
    for (size_t j = 0; j < middle_.size(); ++j)
      law += terms[j] = std::exp(theta[2 * j] - theta[2 * j + 1] * (std::log(sample.x[j]) - middle_[j]));
    if (gradient != nullptr) {
      gradient->resize(size());
      for (size_t j = 0; j < middle_.size(); ++j) {
        (*gradient)[2 * j] = -terms[j] / law;
        (*gradient)[2 * j + 1] = terms[j] / law * (std::log(sample.x[j]) - middle_[j]);
      }
      if (!pinned_) gradient->back() = -asymptote / law;
    }
    return std::log(sample.loss / law);
  }

  double Cost(const Vector& theta) const {
    double cost = 0;
    for (const LossSample& sample : samples_) cost += Huber(Residual(sample, theta, nullptr));
    return cost;
  }

  // Levenberg-Marquardt; Huber's loss as a weight that falls with the residual.
  Vector Minimize(Vector theta) const {
    double cost = Cost(theta), damping = 1e-3;
    for (int i = 0; i < 500 && damping < 1e12; ++i) {
      Matrix curvature(size(), Vector(size(), 0));
      Vector downhill(size(), 0), gradient, step;
      for (const LossSample& sample : samples_) {
        const double residual = Residual(sample, theta, &gradient), weight = std::min(1.0, kDelta / std::abs(residual));
        for (size_t a = 0; a < size(); ++a) {
          downhill[a] -= weight * residual * gradient[a];
          for (size_t b = 0; b < size(); ++b) curvature[a][b] += weight * gradient[a] * gradient[b];
        }
      }
      for (size_t a = 0; a < size(); ++a) curvature[a][a] *= 1 + damping;
      if (!Solve(curvature, downhill, step)) break;
      Vector next = theta;
      double change = 0;
      for (size_t a = 0; a < size(); ++a) {
        next[a] += step[a];
        change = std::max(change, std::abs(step[a]));
      }
      const double next_cost = Cost(next);
      if (next_cost <= cost) {
        theta = next;
        cost = next_cost;
        damping = std::max(1e-12, damping / 10);
        if (change < 1e-13) break;
      } else {
        damping *= 10;
      }
    }
    return theta;
  }

  // With the exponents given, a law is linear in the rest: least squares of the relative error. None where a factor is not positive.
  std::optional<LossLaw> Start(const Vector& exponents, std::optional<double> asymptote) const {
    const size_t terms = middle_.size(), n = terms + (asymptote ? 0 : 1);
    Matrix curvature(n, Vector(n, 0));
    Vector right(n, 0), solution;
    for (const LossSample& sample : samples_) {
      Vector row(n, 1 / sample.loss);
      for (size_t j = 0; j < terms; ++j) row[j] = std::exp(-exponents[j] * (std::log(sample.x[j]) - middle_[j])) / sample.loss;
      const double wanted = 1 - asymptote.value_or(0) / sample.loss;
      for (size_t a = 0; a < n; ++a) {
        right[a] += row[a] * wanted;
        for (size_t b = 0; b < n; ++b) curvature[a][b] += row[a] * row[b];
      }
    }
    if (!Solve(curvature, right, solution)) return std::nullopt;
    // Below zero: as good as none.
    if (!asymptote && solution.back() <= 0) return Start(exponents, 1e-3);
    LossLaw law{.asymptote = asymptote ? *asymptote : solution.back(), .terms = {}};
    for (size_t j = 0; j < terms; ++j) {
      if (solution[j] <= 0) return std::nullopt;
      law.terms.push_back({.factor = solution[j] * std::exp(exponents[j] * middle_[j]), .exponent = exponents[j]});
    }
    return law;
  }

 private:
  std::span<const LossSample> samples_;
  std::optional<double> pinned_;
  Vector middle_;  // mean log x
};

// Standard deviation of log x_1 about its regression on log x_0.
double Independence(std::span<const LossSample> samples) {
  const auto n = static_cast<double>(samples.size());
  double mean0 = 0, mean1 = 0, s00 = 0, s01 = 0, s11 = 0;
  for (const LossSample& sample : samples) {
    mean0 += std::log(sample.x[0]) / n;
    mean1 += std::log(sample.x[1]) / n;
  }
  for (const LossSample& sample : samples) {
    const double d0 = std::log(sample.x[0]) - mean0, d1 = std::log(sample.x[1]) - mean1;
    s00 += d0 * d0;
    s01 += d0 * d1;
    s11 += d1 * d1;
  }
  return std::sqrt(std::max(0.0, s11 - (s00 > 0 ? s01 * s01 / s00 : 0)) / n);
}

}  // namespace

absl::Status CheckSamples(std::span<const LossSample> samples, std::optional<double> asymptote) {
  if (samples.empty()) return UsageError("no rung to fit a law to");
  std::set<Vector> different;
  for (const LossSample& sample : samples) {
    for (const double x : sample.x)
      if (!(x > 0 && std::isfinite(x)))
        return UsageError(absl::StrFormat("a rung's scale is %g: it must be a positive number", x));
    if (!(sample.loss > 0 && std::isfinite(sample.loss)))
      return UsageError(absl::StrFormat("a rung's loss is %g: it must be a positive number", sample.loss));
    if (asymptote && sample.loss <= *asymptote)
      return UsageError(
          absl::StrFormat("a rung's loss of %.4f is not above the asymptote %g: pin it lower", sample.loss, *asymptote));
    different.insert(sample.x);
  }
  const size_t numbers = 2 * samples[0].x.size() + (asymptote ? 0 : 1);
  if (different.size() < numbers)
    return UsageError(absl::StrFormat("%d different rungs are too few to fit %d numbers", different.size(), numbers));
  if (samples[0].x.size() == 2 && Independence(samples) < kLeastIndependence)
    return UsageError(
        "tokens keep step with parameters on all rungs, so what each brings cannot be told apart: give sizes several "
        "tokens_factor");
  return absl::OkStatus();
}

RefinedLaw RefineLossLaw(std::span<const LossSample> samples, bool pinned, const LossLaw& start) {
  const Problem problem(samples, pinned ? std::optional(start.asymptote) : std::nullopt);
  const Vector theta = problem.Minimize(problem.Encode(start));
  return {.law = problem.Decode(theta), .cost = problem.Cost(theta)};
}

absl::StatusOr<LossLaw> FitLossLaw(std::span<const LossSample> samples, std::optional<double> asymptote) {
  JEVONS_RETURN_IF_ERROR(CheckSamples(samples, asymptote));
  const Problem problem(samples, asymptote);
  std::optional<RefinedLaw> best;
  const auto consider = [&](const Vector& exponents) {
    const auto start = problem.Start(exponents, asymptote);
    if (!start) return;
    RefinedLaw refined = RefineLossLaw(samples, asymptote.has_value(), *start);
    if (!best || refined.cost < best->cost) best = std::move(refined);
  };
  for (const double a : kExponents) {
    if (samples[0].x.size() == 1) consider({a});
    for (const double b : kExponents)
      if (samples[0].x.size() == 2) consider({a, b});
  }
  if (!best ||
      std::any_of(best->law.terms.begin(), best->law.terms.end(), [](const PowerTerm& term) { return term.exponent <= 0; }))
    return UsageError("the loss does not fall from rung to rung: no power law fits it");
  return best->law;
}

}  // namespace jevons
