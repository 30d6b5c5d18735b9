// With one stage, the pipeline's form of the memory plan is the run's.
#include "trainer/plan/pipeline_memory.h"

#include "tests/trainer/plan/plan_cases.h"
#include "trainer/step/planned_memory.h"

namespace jevons {
namespace {

struct Both {
  MemoryUse run;
  MemoryPlan pipeline;
};

Both PlanBoth(const std::string& preset, std::vector<std::string> overrides, int gpus) {
  const RunConfig config = Preset(preset, overrides);
  const ModelShape model = ShapeOf(config.model());
  const Layout layout = LayoutOf(config, gpus);
  const StageContent all{
      .dense_blocks = model.dense_layers, .moe_blocks = model.layers - model.dense_layers, .embedding = true, .tail = true};
  Both both{.run = PlanMemory(config, {.world = gpus, .pp = 1, .ep = static_cast<int>(layout.ep)}, 0, 1.1).use,
            .pipeline = StateMemory(ParametersOf(all, model, layout), layout, 1)};
  both.pipeline.activations = ActivationsOf(all, model, layout, 1.1).total();
  both.pipeline.temporary = TemporaryOf(all, model, layout, 1.1);
  return both;
}

class Agreement : public ::testing::TestWithParam<std::vector<std::string>> {};

TEST_P(Agreement, AtOneStage) {
  std::vector<std::string> overrides = {"parallel.pp=1", "train.batch_sequences=64", "train.batch_ramp_start=0",
                                        "train.batch_ramp_tokens=0"};
  overrides.insert(overrides.end(), GetParam().begin(), GetParam().end());
  const Both both = PlanBoth("deepseek_v3_671b", overrides, 64);
  const auto relative = [](double a, int64_t b) { return a / static_cast<double>(b) - 1; };
  EXPECT_NEAR(relative(both.pipeline.weights, both.run.weights), 0, 0.005);
  EXPECT_NEAR(relative(both.pipeline.optimizer, both.run.optimizer), 0, 0.005);
  // The run's scratch keeps what one block needs; the saved tensors, by far the most of it, are the same list.
  EXPECT_NEAR(relative(both.pipeline.activations + both.pipeline.temporary, both.run.activations), 0, 0.05);
}

INSTANTIATE_TEST_SUITE_P(
    Configs, Agreement,
    ::testing::Values(std::vector<std::string>{}, std::vector<std::string>{"train.recompute_up_projections=false"},
                      std::vector<std::string>{"precision.gemm=AS_COMPUTE"},
                      std::vector<std::string>{"precision.gemm=AS_COMPUTE", "train.recompute_up_projections=false"},
                      std::vector<std::string>{"precision.gemm=AS_COMPUTE", "precision.compute=FP32"},
                      std::vector<std::string>{"model.mtp.depth=0"}, std::vector<std::string>{"parallel.ep=16"}));

}  // namespace
}  // namespace jevons
