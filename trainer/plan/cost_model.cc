#include "trainer/plan/cost_model.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace jevons {
namespace {

// A unit that no cut divides.
struct Unit {
  StageContent content;
  std::vector<BlockTimes> parts;
  double seconds = 0;
};

double SecondsOf(const std::vector<BlockTimes>& parts, const LayerModel& layers, bool overlap) {
  double sum = 0;
  for (const BlockTimes& part : parts)
    sum += overlap ? layers.Overlapped(part, part) : part.forward().sum() + part.input().sum() + part.weight().sum();
  return sum;
}

std::vector<Unit> UnitsOf(const ModelShape& model, const LayerModel& layers, bool overlap) {
  std::vector<Unit> units;
  const BlockTimes dense = layers.Block(true), moe = model.moe() ? layers.Block(false) : BlockTimes();
  units.push_back({.content = {.embedding = true}, .parts = {layers.Embedding()}});
  for (int64_t i = 0; i < model.layers; ++i) {
    const bool is_dense = i < model.dense_layers;
    Unit unit{.content = {.dense_blocks = is_dense ? 1 : 0, .moe_blocks = is_dense ? 0 : 1}, .parts = {is_dense ? dense : moe}};
    if (i == 0) {
      units[0].content.dense_blocks = unit.content.dense_blocks;
      units[0].content.moe_blocks = unit.content.moe_blocks;
      units[0].parts.push_back(unit.parts[0]);
    } else {
      units.push_back(unit);
    }
  }
  Unit tail{.content = {.tail = true}, .parts = {layers.Head()}};
  for (int64_t k = 0; k < model.mtp_modules; ++k)
    for (const BlockTimes& part : {layers.MtpProjection(), moe, layers.Head()}) tail.parts.push_back(part);
  units.push_back(tail);
  for (Unit& unit : units) unit.seconds = SecondsOf(unit.parts, layers, overlap);
  return units;
}

double Power(double x) {
  const double x2 = x * x, x4 = x2 * x2;
  return x4 * x4;
}

// Ends of the stages: the sum of the eighth powers of their durations is least, so that the slowest counts first.
std::vector<size_t> BestCuts(const std::vector<Unit>& units, int stages) {
  const size_t n = units.size();
  double total = 0;
  for (const Unit& unit : units) total += unit.seconds;
  std::vector<double> prefix(n + 1, 0);
  for (size_t i = 0; i < n; ++i) prefix[i + 1] = prefix[i] + units[i].seconds / total * stages;
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

void Append(const Unit& unit, PlannedStage& stage) {
  stage.content.dense_blocks += unit.content.dense_blocks;
  stage.content.moe_blocks += unit.content.moe_blocks;
  stage.content.embedding |= unit.content.embedding;
  stage.content.tail |= unit.content.tail;
  stage.parts.insert(stage.parts.end(), unit.parts.begin(), unit.parts.end());
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
  const int64_t dense_inside = std::min(node, l.dp() * l.cp), expert_inside = l.ep >= node ? 1 : std::min(node / l.ep, expert_ranks);
  OptimizerTimes t;
  t.reduce = kernels.Ring(4 * p.dense, dense_ranks, dense_inside) + kernels.Ring(4 * p.experts, expert_ranks, expert_inside);
  t.gather = kernels.Ring(l.value_bytes * p.dense, dense_ranks, dense_inside) + kernels.Ring(l.value_bytes * p.experts, expert_ranks, expert_inside);
  const double owned = p.dense / static_cast<double>(dense_ranks) + p.experts / static_cast<double>(expert_ranks);
  const double master = l.value_bytes < 4 ? 8 + l.value_bytes : 8;          // read and written, with a copy in BF16
  const double state = 4 + 2 * (l.bf16_moments ? 4 : 8) + master;           // gradient; moments, read and written
  t.update = kernels.Stream(4 * (p.dense + p.experts)) + kernels.Stream(state * owned);  // the norm reads all gradients once
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

std::vector<PlannedStage> CutIntoStages(const ModelShape& model, const LayerModel& layers, int stages, bool overlap) {
  const std::vector<Unit> units = UnitsOf(model, layers, overlap);
  const std::vector<size_t> ends = BestCuts(units, stages);
  std::vector<PlannedStage> result(stages);
  size_t unit = 0;
  for (int s = 0; s < stages; ++s) {
    for (; unit < ends[s]; ++unit) Append(units[unit], result[s]);
    for (const BlockTimes& part : result[s].parts) {
      result[s].forward += part.forward();
      result[s].input += part.input();
      result[s].weight += part.weight();
    }
  }
  return result;
}

StepModel ModelStep(const ModelShape& model, const Layout& layout, const KernelModel& kernels, const Schedule& schedule) {
  const LayerModel layers(model, layout, kernels);
  const double imbalance = kernels.constants().expert_imbalance, gap = 1 + kernels.constants().unevenness;
  StepModel step;
  step.stages = CutIntoStages(model, layers, schedule.stages, layout.overlap || layout.overlap_all);
  const size_t S = step.stages.size();
  for (const PlannedStage& stage : step.stages) step.costs.stages.push_back(CostsOf(stage, model, layout, imbalance, gap));
  step.costs.overlapped.resize(S * S);
  for (size_t f = 0; f < S; ++f) {
    for (size_t b = 0; b < S; ++b) {
      const StageCosts &cf = step.costs.stages[f], &cb = step.costs.stages[b];
      const double alone = cf.forward + cb.input + cb.weight;
      const double pair = layout.overlap || layout.overlap_all ? OverlappedStages(step.stages[f], step.stages[b], layers) * gap : alone;
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
    const double bytes = layout.value_bytes * static_cast<double>(layout.micro_batch_tokens() * model.hidden) / static_cast<double>(layout.tp);
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
