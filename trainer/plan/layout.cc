#include "trainer/plan/layout.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "configs/defaults.h"
#include "kernels/base/status.h"
#include "kernels/ops/fp8_weight.h"

namespace jevons {
namespace {

ScheduleKind KindOf(ScheduleType type) {
  switch (type) {
    case GPIPE: return ScheduleKind::kGPipe;
    case INTERLEAVED: return ScheduleKind::kInterleaved;
    case ZB_H1: return ScheduleKind::kZBH1;
    case DUALPIPE: return ScheduleKind::kDualPipe;
    case DUALPIPEV: return ScheduleKind::kDualPipeV;
    case ONE_F_ONE_B: break;
  }
  return ScheduleKind::k1F1B;
}

// What is wrong with a layout.
struct Fault {
  const char* field;
  int64_t Layout::*value;
  std::string rule;
};

std::optional<Fault> FindFault(const Layout& l, const ModelShape& model, const ClusterConfig& cluster) {
  const auto fault = [](const char* field, int64_t Layout::*value, const std::string& rule) { return Fault{field, value, rule}; };
  if (l.gpus > cluster.gpus()) return fault("gpus", &Layout::gpus, absl::StrFormat("the cluster has %d", cluster.gpus()));
  const int64_t share = l.pp * l.tp * l.cp;
  if (l.gpus % share != 0)
    return fault("parallel.pp", &Layout::pp, absl::StrFormat("pp x tp x cp = %d must divide %d GPUs", share, l.gpus));
  const int64_t blocks = model.layers + model.mtp_modules, stages = l.schedule_shape().stages();
  if (stages > blocks)
    return fault("parallel.pp", &Layout::pp, absl::StrFormat("%d stages for %d blocks leave some empty", stages, blocks));
  const int64_t most = model.moe() ? model.experts : 1;
  if (l.ep > most || most % l.ep != 0)
    return fault("parallel.ep", &Layout::ep, absl::StrFormat("must divide the %d routed experts", most));
  const int64_t ranks = l.gpus / l.pp;
  if (ranks % l.ep != 0) return fault("parallel.ep", &Layout::ep, absl::StrFormat("must divide the %d GPUs of a stage", ranks));
  const int64_t unit = l.dp() * l.micro_batch;
  if (l.batch % unit != 0 || l.batch < unit) {
    return fault(
        "train.batch_sequences", &Layout::batch,
        absl::StrFormat("must be a multiple of %d: %d data-parallel ranks x micro-batches of %d", unit, l.dp(), l.micro_batch));
  }
  if (l.pp == 1) return std::nullopt;
  const absl::Status schedule = l.schedule_shape().Validate();
  if (schedule.ok()) return std::nullopt;
  const std::string rule(schedule.message());  // the schedule's own nearest value may break another rule
  return fault("train.batch_sequences", &Layout::batch, rule.substr(0, rule.find("; nearest")));
}

std::vector<int64_t> Divisors(int64_t n) {
  std::vector<int64_t> divisors;
  for (int64_t d = 1; d * d <= n; ++d) {
    if (n % d != 0) continue;
    divisors.push_back(d);
    if (d * d < n) divisors.push_back(n / d);
  }
  return divisors;
}

// Sets the batch to the nearest legal one; false where there is none. Schedules ask for an even number of micro-batches, a
// multiple of pp, or at least 2 pp: one of these is the nearest.
bool FitBatch(const ModelShape& model, const ClusterConfig& cluster, Layout& l) {
  const int64_t unit = l.dp() * l.micro_batch, wanted = l.batch, nearest = std::max<int64_t>(1, (wanted + unit / 2) / unit);
  const int64_t below = nearest / l.pp * l.pp;
  std::vector<int64_t> micro_batches = {nearest, nearest - 1, nearest + 1, below, below + l.pp, 2 * l.pp};
  std::stable_sort(micro_batches.begin(), micro_batches.end(),
                   [&](int64_t a, int64_t b) { return std::abs(a * unit - wanted) < std::abs(b * unit - wanted); });
  for (const int64_t n : micro_batches) {
    l.batch = n * unit;
    if (n > 0 && !FindFault(l, model, cluster)) return true;
  }
  return false;
}

// Few changes are near, then those of the field at fault, then small ones.
struct Distance {
  int changes = 0;
  bool elsewhere = false;
  double size = 0;
  bool operator<(const Distance& other) const {
    return std::tie(changes, elsewhere, size) < std::tie(other.changes, other.elsewhere, other.size);
  }
};
Distance DistanceOf(const Layout& l, const Layout& wanted, const Fault& fault) {
  Distance distance{.changes = 0, .elsewhere = l.*fault.value == wanted.*fault.value, .size = 0};
  for (const auto field : {&Layout::gpus, &Layout::pp, &Layout::ep, &Layout::batch}) {
    distance.changes += l.*field != wanted.*field;
    distance.size += std::abs(std::log(static_cast<double>(l.*field) / static_cast<double>(wanted.*field)));
  }
  return distance;
}

// The legal layout that differs least in pp, ep and batch.
std::optional<Layout> NearestLegal(const Layout& wanted, const Fault& fault, const ModelShape& model,
                                   const ClusterConfig& cluster) {
  std::optional<Layout> best;
  Layout l = wanted;
  l.gpus = std::min(wanted.gpus, cluster.gpus());
  const int64_t share = l.tp * l.cp;
  if (l.gpus % share != 0) return best;
  for (const int64_t pp : Divisors(l.gpus / share)) {
    if (pp > model.layers + model.mtp_modules) continue;
    for (const int64_t ep : Divisors(model.moe() ? model.experts : 1)) {
      if (l.gpus / pp % ep != 0) continue;
      l.pp = pp;
      l.ep = ep;
      l.batch = wanted.batch;
      if (FindFault(l, model, cluster) && !FitBatch(model, cluster, l)) continue;
      if (!best || DistanceOf(l, wanted, fault) < DistanceOf(*best, wanted, fault)) best = l;
    }
  }
  return best;
}

std::string Changes(const Layout& l, const Layout& wanted) {
  std::vector<std::string> changes;
  const auto add = [&](const char* field, int64_t Layout::*value) {
    if (l.*value != wanted.*value) changes.push_back(absl::StrFormat("%s = %d", field, l.*value));
  };
  add("gpus", &Layout::gpus);
  add("parallel.pp", &Layout::pp);
  add("parallel.ep", &Layout::ep);
  add("train.batch_sequences", &Layout::batch);
  return absl::StrJoin(changes, ", ");
}

absl::Status CheckPrecision(const Layout& l, const ClusterConfig& cluster) {
  if (IsFp8(l.precision) && cluster.gpu().fp8_tflops() <= 0)
    return UsageError(absl::StrFormat("precision.gemm = FP8_BLOCK: %s has no FP8 (gpu.fp8_tflops = 0); nearest legal: AS_COMPUTE",
                                      cluster.name()));
  if (l.plain() == Precision::kFp32 && cluster.gpu().fp32_tflops() <= 0)
    return UsageError(absl::StrFormat(
        "precision.compute = FP32: the table of %s has no FP32 rate (gpu.fp32_tflops = 0); nearest legal: BF16", cluster.name()));
  return absl::OkStatus();
}

}  // namespace

const char* Name(Precision precision) {
  switch (precision) {
    case Precision::kFp32: return "FP32";
    case Precision::kBf16: return "BF16";
    case Precision::kFp8Block: return "FP8";
    case Precision::kFp8Tensor: return "FP8 per tensor";
  }
  return "";
}

const char* Name(Recompute recompute) {
  switch (recompute) {
    case Recompute::kNone: return "none";
    case Recompute::kElementwise: return "elementwise";
    case Recompute::kSelective: return "selective";
    case Recompute::kFull: return "full";
  }
  return "";
}

const char* Name(Dispatch dispatch) {
  switch (dispatch) {
    case Dispatch::kForwarding: return "forwarded";
    case Dispatch::kTwoHops: return "in two hops";
    case Dispatch::kFlat: return "flat";
  }
  return "";
}

ScheduleShape Layout::schedule_shape() const {
  return {.kind = schedule,
          .pp = static_cast<int>(pp),
          .micro_batches = static_cast<int>(micro_batches()),
          .virtual_stages = static_cast<int>(virtual_stages)};
}

std::string Layout::ToString() const {
  std::string text = absl::StrFormat("PP%d EP%d DP%d", pp, ep, dp());
  if (tp > 1) text += absl::StrFormat(" TP%d", tp);
  if (cp > 1) text += absl::StrFormat(" CP%d", cp);
  if (pp > 1) {
    const absl::string_view name = Name(schedule);
    text += " " + std::string(name.data(), name.size());
    if (virtual_stages > 1) text += absl::StrFormat(" x%d", virtual_stages);
  }
  return text + absl::StrFormat(", micro-batch %d, %s, %s recomputation%s", micro_batch, Name(precision), Name(recompute),
                                overlap ? "" : ", no overlap");
}

Layout LayoutOf(const RunConfig& config, int64_t gpus) {
  const PrecisionConfig& precision = config.precision();
  const bool fp8 = precision.gemm() == FP8_BLOCK || precision.routed_experts() == FP8_BLOCK;
  const bool fp32 = precision.compute() == FP32;
  return {.gpus = gpus,
          .pp = config.parallel().pp(),
          .ep = config.parallel().ep(),
          .schedule = KindOf(config.parallel().schedule()),
          .virtual_stages = config.parallel().virtual_stages(),
          .sequence = config.data().sequence_length(),
          .batch = config.train().batch_sequences(),
          .micro_batch = config.train().micro_batch_sequences(),
          .precision = fp8    ? Precision::kFp8Block
                       : fp32 ? Precision::kFp32
                              : Precision::kBf16,
          .value_bytes = fp32 ? 4.0 : 2.0,
          .recompute = config.train().recompute_stages()           ? Recompute::kFull
                       : config.train().recompute_up_projections() ? Recompute::kSelective
                                                                   : Recompute::kElementwise,
          .dispatch = config.parallel().dispatch() == FLAT ? Dispatch::kFlat : Dispatch::kForwarding,
          .weight_codes = ReadsPlainB(config.parallel().backend() == CUDA ? Device::kCuda : Device::kCpu) ? 1 : 2,
          .values_of_codes = config.precision().compute() == FP32 || config.precision().shadow_interval() > 0,
          .bf16_moments = config.optimizer().moments() == MOMENTS_BF16,
          .gradient_bytes = SumsOf(config) == EXACT ? 8.0 : 4.0,
          .rings = config.parallel().backend() == CUDA};
}

absl::StatusOr<Layout> CutLayoutOf(const RunConfig& config, int64_t gpus) {
  Layout layout = LayoutOf(config, gpus);
  const ScheduleShape pipeline{
      .kind = layout.schedule, .pp = static_cast<int>(layout.pp), .virtual_stages = static_cast<int>(layout.virtual_stages)};
  JEVONS_ASSIGN_OR_RETURN(layout.cut, CutIntoStages(config.model(), pipeline.stages(), config.parallel().stages()));
  return layout;
}

absl::Status CheckLayout(const Layout& l, const ModelShape& model, const ClusterConfig& cluster) {
  const std::optional<Fault> fault = FindFault(l, model, cluster);
  if (fault) return UsageError(absl::StrFormat("%s = %d: %s", fault->field, l.*fault->value, fault->rule));
  return CheckPrecision(l, cluster);
}

absl::Status ValidateLayout(const Layout& l, const ModelShape& model, const ClusterConfig& cluster) {
  const absl::Status status = CheckLayout(l, model, cluster);
  const std::optional<Fault> fault = FindFault(l, model, cluster);
  if (!fault) return status;
  const std::optional<Layout> nearest = NearestLegal(l, *fault, model, cluster);
  return UsageError(absl::StrFormat("%s; nearest legal: %s", status.message(),
                                    nearest ? Changes(*nearest, l) : "none with these micro-batches and this schedule"));
}

}  // namespace jevons
