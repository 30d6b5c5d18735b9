// Exact derivatives of templated code (Squire and Trapp, SIAM Review 40, 1998): f(x + ih) = f(x) + ih f'(x) +
// O(h^2), so with h = 1e-40 the imaginary part over h is f'(x) to the last bits of FP64: no subtraction,
// hence no cancellation.
#ifndef JEVONS_TESTS_SUPPORT_COMPLEX_STEP_H_
#define JEVONS_TESTS_SUPPORT_COMPLEX_STEP_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <random>
#include <string>
#include <vector>

namespace jevons {

using Complex = std::complex<double>;

// The gradient at x of f: std::vector<Complex> -> Complex.
template <class F>
std::vector<double> ComplexStepGradient(const F& f, const std::vector<double>& x) {
  constexpr double kStep = 1e-40;
  std::vector<Complex> z(x.begin(), x.end());
  std::vector<double> gradient(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    z[i] = Complex(x[i], kStep);
    gradient[i] = f(z).imag() / kStep;
    z[i] = x[i];
  }
  return gradient;
}

// Each |a - b| within `tolerance` of the largest |b|, which must not be zero: a gradient that is zero tests
// nothing.
inline void ExpectGradient(const std::string& name, const std::vector<double>& actual, const std::vector<double>& exact,
                           double tolerance = 1e-12) {
  ASSERT_EQ(actual.size(), exact.size()) << name;
  double largest = 0;
  for (double value : exact) largest = std::max(largest, std::abs(value));
  EXPECT_GT(largest, 0) << name;
  for (size_t i = 0; i < exact.size(); ++i)
    ASSERT_LE(std::abs(actual[i] - exact[i]), tolerance * largest)
        << name << "[" << i << "]: " << actual[i] << " for " << exact[i];
}

// n standard normal numbers, and the linear loss that turns outputs into one number: sum of c[i] * y[i].
inline std::vector<double> Normals(size_t n, uint32_t seed) {
  std::mt19937 bits(seed);
  std::normal_distribution<double> normal;
  std::vector<double> values(n);
  for (double& value : values) value = normal(bits);
  return values;
}

inline Complex Dot(const std::vector<double>& c, const std::vector<Complex>& y) {
  Complex sum = 0;
  for (size_t i = 0; i < c.size(); ++i) sum += c[i] * y[i];
  return sum;
}

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_COMPLEX_STEP_H_
