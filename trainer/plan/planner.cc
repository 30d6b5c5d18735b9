#include "trainer/plan/planner.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/base/status.h"
#include "trainer/plan/dispatch_rows.h"
#include "trainer/spec/schedules.h"

namespace jevons {
namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;
constexpr double kInfinite = std::numeric_limits<double>::infinity();

// Of one rank: where its actions' time goes.
StepLines LinesOf(const std::vector<Action>& actions, const RankTimeline& rank) {
  StepLines lines;
  for (size_t i = 0; i < actions.size(); ++i) {
    const double seconds = rank.actions[i].end - rank.actions[i].begin;
    if (actions[i].communicates()) continue;
    if (actions[i].overlapped()) {
      lines.overlapped += seconds;
    } else if (actions[i].first().kind == TaskKind::kForward) {
      lines.forward += seconds;
    } else if (actions[i].first().kind == TaskKind::kBackwardWeight) {
      lines.weight += seconds;
    } else {
      lines.backward += seconds;
    }
  }
  lines.bubble = rank.idle;
  return lines;
}

StepLines MeanLines(const Schedule& schedule, const Timeline& timeline) {
  StepLines mean;
  const double share = 1.0 / schedule.ranks();
  for (int r = 0; r < schedule.ranks(); ++r) {
    const StepLines lines = LinesOf(schedule.actions[r], timeline.ranks[r]);
    mean.forward += share * lines.forward;
    mean.backward += share * lines.backward;
    mean.weight += share * lines.weight;
    mean.overlapped += share * lines.overlapped;
    mean.bubble += share * lines.bubble;
  }
  return mean;
}

int FullestOf(const std::vector<MemoryPlan>& ranks) {
  const auto fullest = std::max_element(ranks.begin(), ranks.end(),
                                        [](const MemoryPlan& a, const MemoryPlan& b) { return a.total() < b.total(); });
  return static_cast<int>(fullest - ranks.begin());
}

}  // namespace

double Plan::tflops(bool causal) const {
  return tokens_per_second_per_gpu() * model.flops_per_token(layout.sequence, causal) / 1e12;
}

double Plan::memory_limit() const { return (cluster.gpu().hbm_gib() - cluster.gpu().reserved_gib()) * kGiB; }

void Plan::SetCountedMemory(std::vector<MemoryPlan> counted) {
  memory = std::move(counted);
  memory_is_counted = true;
  fullest = FullestOf(memory);
}

double Plan::mean_memory() const {
  double sum = 0;
  for (const MemoryPlan& rank : memory) sum += rank.total();
  return sum / static_cast<double>(memory.size());
}

absl::StatusOr<Plan> MakePlan(const ModelShape& model, const Layout& layout, const ClusterConfig& cluster,
                              const Constants& constants) {
  JEVONS_RETURN_IF_ERROR(ValidateLayout(layout, model, cluster));
  Plan plan;
  plan.constants = constants;
  if (cluster.unevenness() >= 0) plan.constants.unevenness = cluster.unevenness();
  plan.model = model;
  plan.layout = layout;
  plan.cluster = cluster;
  JEVONS_ASSIGN_OR_RETURN(plan.schedule, MakeSchedule(layout.schedule_shape()));
  plan.step = ModelStep(model, layout, KernelModel(cluster, plan.constants), plan.schedule);
  JEVONS_ASSIGN_OR_RETURN(plan.timeline, Simulate(plan.schedule, plan.step.costs));
  plan.lines = MeanLines(plan.schedule, plan.timeline);
  plan.lines.optimizer = plan.step.optimizer.sum();
  plan.waiting = layout.dp() > 1 ? plan.constants.unevenness * plan.timeline.makespan : 0;
  plan.lines.bubble += plan.waiting;
  plan.step_seconds = plan.timeline.makespan + plan.waiting + plan.lines.optimizer;
  for (const PlannedStage& stage : plan.step.stages) plan.work += stage.forward + stage.input + stage.weight;
  plan.work *= static_cast<double>(layout.micro_batches()) / static_cast<double>(layout.pp);
  const StepLines& lines = plan.lines;
  plan.hidden = plan.work.sum() - (lines.forward + lines.backward + lines.weight + lines.overlapped);
  for (int r = 0; r < plan.schedule.ranks(); ++r) {
    MemoryPlan memory = plan.step.state[r];
    memory.activations = static_cast<double>(plan.timeline.ranks[r].peak_activation_bytes);
    memory.temporary = plan.step.temporary[r];
    plan.memory.push_back(memory);
  }
  plan.fullest = FullestOf(plan.memory);
  return plan;
}

AheadOfTrain WhatTrainLacks(const Plan& plan) {
  AheadOfTrain ahead{.of = {}, .step_seconds = plan.step_seconds};
  Layout layout = plan.layout;
  const auto without = [&](const char* what) {
    const double seconds = MakePlan(plan.model, layout, plan.cluster, plan.constants).value().step_seconds;
    if (seconds == ahead.step_seconds) return;
    ahead.of.push_back(what);
    ahead.step_seconds = seconds;
  };
  const int64_t gpus = std::min(layout.ep, plan.cluster.node().gpus()), nodes = layout.ep / gpus;
  if (nodes == 1 || layout.dispatch == Dispatch::kFlat) return ahead;
  const bool whole = plan.model.groups % nodes == 0;
  layout.dispatch = whole ? Dispatch::kTwoHops : Dispatch::kFlat;
  without(whole ? "rows that are forwarded inside a node while others cross the network, and come back as one sum for a node"
                : "rows that travel once per node and are forwarded there, where nodes have no whole groups of experts");
  return ahead;
}

double FlatStepSeconds(const Plan& plan) {
  if (plan.layout.ep <= plan.cluster.node().gpus()) return 0;
  Layout layout = plan.layout;
  layout.dispatch = Dispatch::kFlat;
  return MakePlan(plan.model, layout, plan.cluster, plan.constants).value().step_seconds;
}

double NetworkRowsOf(const Plan& plan, Dispatch dispatch) {
  Layout layout = plan.layout;
  layout.dispatch = dispatch;
  return RowsOfToken(plan.model, layout, plan.cluster.node().gpus()).network;
}

Goodput EstimateGoodput(const Plan& plan) {
  const HourConfig& hour = plan.cluster.hour();
  const auto gpus = static_cast<double>(plan.layout.gpus);
  const double nodes = std::max(1.0, gpus / static_cast<double>(plan.cluster.node().gpus()));
  const double state = plan.model.total_parameters() * (4 + (plan.layout.bf16_moments ? 4 : 8));
  const double interval = hour.checkpoint_minutes() / 60, failures_per_hour = gpus / hour.gpu_mtbf_hours();
  Goodput goodput;
  goodput.checkpoint = state / (nodes * hour.checkpoint_gbs() * 1e9) / 3600 / interval;
  goodput.restart = failures_per_hour * hour.restart_minutes() / 60;
  goodput.lost = failures_per_hour * interval / 2;
  const double most = 0.95 / std::max(0.95, goodput.checkpoint + goodput.restart + goodput.lost);
  goodput.checkpoint *= most;
  goodput.restart *= most;
  goodput.lost *= most;
  goodput.failures_per_day = failures_per_hour * 24;
  return goodput;
}

double RunTokens(const RunConfig& config) {
  const RunSchedule schedule(config);
  return schedule.bounded() ? schedule.total_tokens() : 0;
}

RunPlan PlanRun(const Plan& plan, const RunConfig& config) {
  const RunSchedule schedule(config);
  std::vector<int64_t> bounds = schedule.StageSteps();
  while (bounds.back() >= schedule.steps()) bounds.pop_back();
  bounds.push_back(schedule.steps());
  const double price = plan.cluster.hour().dollars_per_gpu();
  double hours_left = config.train().dollars() > 0 && price > 0 ? config.train().dollars() / price : kInfinite;
  RunPlan run;
  for (size_t i = 0; i + 1 < bounds.size() && !run.spent; ++i) {
    const StepPlan first = schedule.At(bounds[i]);
    const RunConfig& own = schedule.stage(first.stage);
    Layout layout = plan.layout;
    layout.sequence = own.data().sequence_length();
    layout.batch = own.train().batch_sequences();
    layout.micro_batch = own.train().micro_batch_sequences();
    RunPart part{.first_step = first.step,
                 .sequence = layout.sequence,
                 .batch = layout.batch,
                 .tokens = schedule.At(bounds[i + 1]).tokens_before - first.tokens_before};
    if (const absl::Status legal = CheckLayout(layout, plan.model, plan.cluster); !legal.ok()) {
      part.unpriced = std::string(legal.message());
    } else {
      const Plan priced = MakePlan(plan.model, layout, plan.cluster, plan.constants).value();
      part.step_seconds = priced.step_seconds;
      part.gpu_hours = priced.gpu_hours(part.tokens);
      run.spent = part.gpu_hours > hours_left;
      if (run.spent) {
        part.tokens *= hours_left / part.gpu_hours;
        part.gpu_hours = hours_left;
      }
      hours_left -= part.gpu_hours;
      run.priced_tokens += part.tokens;
      run.gpu_hours += part.gpu_hours;
    }
    run.tokens += part.tokens;
    run.parts.push_back(std::move(part));
  }
  return schedule.bounded() || run.spent ? run : RunPlan();
}

}  // namespace jevons
