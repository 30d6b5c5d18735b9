#include "configs/cluster.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "configs/field_ranges.h"
#include "configs/parse_errors.h"
#include "configs/text_file.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

constexpr FieldRange kRanges[] = {
    {"gpus", 1, 1e6},
    {"gpu.peak_bf16_tflops", 0.001, 1e6},
    {"gpu.bf16_tflops", 0.001, 1e6},
    {"gpu.fp8_tflops", 0, 1e6},
    {"gpu.fp32_tflops", 0, 1e6},
    {"gpu.attention_forward_tflops", 0.001, 1e6},
    {"gpu.attention_backward_tflops", 0.001, 1e6},
    {"gpu.hbm_gbs", 1, 1e6},
    {"gpu.hbm_gib", 0.1, 1e5},
    {"gpu.reserved_gib", 0, 1e5},
    {"gpu.sms", 1, 1e5},
    {"gpu.communication_sms", 0, 1e5},
    {"gpu.launch_us", 0, 1e6},
    {"gpu.tile_rows", 0, 1e4},
    {"gpu.elementwise_gbs", 0, 1e6},
    {"gpu.cast_gbs", 0, 1e6},
    {"unevenness", -1, 10},
    {"node.gpus", 1, 1e4},
    {"node.nvlink_gbs", 0.01, 1e5},
    {"node.exchange_us", 0, 1e7},
    {"network.gbs", 0, 1e5},
    {"network.latency_us", 0, 1e6},
    {"network.exchange_gbs", 0, 1e5},
    {"network.exchange_us", 0, 1e7},
    {"network.rail_exchange_us", 0, 1e7},
    {"network.rail_exchange_gbs", 0, 1e5},
    {"network.forward_plan_ns", 0, 1e7},
    {"hour.dollars_per_gpu", 0, 1e6},
    {"hour.watts_per_gpu", 0, 1e6},
    {"hour.gpu_mtbf_hours", 1, 1e9},
    {"hour.restart_minutes", 0, 1e6},
    {"hour.checkpoint_gbs", 0.001, 1e6},
    {"hour.checkpoint_minutes", 0.01, 1e6},
};

}  // namespace

std::vector<Violation> Validate(const ClusterConfig& cluster) {
  std::vector<Violation> violations;
  if (cluster.name().empty()) violations.push_back({"name", "not set", "must name the GPU", ""});
  for (const FieldRange& range : kRanges) CheckRange(cluster, range, "", violations);
  if (!violations.empty()) return violations;
  const GpuConfig& gpu = cluster.gpu();
  if (gpu.communication_sms() >= gpu.sms()) {
    violations.push_back({"gpu.communication_sms", absl::StrCat(gpu.communication_sms()),
                          absl::StrCat("must be less than gpu.sms = ", gpu.sms()), absl::StrCat(gpu.sms() - 1)});
  }
  if (gpu.reserved_gib() >= gpu.hbm_gib()) {
    violations.push_back({"gpu.reserved_gib", absl::StrCat(gpu.reserved_gib()),
                          absl::StrCat("must be less than gpu.hbm_gib = ", gpu.hbm_gib()), "4"});
  }
  if (cluster.gpus() > cluster.node().gpus()) {
    if (cluster.gpus() % cluster.node().gpus() != 0) {
      const int64_t node = cluster.node().gpus(), nodes = (cluster.gpus() + node / 2) / node;
      violations.push_back({"gpus", absl::StrCat(cluster.gpus()), absl::StrCat("must be whole nodes of node.gpus = ", node),
                            absl::StrCat(std::max<int64_t>(nodes, 1) * node)});
    }
    if (cluster.network().gbs() <= 0) {
      violations.push_back({"network.gbs", "0",
                            absl::StrCat("must be positive: ", cluster.gpus(), " GPUs in nodes of ", cluster.node().gpus(),
                                         " need a link between nodes"),
                            absl::StrCat("50, or gpus: ", cluster.node().gpus(), " without one")});
    }
  }
  return violations;
}

absl::StatusOr<ClusterConfig> ParseCluster(const std::string& text, const std::string& name) {
  ClusterConfig cluster;
  JEVONS_RETURN_IF_ERROR(ParseText(text, name, cluster));
  JEVONS_RETURN_IF_ERROR(FileStatus(name, Validate(cluster)));
  return cluster;
}

absl::StatusOr<ClusterConfig> LoadCluster(const std::string& path) {
  JEVONS_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, "a cluster, such as configs/clusters/h800_2048.textproto"));
  return ParseCluster(text, path);
}

}  // namespace jevons
