#include "trainer/plan/calibration.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"

namespace jevons {
namespace {

// Sums over the samples of one type, weighted by 1 / seconds^2: f = FLOPs, y = seconds without the bytes' share.
struct Sums {
  double one = 0, f = 0, y = 0, ff = 0, fy = 0;
};

double OwnSeconds(const ProductSample& s, const Measurements& m) {
  return std::max(s.seconds - s.bytes / (m.copy.gbs() * 1e9), 0.01 * s.seconds);
}

Sums SumsOf(const std::vector<ProductSample>& samples, const Measurements& m) {
  Sums sums;
  for (const ProductSample& s : samples) {
    const double w = 1 / (s.seconds * s.seconds), y = OwnSeconds(s, m);
    sums.one += w;
    sums.f += w * s.flops;
    sums.y += w * y;
    sums.ff += w * s.flops * s.flops;
    sums.fy += w * s.flops * y;
  }
  return sums;
}

std::string Line(const char* name, double value, const std::string& comment, int indent = 2) {
  const bool whole = value == std::floor(value) && std::abs(value) < 1e15;
  const std::string number = whole ? absl::StrFormat("%.0f", value) : absl::StrFormat("%.4g", value);
  return absl::StrFormat("%-40s# %s\n", std::string(static_cast<size_t>(indent), ' ') + name + ": " + number, comment);
}

}  // namespace

ProductFit FitProducts(const Measurements& m) {
  std::array<Sums, 3> sums;
  double top = 0, bottom = 0;
  for (size_t p = 0; p < sums.size(); ++p) {
    sums[p] = SumsOf(m.products[p], m);
    top += sums[p].y - sums[p].f * sums[p].fy / sums[p].ff;
    bottom += sums[p].one - sums[p].f * sums[p].f / sums[p].ff;
  }
  // With sizes all alike a start cannot be told from a rate.
  const double start = bottom > 1e-9 * sums[0].one ? std::max(0.0, top / bottom) : 0;
  ProductFit fit{.tflops = {}, .launch_us = start * 1e6, .mean_error = 0};
  double count = 0;
  for (size_t p = 0; p < sums.size(); ++p) {
    const double per_flop = std::max((sums[p].fy - sums[p].f * start) / sums[p].ff, 1e-18);
    fit.tflops[p] = 1e-12 / per_flop;
    for (const ProductSample& s : m.products[p]) {
      fit.mean_error += std::abs((s.flops * per_flop + start - OwnSeconds(s, m)) / s.seconds);
      ++count;
    }
  }
  fit.mean_error /= std::max(1.0, count);
  return fit;
}

ClusterConfig FitCluster(const Measurements& m, const Constants& constants) {
  const ProductFit fit = FitProducts(m);
  const double length = (m.attention_length + constants.attention_half_length) / m.attention_length;
  ClusterConfig cluster;
  cluster.set_name(m.device);
  cluster.set_gpus(m.ranks);
  GpuConfig& gpu = *cluster.mutable_gpu();
  gpu.set_peak_bf16_tflops(m.peak_tflops);
  gpu.set_fp32_tflops(fit.tflops[0]);
  gpu.set_bf16_tflops(fit.tflops[1]);
  gpu.set_fp8_tflops(fit.tflops[2]);
  gpu.set_attention_forward_tflops(m.attention_forward_flops / m.attention_forward_seconds / 1e12 * length);
  gpu.set_attention_backward_tflops(m.attention_backward_flops / m.attention_backward_seconds / 1e12 * length);
  gpu.set_hbm_gbs(m.copy.gbs() / constants.hbm_share);
  gpu.set_hbm_gib(m.memory_gib / m.ranks_per_node);
  gpu.set_reserved_gib(m.occupied_gib / m.ranks_per_node);
  gpu.set_sms(m.threads);
  gpu.set_communication_sms(0);
  gpu.set_launch_us(fit.launch_us);
  gpu.set_tile_rows(0);
  gpu.set_elementwise_gbs(m.elementwise.gbs());
  gpu.set_cast_gbs(m.cast.gbs());
  const bool alone = m.ranks_per_node == 1;
  cluster.mutable_node()->set_gpus(m.ranks_per_node);
  cluster.mutable_node()->set_nvlink_gbs(alone ? m.copy.gbs() : m.exchange_gbs / constants.nvlink_share);
  cluster.mutable_network()->set_gbs(m.network_gbs / constants.network_share);
  cluster.mutable_network()->set_exchange_gbs(m.network_gbs);
  cluster.mutable_network()->set_latency_us(m.exchange_seconds * 1e6 / m.ranks);
  cluster.mutable_node()->set_exchange_us(m.node_exchange_seconds * 1e6);
  cluster.mutable_network()->set_exchange_us(m.exchange_seconds * 1e6);
  cluster.mutable_network()->set_rail_exchange_us(m.rail_exchange_seconds * 1e6);
  cluster.mutable_network()->set_rail_exchange_gbs(m.rail_gbs);
  cluster.mutable_network()->set_forward_plan_ns(m.forward_plan_seconds * 1e9);
  cluster.set_unevenness(0);
  cluster.mutable_hour()->set_dollars_per_gpu(m.dollars_per_device_hour * m.threads);
  cluster.mutable_hour()->set_watts_per_gpu(0);
  return cluster;
}

std::string CalibrationText(const Measurements& m, const Constants& constants) {
  const ClusterConfig c = FitCluster(m, constants);
  const GpuConfig& gpu = c.gpu();
  const auto divided = [](const char* what, double measured, double share) {
    return absl::StrFormat("measured: %s %.4g GB/s; the model takes %.2g of it", what, measured, share);
  };
  std::string text = absl::StrFormat(
      "# Measured by jevons bench calibrate on %s: %d ranks of %d threads, %d on a machine. A \"GPU\" is a "
      "rank.\n"
      "# %s. Products fit within %.0f%% on average.\n"
      "name: \"%s\"\n",
      m.date, m.ranks, m.threads, m.ranks_per_node, m.shapes, 100 * FitProducts(m).mean_error, absl::CEscape(m.device));
  text += Line("gpus", static_cast<double>(c.gpus()), "ranks", 0);
  text +=
      Line("unevenness", 0, "none beyond what is measured: all ranks at once, and of messages the slowest rank's", 0) + "gpu {\n";
  text += Line("peak_bf16_tflops", gpu.peak_bf16_tflops(), "measured: FP32 multiply-adds on registers; what an MFU relates to");
  text += Line("fp32_tflops", gpu.fp32_tflops(), "fitted with launch_us on the products");
  text += Line("bf16_tflops", gpu.bf16_tflops(), "the same");
  text += Line("fp8_tflops", gpu.fp8_tflops(), "the same; FP8 is emulated");
  const std::string scaled = absl::StrFormat("at %g tokens, for endless ones by the model's law", m.attention_length);
  text += Line("attention_forward_tflops", gpu.attention_forward_tflops(), "measured " + scaled);
  text += Line("attention_backward_tflops", gpu.attention_backward_tflops(), "measured " + scaled);
  text += Line("hbm_gbs", gpu.hbm_gbs(), divided("a copy's", m.copy.gbs(), constants.hbm_share));
  text += Line("hbm_gib", gpu.hbm_gib(), "a rank's part of the machine's memory, or of what this container may use");
  text += Line("reserved_gib", gpu.reserved_gib(), "a rank's part of what others had in use");
  text += Line("sms", static_cast<double>(gpu.sms()), "threads of a rank");
  text += Line("communication_sms", 0, "a CPU's messages overlap with nothing");
  text += Line("launch_us", gpu.launch_us(), "fitted with the rates");
  text += Line("tile_rows", 0, "not measured: a CPU's grouped products take rows as they come");
  text += Line("elementwise_gbs", gpu.elementwise_gbs(), "measured: norms and SwiGLU, forward and backward, and the loss");
  text += Line("cast_gbs", gpu.cast_gbs(), "measured: BF16 to E4M3 in tiles of 1x128");
  text += "}\nnode {\n" + Line("gpus", static_cast<double>(c.node().gpus()), "ranks on this machine");
  text += Line("nvlink_gbs", c.node().nvlink_gbs(),
               m.ranks_per_node == 1 ? "not measured: one rank has no peer on its machine"
                                     : divided("an all-to-all's", m.exchange_gbs, constants.nvlink_share));
  text += Line("exchange_us", c.node().exchange_us(), "measured: an all-to-all of 1 KiB to each of them");
  text += "}\nnetwork {\n";
  text += Line("gbs", c.network().gbs(),
               m.ranks == m.ranks_per_node ? "one machine"
                                           : divided("an all-to-all's between machines", m.network_gbs, constants.network_share));
  text += Line("exchange_gbs", c.network().exchange_gbs(),
               m.ranks == m.ranks_per_node ? "one machine" : "measured: the same all-to-all");
  text += Line("latency_us", c.network().latency_us(), m.ranks == 1 ? "one rank" : "exchange_us, for each rank");
  text += Line("exchange_us", c.network().exchange_us(), m.ranks == 1 ? "one rank" : "measured: an all-to-all of 1 KiB to each");
  text += Line("rail_exchange_us", c.network().rail_exchange_us(), "the same among ranks of one place on each machine");
  text += Line("rail_exchange_gbs", c.network().rail_exchange_gbs(), "the same, of messages as long as a forwarded dispatch's");
  text += Line("forward_plan_ns", c.network().forward_plan_ns(),
               m.forward_plan_seconds == 0 ? "not measured: nothing to forward" : "measured: the lists of a forwarded dispatch");
  text += "}\nhour {\n";
  text += Line("dollars_per_gpu", c.hour().dollars_per_gpu(), "cost.price_per_device_hour for each thread");
  text += Line("watts_per_gpu", 0, "not measured");
  return text + "}\n";
}

}  // namespace jevons
