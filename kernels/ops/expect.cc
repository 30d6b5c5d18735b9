#include "kernels/ops/expect.h"

namespace jevons {
namespace {

long long Wide(int64_t x) { return static_cast<long long>(x); }

void ExpectType(const char* name, const Tensor& t, DType dtype) {
  JEVONS_CHECK(t.dtype == dtype, "%s is %s, must be %s", name, t.ToString().c_str(), NameOf(dtype));
}

}  // namespace

void ExpectMatrix(const char* name, const Tensor& t, DType dtype, int64_t rows, int64_t cols) {
  ExpectType(name, t, dtype);
  JEVONS_CHECK(t.rows() == rows && t.cols() == cols, "%s is %s, must be [%lld, %lld]", name, t.ToString().c_str(), Wide(rows),
               Wide(cols));
  JEVONS_CHECK(t.size() == 0 || (t.data != nullptr && t.pitch >= cols), "%s is %s at %p", name, t.ToString().c_str(), t.data);
}

void ExpectVector(const char* name, const Tensor& t, DType dtype, int64_t n) {
  ExpectType(name, t, dtype);
  JEVONS_CHECK(t.size() == n && t.contiguous(), "%s is %s, must be %lld contiguous elements", name, t.ToString().c_str(),
               Wide(n));
  JEVONS_CHECK(n == 0 || t.data != nullptr, "%s has no data", name);
}

void ExpectReal(const char* name, const Tensor& t) {
  JEVONS_CHECK(t.dtype == DType::kF32 || t.dtype == DType::kBF16, "%s is %s, must be F32 or BF16", name, t.ToString().c_str());
}

void ExpectIndices(const OpContext& ctx, const char* name, const Tensor& t, int64_t n, int64_t begin, int64_t end) {
  ExpectVector(name, t, DType::kI32, n);
  if (ctx.stream.device != Device::kCpu) return;
  const int32_t* values = t.as<int32_t>();
  for (int64_t i = 0; i < n; ++i)
    JEVONS_CHECK(values[i] >= begin && values[i] < end, "%s[%lld] = %d is outside [%lld, %lld)", name, Wide(i), values[i],
                 Wide(begin), Wide(end));
}

void ExpectFixedPoint(const FixedPoint& format) {
  JEVONS_CHECK(format.shift >= -64 && format.shift <= 512, "fixed point is shifted by %d bits", format.shift);
  JEVONS_CHECK(format.limit >= 0 && format.limit <= 0x1p62, "fixed point is limited to %g", format.limit);
}

void ExpectUnit(const char* name, double unit) { JEVONS_CHECK(unit > 0 && unit <= 0x1p64, "1 of %s is worth %g", name, unit); }

}  // namespace jevons
