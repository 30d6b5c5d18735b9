// What a training run will be: time, memory, money. Pure arithmetic on the config, the cluster's table and the simulated
// schedule; nothing is run.
#ifndef JEVONS_TRAINER_PLAN_PLANNER_H_
#define JEVONS_TRAINER_PLAN_PLANNER_H_

#include <string>
#include <vector>

#include "trainer/plan/cost_model.h"

namespace jevons {

// The step of an average rank, in seconds; arXiv 2505.09343, table 4, has these lines.
struct StepLines {
  double forward = 0;     // forwards alone
  double backward = 0;    // input gradients alone, and whole backward passes where the schedule does not part them
  double weight = 0;      // weight gradients alone
  double overlapped = 0;  // forward and backward at once
  double bubble = 0;      // idle, and waiting for the slowest pipeline
  double optimizer = 0;
};

struct Plan {
  Constants constants;  // the machine's unevenness in them, where its table has one
  ModelShape model;
  Layout layout;
  ClusterConfig cluster;
  Schedule schedule;
  StepModel step;
  Timeline timeline;  // of a pipeline that waits for no other
  StepLines lines;
  Work work;           // of all micro-batches on the mean rank, each kernel alone on the GPU
  double hidden = 0;   // what overlap saves of `work`, less what it slows down and the gap
  double waiting = 0;  // for the slowest pipeline
  double step_seconds = 0;
  std::vector<MemoryPlan> memory;  // [ranks of a pipeline], by the closed form of pipeline_memory until SetCountedMemory
  bool memory_is_counted = false;
  int fullest = 0;  // rank

  double tokens_per_second() const { return layout.tokens_per_step() / step_seconds; }
  double tokens_per_second_per_gpu() const { return tokens_per_second() / static_cast<double>(layout.gpus); }
  double tflops(bool causal) const;  // of the model per GPU, MTP modules not counted, as published
  double mfu(bool causal) const { return tflops(causal) / cluster.gpu().peak_bf16_tflops(); }
  double memory_limit() const;  // bytes for tensors on a GPU
  double mean_memory() const;   // bytes, of the ranks
  // Takes the bytes that the program's own step has counted (planned_memory.h) in the closed form's place. [ranks of a pipeline]
  void SetCountedMemory(std::vector<MemoryPlan> counted);
  bool fits() const { return memory[fullest].total() <= memory_limit(); }
  double gpu_hours(double tokens) const { return tokens / tokens_per_second_per_gpu() / 3600; }
  double dollars(double tokens) const { return gpu_hours(tokens) * cluster.hour().dollars_per_gpu(); }
};

// UsageError as ValidateLayout. A plan that does not fit is a plan: fits() says so.
absl::StatusOr<Plan> MakePlan(const ModelShape& model, const Layout& layout, const ClusterConfig& cluster,
                              const Constants& constants = {});

// What a plan counts on that `jevons train` does not do yet, as far as it matters here, and the step without it.
struct AheadOfTrain {
  std::vector<std::string> of;
  double step_seconds = 0;
};
AheadOfTrain WhatTrainLacks(const Plan& plan);  // with the plan's constants

// The step where rows went straight to their experts; 0 where an expert-parallel group is within a node.
double FlatStepSeconds(const Plan& plan);

// Rows of a token that the plan's dispatch, or another, sends over the network; 0 where an expert-parallel group is within a node.
double NetworkRowsOf(const Plan& plan, Dispatch dispatch);

// What of the hours trains, and what else a headline leaves out.
struct Goodput {
  double checkpoint = 0, restart = 0, lost = 0;  // shares of the clock: stalls, restarts, work thrown away
  double failures_per_day = 0;
  double useful() const { return 1 - checkpoint - restart - lost; }
};
Goodput EstimateGoodput(const Plan& plan);

// Tokens of a whole run: steps of the config with its ramp.
double RunTokens(const RunConfig& config);

// A stage of a run (train.stage), on the layout of a plan.
struct RunPart {
  int64_t first_step = 0, sequence = 0, batch = 0;
  double tokens = 0;
  double step_seconds = 0, gpu_hours = 0;
  std::string unpriced = {};  // why its time is not known: the planner prices no such step
};
struct RunPlan {
  std::vector<RunPart> parts = {};
  double tokens = 0, priced_tokens = 0;  // the latter: of the parts whose time is known
  double gpu_hours = 0;                  // of those
  bool spent = false;                    // train.dollars end it, before a step or token does
};
// The config's run, of which `plan` is the first stage's step.
RunPlan PlanRun(const Plan& plan, const RunConfig& config);

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_PLANNER_H_
