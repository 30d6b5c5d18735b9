#include "absl/strings/str_format.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/router_plan.h"
#include "kernels/cuda/sort.h"

namespace jevons::cuda {
namespace {

std::string RoutingRefusal(const RouterDesc& desc, const WarpRoom& room) {
  if (room.fits()) return "";
  return absl::StrFormat("CUDA's routing to %d experts takes %d bytes of shared memory, and there are %d", desc.experts,
                         room.bytes, kMostRouterBytes);
}

}  // namespace

std::string RouterRefusal(const RouterDesc& desc, const RouterForward&) { return RoutingRefusal(desc, RouterRoom(desc)); }

std::string BalanceLossRefusal(const RouterDesc& desc, const Tensor&, int64_t, const Tensor&, const Tensor&) {
  return RoutingRefusal(desc, BalanceLossRoom(desc));
}

std::string RouterBackwardRefusal(const RouterDesc& desc, const RouterGrad&) {
  return RoutingRefusal(desc, RouterBackwardRoom(desc));
}

std::string SortByExpertRefusal(const Tensor&, const Tensor& counts, const Tensor&, const Tensor&) {
  if (counts.size() <= kMostBuckets) return "";
  return absl::StrFormat("CUDA sorts by at most %d experts, and there are %d", kMostBuckets, counts.size());
}

std::string QuantizeWeightsRefusal(std::span<const QuantizeWeightDesc> descs, QuantStats*) {
  for (const auto& [value, weight] : descs) {
    if (!weight.turned.codes && value.size() > 0)
      return absl::StrFormat("CUDA's products read W^T, and the weight %s has no room for it (AllocateFp8Weight)",
                             value.ToString());
  }
  return "";
}

}  // namespace jevons::cuda
