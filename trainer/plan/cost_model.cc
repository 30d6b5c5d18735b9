#include "trainer/plan/cost_model.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/base/check.h"

namespace jevons {
namespace {

double SecondsOf(const std::vector<BlockTimes>& parts, const LayerModel& layers, bool overlap) {
  double sum = 0;
  for (const BlockTimes& part : parts)
    sum += overlap ? layers.Overlapped(part, part) : part.forward().sum() + part.input().sum() + part.weight().sum();
  return sum;
}

PlannedStage PlanStage(const ModelShape& model, const LayerModel& layers, const StagePart& part) {
  const int64_t dense = std::clamp<int64_t>(model.dense_layers - part.layers.begin, 0, part.layers.size());
  PlannedStage stage{
      .content = {.dense_blocks = dense, .moe_blocks = part.layers.size() - dense, .embedding = part.first, .tail = part.last},
      .parts = {},
      .forward = {},
      .input = {},
      .weight = {}};
  const BlockTimes moe = model.moe() ? layers.Block(false) : BlockTimes();
  if (part.first) stage.parts.push_back(layers.Embedding());
  stage.parts.insert(stage.parts.end(), static_cast<size_t>(dense), layers.Block(true));
  stage.parts.insert(stage.parts.end(), static_cast<size_t>(stage.content.moe_blocks), moe);
  if (part.last) {
    stage.parts.push_back(layers.Head());
    for (int64_t k = 0; k < model.mtp_modules; ++k)
      for (const BlockTimes& of : {layers.MtpProjection(), moe, layers.Head()}) stage.parts.push_back(of);
  }
  for (const BlockTimes& of : stage.parts) {
    stage.forward += of.forward();
    stage.input += of.input();
    stage.weight += of.weight();
  }
  return stage;
}

double Power(double x) {
  const double x2 = x * x, x4 = x2 * x2;
  return x4 * x4;
}

// Ends of the stages over units that no cut divides: the sum of the eighth powers of their durations is least, so that the slowest counts first.
std::vector<size_t> BestCuts(const std::vector<double>& seconds, int stages) {
  const size_t n = seconds.size();
  double total = 0;
  for (const double unit : seconds) total += unit;
  std::vector<double> prefix(n + 1, 0);
  for (size_t i = 0; i < n; ++i) prefix[i + 1] = prefix[i] + seconds[i] / total * stages;
  std::vector<double> best(n + 1, std::numeric_limits<double>::infinity());
  best[0] = 0;
  std::vector<std::vector<size_t>> from(stages, std::vector<size_t>(n + 1, 0));
  for (int s = 0; s < stages; ++s) {
    std::vector<double> next(n + 1, std::numeric_limits<double>::infinity());
    for (size_t end = s + 1; end <= n; ++end) {
      for (size_t begin = s; begin < end; ++begin) {
        const double cost = best[begin] + Power(prefix[end] - prefix[begin]);
        if (cost < next[end]) next[end] = cost, from[s][end] = begin;
      }
    }
    best = std::move(next);
  }
  std::vector<size_t> ends(stages);
  size_t end = n;
  for (int s = stages - 1; s >= 0; --s) ends[s] = end, end = from[s][end];
  return ends;
}

// F of one stage beside B of another: their parts zipped in order, what is left over runs alone.
double OverlappedStages(const PlannedStage& f, const PlannedStage& b, const LayerModel& layers) {
  double seconds = 0;
  const size_t most = std::max(f.parts.size(), b.parts.size());
  static const BlockTimes nothing;
  for (size_t i = 0; i < most; ++i) {
    const BlockTimes& forward = i < f.parts.size() ? f.parts[i] : nothing;
    const BlockTimes& backward = i < b.parts.size() ? b.parts[b.parts.size() - 1 - i] : nothing;
    seconds += layers.Overlapped(forward, backward);
  }
  return seconds;
}

OptimizerTimes TimeOptimizer(const StageParameters& p, const Layout& l, int copies, const KernelModel& kernels) {
  const int64_t node = kernels.cluster().node().gpus();
  const int64_t dense_ranks = l.dp() * l.cp * copies, expert_ranks = std::max<int64_t>(l.edp(), 1) * copies;
  const int64_t dense_inside = std::min(node, l.dp() * l.cp),
                expert_inside = l.ep >= node ? 1 : std::min(node / l.ep, expert_ranks);
  const auto collective = [&](double bytes_each) {
    const double dense = bytes_each * p.dense, experts = bytes_each * p.experts;
    return l.rings ? kernels.Ring(dense, dense_ranks, dense_inside) + kernels.Ring(experts, expert_ranks, expert_inside)
                   : kernels.Direct(dense, dense_ranks, dense_inside) + kernels.Direct(experts, expert_ranks, expert_inside);
  };
  OptimizerTimes t;
  t.reduce = collective(l.gradient_bytes);
  t.gather = collective(l.value_bytes);
  if (!l.rings) {  // which leave the sum to the ranks: packed, and added as they arrive
    const double summed = (dense_ranks > 1 ? p.dense : 0) + (expert_ranks > 1 ? p.experts : 0);
    t.reduce += kernels.Stream(5 * l.gradient_bytes * summed);
  }
  const double owned = p.dense / static_cast<double>(dense_ranks) + p.experts / static_cast<double>(expert_ranks);
  const double master = l.value_bytes < 4 ? 8 + l.value_bytes : 8;                // read and written, with a copy in BF16
  const double state = l.gradient_bytes + 2 * (l.bf16_moments ? 4 : 8) + master;  // gradient; moments, read and written
  t.update = kernels.Stream(l.gradient_bytes * (p.dense + p.experts)) +
             kernels.Stream(state * owned);  // the norm reads all gradients once
  return t;
}

StageCosts CostsOf(const PlannedStage& stage, const ModelShape& model, const Layout& layout, double imbalance, double gap) {
  const StageActivations kept = ActivationsOf(stage.content, model, layout, imbalance);
  return {.forward = stage.forward.sum() * gap,
          .input = stage.input.sum() * gap,
          .weight = stage.weight.sum() * gap,
          .until_b = static_cast<int64_t>(kept.until_b),
          .until_w = static_cast<int64_t>(kept.until_w),
          .stash = static_cast<int64_t>(kept.stash)};
}

}  // namespace

std::vector<StagePart> FastestCut(const ModelShape& model, const LayerModel& layers, int stages, bool overlap) {
  const int64_t L = model.layers;
  std::vector<double> seconds;  // the embedding is with the first layer; head and modules are a unit of their own
  for (int64_t i = 0; i < L; ++i)
    seconds.push_back(SecondsOf(PlanStage(model, layers, {{i, i + 1}, i == 0, false}).parts, layers, overlap));
  seconds.push_back(SecondsOf(PlanStage(model, layers, {{L, L}, false, true}).parts, layers, overlap));
  std::vector<StagePart> cut;
  int64_t begin = 0;
  for (const size_t end : BestCuts(seconds, stages)) {
    const int64_t layers_end = std::min(static_cast<int64_t>(end), L);
    cut.push_back({{begin, layers_end}, cut.empty(), end == seconds.size()});
    begin = layers_end;
  }
  return cut;
}

std::vector<PlannedStage> PlanStages(const ModelShape& model, const LayerModel& layers, const std::vector<StagePart>& cut) {
  std::vector<PlannedStage> stages;
  for (const StagePart& part : cut) stages.push_back(PlanStage(model, layers, part));
  return stages;
}

StepModel ModelStep(const ModelShape& model, const Layout& layout, const KernelModel& kernels, const Schedule& schedule) {
  const LayerModel layers(model, layout, kernels);
  const double imbalance = kernels.constants().expert_imbalance, gap = 1 + kernels.constants().unevenness;
  StepModel step;
  step.cut = layout.cut.empty() ? FastestCut(model, layers, schedule.stages, layout.overlap || layout.overlap_all) : layout.cut;
  JEVONS_CHECK(static_cast<int>(step.cut.size()) == schedule.stages, "a cut into %d stages for %d",
               static_cast<int>(step.cut.size()), schedule.stages);
  step.stages = PlanStages(model, layers, step.cut);
  const size_t S = step.stages.size();
  for (const PlannedStage& stage : step.stages) step.costs.stages.push_back(CostsOf(stage, model, layout, imbalance, gap));
  step.costs.overlapped.resize(S * S);
  for (size_t f = 0; f < S; ++f) {
    for (size_t b = 0; b < S; ++b) {
      const StageCosts &cf = step.costs.stages[f], &cb = step.costs.stages[b];
      const double alone = cf.forward + cb.input + cb.weight;
      const double pair =
          layout.overlap || layout.overlap_all ? OverlappedStages(step.stages[f], step.stages[b], layers) * gap : alone;
      step.costs.overlapped[f * S + b] = std::min(pair, alone);
    }
  }
  for (size_t i = 0; layout.overlap_all && i < S; ++i) {
    StageCosts& c = step.costs.stages[i];
    const double share = step.costs.overlapped[i * S + i] / (c.forward + c.input + c.weight);
    c.forward *= share;
    c.input *= share;
    c.weight *= share;
  }
  if (layout.pp > 1) {
    const double bytes =
        layout.value_bytes * static_cast<double>(layout.micro_batch_tokens() * model.hidden) / static_cast<double>(layout.tp);
    const bool inside = layout.gpus <= kernels.cluster().node().gpus();
    step.costs.transfer = kernels.PointToPoint(bytes, inside);
  }
  const int copies = static_cast<int>(schedule.routes.size());
  for (int rank = 0; rank < schedule.ranks(); ++rank) {
    StageParameters held;
    double temporary = 0;
    for (const int s : schedule.StagesOf(rank)) {
      const StageParameters p = ParametersOf(step.stages[s].content, model, layout);
      held.dense += p.dense;
      held.experts += p.experts;
      held.coded += p.coded;
      temporary = std::max(temporary, TemporaryOf(step.stages[s].content, model, layout, imbalance));
    }
    step.state.push_back(StateMemory(held, layout, copies));
    step.temporary.push_back(temporary);
    const OptimizerTimes t = TimeOptimizer(held, layout, copies, kernels);
    if (t.sum() > step.optimizer.sum()) step.optimizer = t;
  }
  return step;
}

}  // namespace jevons
