#include "kernels/cuda/report.h"

#include <mutex>
#include <set>

#include "absl/strings/str_format.h"
#include "kernels/base/log.h"

namespace jevons::cuda {
namespace {

constexpr size_t kMostKinds = 16;  // that are told: experts bring new numbers of tokens with every step

std::mutex mutex;
Served served;
std::set<std::string>& Told() {
  static auto* told = new std::set<std::string>;
  return *told;
}

}  // namespace

Served ServedSoFar() {
  const std::lock_guard lock(mutex);
  return served;
}

std::string ServedText(const Served& s) {
  return absl::StrFormat(
      "products: %d by wgmma, %d by cublaslt, %d by plain; attention: %d by cudnn, %d by plain; %d fell back to a "
      "slower one",
      s.wgmma, s.cublaslt, s.plain, s.cudnn, s.plain_attention, s.fallbacks);
}

void CountServed(int64_t Served::*who, int64_t count) {
  const std::lock_guard lock(mutex);
  served.*who += count;
}

void CountFallback(const std::string& what) {
  const std::lock_guard lock(mutex);
  ++served.fallbacks;
  if (Told().size() >= kMostKinds || !Told().insert(what).second) return;
  LogWarning(what + "; slower kernels serve");
  if (Told().size() == kMostKinds)
    LogWarning("more products and attention fall back to slower kernels, and are not told one by one");
}

}  // namespace jevons::cuda
