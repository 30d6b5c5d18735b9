#include "trainer/plan/kernel_model.h"

#include <algorithm>

namespace jevons {
namespace {

constexpr double kBackwardProducts = 2.5;  // attention's backward has five products for forward's two

double Bytes(Precision precision) { return precision == Precision::kFp32 ? 4 : precision == Precision::kBf16 ? 2 : 1; }

}  // namespace

double KernelModel::MainLoopRate(Precision precision) const {
  const GpuConfig& gpu = cluster_.gpu();
  if (IsFp8(precision)) return 1e12 * gpu.fp8_tflops();
  return 1e12 * (precision == Precision::kFp32 ? gpu.fp32_tflops() : gpu.bf16_tflops());
}

double KernelModel::PaddedRows(const GemmSize& s) const {
  return s.groups > 1 ? s.m + s.groups * static_cast<double>(cluster_.gpu().tile_rows()) / 2 : s.m;
}

double KernelModel::Gemm(const GemmSize& s, Precision precision) const {
  const double rows = PaddedRows(s);
  const double compute = 2 * rows * s.n * s.k / MainLoopRate(precision);
  const double operands = Bytes(precision) * (rows * s.k + s.groups * s.n * s.k) / hbm();
  return std::max(compute, operands) + std::max(2.0, Bytes(precision)) * rows * s.n / hbm() + cluster_.gpu().launch_us() * 1e-6;
}

double KernelModel::WeightGradient(const GemmSize& s, Precision precision) const {
  const double rows = PaddedRows(s);
  const double rate = MainLoopRate(precision) * (precision == Precision::kFp8Block ? constants_.fp8_wgrad_share : 1);
  const double compute = 2 * rows * s.n * s.k / rate;
  const double operands = Bytes(precision) * rows * (s.n + s.k) / hbm();
  return std::max(compute, operands) + 8 * s.groups * s.n * s.k / hbm() + cluster_.gpu().launch_us() * 1e-6;
}

double KernelModel::AttentionForward(double pairs, double width, double length) const {
  const double rate = 1e12 * cluster_.gpu().attention_forward_tflops() * length / (length + constants_.attention_half_length);
  return pairs * width / rate;  // 2 FLOPs per multiply-add, half of the pairs
}

double KernelModel::AttentionBackward(double pairs, double width, double length) const {
  const double rate = 1e12 * cluster_.gpu().attention_backward_tflops() * length / (length + constants_.attention_half_length);
  return kBackwardProducts * pairs * width / rate;
}

double KernelModel::Elementwise(double bytes) const {
  const GpuConfig& gpu = cluster_.gpu();
  return bytes / 1e9 / (gpu.elementwise_gbs() > 0 ? gpu.elementwise_gbs() : gpu.hbm_gbs() * constants_.elementwise_share);
}
double KernelModel::Cast(double bytes) const {
  const GpuConfig& gpu = cluster_.gpu();
  return bytes / 1e9 / (gpu.cast_gbs() > 0 ? gpu.cast_gbs() : gpu.hbm_gbs() * constants_.cast_share);
}
double KernelModel::Stream(double bytes) const { return bytes / hbm(); }

double KernelModel::NetworkRate(const Layout& layout) const {
  const double share = layout.dispatch == Dispatch::kFlat ? constants_.plain_share : constants_.network_share;
  const NetworkConfig& network = cluster_.network();
  const bool rail = layout.dispatch == Dispatch::kTwoHops && network.rail_exchange_gbs() > 0;
  const double measured = rail ? network.rail_exchange_gbs() : network.exchange_gbs();
  return 1e9 * (measured > 0 ? measured : network.gbs() * share);
}

Hops KernelModel::Exchange(double bytes, const DispatchRows& rows, const Layout& layout) const {
  if (layout.ep == 1) return {};
  const double ep = static_cast<double>(layout.ep), gpus = std::min<double>(ep, static_cast<double>(cluster_.node().gpus()));
  const double nodes = ep / gpus, latency = cluster_.network().latency_us();
  const auto start = [&](double measured_us, double ranks) { return 1e-6 * (measured_us > 0 ? measured_us : ranks * latency); };
  const double network = nodes > 1 ? bytes * rows.network / NetworkRate(layout) : 0;
  const double node = bytes * rows.links / (cluster_.node().nvlink_gbs() * 1e9 * constants_.nvlink_share);
  switch (layout.dispatch) {
    case Dispatch::kFlat: return {.network = network + node + start(cluster_.network().exchange_us(), ep)};
    case Dispatch::kForwarding: return {.network = std::max(network, node) + 1e-6 * (nodes > 1 ? 2 * latency * nodes : latency)};
    case Dispatch::kTwoHops: break;
  }
  return {.network = nodes > 1 ? network + start(cluster_.network().rail_exchange_us(), nodes) : 0,
          .node = gpus > 1 ? node + start(cluster_.node().exchange_us(), gpus) : 0};
}

Hops KernelModel::ToExperts(double tokens, double row_bytes, const ModelShape& model, const Layout& layout) const {
  return Exchange(tokens * row_bytes, RowsOfToken(model, layout, cluster_.node().gpus()), layout);
}
Hops KernelModel::FromExperts(double tokens, double row_bytes, const ModelShape& model, const Layout& layout) const {
  return Exchange(tokens * row_bytes, SumsOfToken(model, layout, cluster_.node().gpus()), layout);
}

double KernelModel::PlanDispatch(double tokens, const ModelShape& model, const Layout& layout) const {
  const NetworkConfig& network = cluster_.network();
  const double round = 1e-6 * network.exchange_us();
  if (layout.ep == 1 || layout.dispatch != Dispatch::kTwoHops) return layout.ep == 1 ? 0 : round;
  // Of each row how many experts it is for, and which: to each GPU with one, and along the rail for each node.
  const double ep = static_cast<double>(layout.ep), k = static_cast<double>(model.top_k);
  const double nodes = ep / std::min<double>(ep, static_cast<double>(cluster_.node().gpus()));
  const double numbers = 2 * k + PartsOfToken(nodes, model, layout.limit_nodes) + PartsOfToken(ep, model, layout.limit_nodes);
  const double lists = round > 0 ? 4 * tokens * numbers * (1 - 1 / nodes) / NetworkRate(layout) : 0;
  return 2 * round + lists + 1e-9 * network.forward_plan_ns() * tokens * k;
}

double KernelModel::Ring(double bytes, int64_t ranks, int64_t inside) const {
  if (ranks <= 1) return 0;
  const double link = cluster_.node().nvlink_gbs() * 1e9 * constants_.nvlink_share;
  const double network =
      cluster_.network().gbs() * 1e9 * constants_.network_share * static_cast<double>(std::max<int64_t>(inside, 1));
  const double rate = inside >= ranks ? link : (inside > 1 ? std::min(link, network) : network);
  return bytes * static_cast<double>(ranks - 1) / static_cast<double>(ranks) / rate +
         cluster_.network().latency_us() * 1e-6 * static_cast<double>(ranks);
}

double KernelModel::Direct(double bytes, int64_t ranks, int64_t inside) const {
  if (ranks <= 1) return 0;
  const double link = cluster_.node().nvlink_gbs() * 1e9 * constants_.nvlink_share;
  const double network = cluster_.network().gbs() * 1e9 * constants_.network_share, part = bytes / static_cast<double>(ranks);
  const auto near = static_cast<double>(std::clamp<int64_t>(inside, 1, ranks)), far = static_cast<double>(ranks) - near;
  return (far > 0 ? part * far / network : 0) + part * (near - 1) / link +
         cluster_.network().latency_us() * 1e-6 * static_cast<double>(ranks);
}

double KernelModel::PointToPoint(double bytes, bool inside_node) const {
  const double rate =
      inside_node ? cluster_.node().nvlink_gbs() * constants_.nvlink_share : cluster_.network().gbs() * constants_.network_share;
  return bytes / (rate * 1e9) + cluster_.network().latency_us() * 1e-6;
}

double KernelModel::lent_share() const {
  const GpuConfig& gpu = cluster_.gpu();
  return 1 - static_cast<double>(gpu.communication_sms()) / static_cast<double>(gpu.sms());
}

}  // namespace jevons
