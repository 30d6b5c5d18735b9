#include "kernels/tensor/tensor.h"

#include <cstring>

namespace jevons {

const char* NameOf(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "F32";
    case DType::kBF16: return "BF16";
    case DType::kI32: return "I32";
    case DType::kI64: return "I64";
    case DType::kU8: return "U8";
  }
  return "?";
}

Shape::Shape(std::initializer_list<int64_t> list) {
  JEVONS_CHECK(list.size() <= kMaxDims, "%zu dims", list.size());
  for (int64_t dim : list) {
    JEVONS_CHECK(dim >= 0, "dim %lld", static_cast<long long>(dim));
    dims[rank++] = dim;
  }
}

int64_t Shape::size() const {
  int64_t product = 1;
  for (int i = 0; i < rank; ++i) product *= dims[i];
  return product;
}

int64_t Shape::rows() const {
  int64_t product = 1;
  for (int i = 0; i + 1 < rank; ++i) product *= dims[i];
  return product;
}

bool Shape::operator==(const Shape& other) const {
  if (rank != other.rank) return false;
  for (int i = 0; i < rank; ++i)
    if (dims[i] != other.dims[i]) return false;
  return true;
}

std::string Shape::ToString() const {
  std::string text = "[";
  for (int i = 0; i < rank; ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}

Tensor Tensor::Rows(int64_t begin, int64_t count) const {
  JEVONS_CHECK(begin >= 0 && count >= 0 && begin + count <= rows(), "rows [%lld, +%lld) of %s", static_cast<long long>(begin),
               static_cast<long long>(count), ToString().c_str());
  Tensor view(static_cast<char*>(data) + begin * pitch * SizeOf(dtype), dtype, {count, cols()});
  view.pitch = pitch;
  return view;
}

Tensor Tensor::Columns(int64_t begin, int64_t count) const {
  JEVONS_CHECK(begin >= 0 && count >= 0 && begin + count <= cols(), "columns [%lld, +%lld) of %s", static_cast<long long>(begin),
               static_cast<long long>(count), ToString().c_str());
  Tensor view(static_cast<char*>(data) + begin * SizeOf(dtype), dtype, {rows(), count});
  view.pitch = pitch;
  return view;
}

Tensor Tensor::Index(int64_t i) const {
  JEVONS_CHECK(contiguous() && shape.rank >= 1 && i >= 0 && i < shape[0], "entry %lld of %s", static_cast<long long>(i),
               ToString().c_str());
  Shape rest;
  for (int d = 1; d < shape.rank; ++d) rest.dims[rest.rank++] = shape[d];
  return Tensor(static_cast<char*>(data) + i * rest.size() * SizeOf(dtype), dtype, rest);
}

Tensor Tensor::Reshape(const Shape& to) const {
  JEVONS_CHECK(contiguous() && to.size() == size(), "%s to %s", ToString().c_str(), to.ToString().c_str());
  return Tensor(data, dtype, to);
}

std::string Tensor::ToString() const {
  std::string text = std::string(NameOf(dtype)) + " " + shape.ToString();
  return contiguous() ? text : text + " pitch " + std::to_string(pitch);
}

void Zero(const Tensor& dst) {
  if (dst.size() == 0) return;
  if (dst.contiguous()) {
    std::memset(dst.data, 0, static_cast<size_t>(dst.bytes()));
    return;
  }
  for (int64_t r = 0; r < dst.rows(); ++r) {
    const Tensor row = dst.Rows(r, 1);
    std::memset(row.data, 0, static_cast<size_t>(row.bytes()));
  }
}

}  // namespace jevons
