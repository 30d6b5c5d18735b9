#include "kernels/ops/registry.h"

#include <cstdlib>
#include <cstring>

namespace jevons {
namespace {

constexpr const OpTable* kTables[] = {&kCpuOps, &kRefOps};

const OpTable* Choose() {
  const char* forced = std::getenv("JEVONS_OPS");
  if (forced == nullptr || forced[0] == '\0') return kTables[0];
  for (const OpTable* table : kTables)
    if (std::strcmp(table->name, forced) == 0) return table;
  CheckFailed(__FILE__, __LINE__, "JEVONS_OPS",
              "no implementation is called '%s'; say cpu or ref, or unset it", forced);
}

const OpTable*& Selected() {
  static const OpTable* table = Choose();
  return table;
}

}  // namespace

std::span<const OpTable* const> OpTables() { return kTables; }
const OpTable& Ops(const Stream& stream) {
  return stream.device == Device::kCuda ? cuda::Operators() : *Selected();
}
void SelectOps(const OpTable& table) { Selected() = &table; }

}  // namespace jevons
