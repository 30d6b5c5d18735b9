#include "kernels/registry/registry.h"

#include <array>

#include "kernels/base/environment.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/gemm_impl.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/ref/ref_ops.h"

namespace jevons {
namespace {

constexpr const OpTable* kTables[] = {&kCpuOps, &kRefOps};

// The reference, with the products that JEVONS_GEMM names.
const OpTable& RefWithNamedProducts() {
  static const OpTable table = [] {
    OpTable t = kRefOps;
    t.product_implementation = kCpuOps.product_implementation;
    t.grouped_gemm = kCpuOps.grouped_gemm;
    t.grouped_fp8_gemm = kCpuOps.grouped_fp8_gemm;
    return t;
  }();
  return table;
}

const OpTable* Choose() {
  std::array<const char*, std::size(kTables)> names;
  for (size_t i = 0; i < names.size(); ++i) names[i] = kTables[i]->name;
  const OpTable* const table = kTables[EnvironmentChoice("JEVONS_OPS", names).value_or(0)];
  return table == &kRefOps && cpu::GemmImplIsForced() ? &RefWithNamedProducts() : table;
}

const OpTable*& Selected() {
  static const OpTable* table = Choose();
  return table;
}

}  // namespace

std::span<const OpTable* const> OpTables() { return kTables; }

const OpTable& Ops(const Stream& stream) {
  switch (stream.device) {
    case Device::kCpu: return *Selected();
    case Device::kCuda: return cuda::Operators();
    case Device::kNone: return stream.counted == Device::kCuda ? cuda::kCountedOps : kCountedCpuOps;
  }
  JEVONS_CHECK(false, "device %d", static_cast<int>(stream.device));
}

void SelectOps(const OpTable& table) { Selected() = &table; }

}  // namespace jevons
