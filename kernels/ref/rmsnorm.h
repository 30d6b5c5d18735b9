// Defines kernels/ops/rmsnorm.h.
#ifndef JEVONS_KERNELS_REF_RMSNORM_H_
#define JEVONS_KERNELS_REF_RMSNORM_H_

#include "kernels/ref/scalar.h"

namespace jevons::ref {

// From the sum of the squares of a row.
template <typename T>
JEVONS_HOST_DEVICE T RmsScale(T squares, int64_t cols, float eps) {
  using std::sqrt;
  return T(1) / sqrt(squares / T(cols) + T(eps));
}

// xhat = x * rstd, and from it an element of y.
template <typename T>
JEVONS_HOST_DEVICE T RmsNormed(T xhat, T gamma) {
  return xhat * gamma;
}

// An element of dx; mean: of dy * gamma * xhat over the row.
template <typename T>
JEVONS_HOST_DEVICE T RmsNormDx(T dy, T xhat, T gamma, T rstd, T mean) {
  return rstd * (dy * gamma - xhat * mean);
}

// x, y: [rows, cols]; gamma: [cols]; rstd: [rows].
template <typename T>
void RmsNorm(int64_t rows, int64_t cols, const T* x, const T* gamma, float eps, T* y, T* rstd) {
  for (int64_t r = 0; r < rows; ++r, x += cols, y += cols) {
    T squares = 0;
    for (int64_t i = 0; i < cols; ++i) squares += x[i] * x[i];
    rstd[r] = RmsScale(squares, cols, eps);
    for (int64_t i = 0; i < cols; ++i) y[i] = RmsNormed(x[i] * rstd[r], gamma[i]);
  }
}

// dx: [rows, cols]; dgamma: [cols], the sum over the rows in order.
template <typename T>
void RmsNormBackward(int64_t rows, int64_t cols, const T* dy, const T* x, const T* gamma, const T* rstd, T* dx, T* dgamma) {
  for (int64_t i = 0; i < cols; ++i) dgamma[i] = 0;
  for (int64_t r = 0; r < rows; ++r, dy += cols, x += cols, dx += cols) {
    T dot = 0;  // sum of dy * gamma * xhat, xhat = x * rstd
    for (int64_t i = 0; i < cols; ++i) dot += dy[i] * gamma[i] * (x[i] * rstd[r]);
    dot /= T(cols);
    for (int64_t i = 0; i < cols; ++i) {
      const T xhat = x[i] * rstd[r];
      dx[i] = RmsNormDx(dy[i], xhat, gamma[i], rstd[r], dot);
      dgamma[i] += dy[i] * xhat;
    }
  }
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_RMSNORM_H_
