#include "trainer/plan/layout.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "kernels/base/status.h"

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

int64_t NearestDivisor(int64_t n, int64_t x) {
  int64_t best = 1;
  for (int64_t d = 1; d * d <= n; ++d) {
    if (n % d != 0) continue;
    for (const int64_t c : {d, n / d})
      if (std::abs(c - x) < std::abs(best - x)) best = c;
  }
  return best;
}

absl::Status Refuse(const char* field, int64_t value, const std::string& rule, int64_t nearest) {
  return UsageError(absl::StrFormat("%s = %d: %s; nearest legal: %d", field, value, rule, nearest));
}

}  // namespace

const char* Name(Precision precision) {
  switch (precision) {
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
  return {.gpus = gpus,
          .pp = config.parallel().pp(),
          .ep = config.parallel().ep(),
          .schedule = KindOf(config.parallel().schedule()),
          .virtual_stages = config.parallel().virtual_stages(),
          .sequence = config.data().sequence_length(),
          .batch = config.train().batch_sequences(),
          .micro_batch = config.train().micro_batch_sequences(),
          .precision = fp8 ? Precision::kFp8Block : Precision::kBf16,
          .recompute = config.train().recompute_up_projections() ? Recompute::kSelective : Recompute::kElementwise,
          .bf16_moments = config.optimizer().moments() == MOMENTS_BF16};
}

absl::Status ValidateLayout(const Layout& l, const ModelShape& model, const ClusterConfig& cluster) {
  if (l.gpus > cluster.gpus())
    return Refuse("gpus", l.gpus, absl::StrFormat("the cluster has %d", cluster.gpus()), cluster.gpus());
  const int64_t share = l.tp * l.cp;
  if (l.gpus % (l.pp * share) != 0) {
    return Refuse("parallel.pp", l.pp, absl::StrFormat("pp x tp x cp = %d must divide %d GPUs", l.pp * share, l.gpus),
                  NearestDivisor(std::max<int64_t>(1, l.gpus / share), l.pp));
  }
  const int64_t blocks = model.layers + model.mtp_modules, stages = l.schedule_shape().stages();
  if (stages > blocks) {
    return Refuse("parallel.pp", l.pp, absl::StrFormat("%d stages for %d blocks leave some empty", stages, blocks),
                  std::max<int64_t>(1, blocks * l.pp / stages));
  }
  const int64_t most = model.moe() ? model.experts : 1;
  if (l.ep > most || most % l.ep != 0) {
    return Refuse("parallel.ep", l.ep, absl::StrFormat("must divide the %d routed experts", most), NearestDivisor(most, l.ep));
  }
  const int64_t ranks = l.gpus / l.pp;
  if (ranks % l.ep != 0) {
    return Refuse("parallel.ep", l.ep, absl::StrFormat("must divide the %d GPUs of a stage", ranks), NearestDivisor(ranks, l.ep));
  }
  const int64_t unit = l.dp() * l.micro_batch;
  if (l.batch % unit != 0 || l.batch < unit) {
    return Refuse("train.batch_sequences", l.batch,
                  absl::StrFormat("must be a multiple of %d: %d data-parallel ranks x micro-batches of %d", unit, l.dp(), l.micro_batch),
                  std::max<int64_t>(1, (l.batch + unit / 2) / unit) * unit);
  }
  if (l.precision != Precision::kBf16 && cluster.gpu().fp8_tflops() <= 0)
    return UsageError(absl::StrFormat("precision.gemm = FP8_BLOCK: %s has no FP8 (gpu.fp8_tflops = 0); nearest legal: AS_COMPUTE",
                                      cluster.name()));
  if (l.pp == 1) return absl::OkStatus();
  return l.schedule_shape().Validate();
}

}  // namespace jevons
