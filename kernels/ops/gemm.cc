#include "kernels/ops/gemm.h"

#include "absl/strings/str_format.h"
#include "kernels/ops/op_table.h"

namespace jevons {
namespace {

// Rows and columns that an operand has in memory for a logical rows x cols.
bool Lies(const Tensor& t, Form form, int64_t rows, int64_t cols) {
  return form == Form::kPlain ? t.rows() == rows && t.cols() == cols : t.rows() == cols && t.cols() == rows;
}

bool IsFloat(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16; }

}  // namespace

void GemmDesc::Validate() const {
  const bool fits = Lies(a, a_form, m(), k()) && Lies(b, b_form, k(), n());
  const bool types = IsFloat(a.dtype) && a.dtype == b.dtype && IsFloat(c.dtype);
  const bool pitches =
      (a.rows() <= 1 || a.pitch >= a.cols()) && (b.rows() <= 1 || b.pitch >= b.cols()) && (c.rows() <= 1 || c.pitch >= c.cols());
  const bool present = (a.data || a.size() == 0) && (b.data || b.size() == 0) && (c.data || c.size() == 0);
  JEVONS_CHECK(fits && types && pitches && present, "not a product: %s", ToString().c_str());
}

std::string GemmDesc::ToString() const {
  const auto form = [](Form f) { return f == Form::kTransposed ? "^T" : ""; };
  return absl::StrFormat("c: %s %s a%s: %s b%s: %s", c.ToString(), mode == WriteMode::kAdd ? "+=" : "=", form(a_form),
                         a.ToString(), form(b_form), b.ToString());
}

void Gemm(const OpContext& ctx, const GemmDesc& desc) { GroupedGemm(ctx, {&desc, 1}); }

void GroupedGemm(const OpContext& ctx, std::span<const GemmDesc> descs) {
  for (const GemmDesc& desc : descs) desc.Validate();
  Ops(ctx.stream).grouped_gemm(ctx, descs);
}

std::string GemmImplementation(DType dtype, Device device) { return Ops({.device = device}).product_implementation(dtype); }

}  // namespace jevons
