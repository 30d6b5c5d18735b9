#include "kernels/ops/registry.h"

#include <array>

#include "kernels/base/environment.h"

namespace jevons {
namespace {

constexpr const OpTable* kTables[] = {&kCpuOps, &kRefOps};

const OpTable* Choose() {
  std::array<const char*, std::size(kTables)> names;
  for (size_t i = 0; i < names.size(); ++i) names[i] = kTables[i]->name;
  return kTables[EnvironmentChoice("JEVONS_OPS", names).value_or(0)];
}

const OpTable*& Selected() {
  static const OpTable* table = Choose();
  return table;
}

}  // namespace

std::span<const OpTable* const> OpTables() { return kTables; }
const OpTable& Ops(const Stream& stream) {
  switch (stream.device) {
    case Device::kCpu:
      return *Selected();
    case Device::kCuda:
      return cuda::Operators();
    case Device::kNone:
      return stream.counted == Device::kCuda ? cuda::kCountedOps : kCountedCpuOps;
  }
  JEVONS_CHECK(false, "device %d", static_cast<int>(stream.device));
}
void SelectOps(const OpTable& table) { Selected() = &table; }

}  // namespace jevons
