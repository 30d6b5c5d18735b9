// Shape (at most 4 dims) and Tensor, a trivially copyable view: it owns nothing.
//
// A tensor is a matrix of rows x cols, row-major: cols is the last dim, rows the product of the others, and `pitch` the
// distance in elements between the starts of two rows (pitch >= cols; equal when contiguous). So one can name the
// columns [begin, begin+n) of a wider buffer without copying.
#ifndef JEVONS_KERNELS_TENSOR_TENSOR_H_
#define JEVONS_KERNELS_TENSOR_TENSOR_H_

#include <cstdint>
#include <initializer_list>
#include <string>

#include "kernels/base/check.h"
#include "kernels/tensor/dtype.h"

namespace jevons {

struct Shape {
  static constexpr int kMaxDims = 4;
  int rank = 0;
  int64_t dims[kMaxDims] = {};

  Shape() = default;
  Shape(std::initializer_list<int64_t> list);
  int64_t operator[](int i) const { return dims[i]; }
  int64_t size() const;  // number of elements; 1 for rank 0
  int64_t cols() const { return rank == 0 ? 1 : dims[rank - 1]; }
  int64_t rows() const;  // size() / cols(), and right where cols() is 0
  bool operator==(const Shape& other) const;
  std::string ToString() const;  // "[4, 512]"
};

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;
  int64_t pitch = 0;

  Tensor() = default;
  Tensor(void* data, DType dtype, const Shape& shape) : data(data), dtype(dtype), shape(shape), pitch(shape.cols()) {}
  template <typename T>
  static Tensor Of(T* data, const Shape& shape) {
    return Tensor(data, DTypeOf<T>::value, shape);
  }

  int64_t rows() const { return shape.rows(); }
  int64_t cols() const { return shape.cols(); }
  int64_t size() const { return shape.size(); }
  int64_t bytes() const { return size() * SizeOf(dtype); }
  bool contiguous() const { return pitch == cols() || rows() <= 1; }
  explicit operator bool() const { return data != nullptr; }

  // The elements as T, whose DType must be this tensor's.
  template <typename T>
  T* as() const {
    JEVONS_CHECK(dtype == DTypeOf<T>::value, "tensor of %s read as another type", NameOf(dtype));
    return static_cast<T*>(data);
  }
  template <typename T>
  T* row(int64_t r) const {
    return as<T>() + r * pitch;
  }

  Tensor Rows(int64_t begin, int64_t count) const;     // [count, cols], the rows [begin, begin+count)
  Tensor Columns(int64_t begin, int64_t count) const;  // [rows, count], same pitch
  Tensor Index(int64_t i) const;                       // dims[1..] of the i-th entry of dim 0; contiguous tensors
  Tensor Reshape(const Shape& to) const;               // same elements; contiguous tensors
  std::string ToString() const;                        // "F32 [4, 512] pitch 576"
};

// dst = 0, element by element; respects the pitch.
void Zero(const Tensor& dst);

}  // namespace jevons

#endif  // JEVONS_KERNELS_TENSOR_TENSOR_H_
