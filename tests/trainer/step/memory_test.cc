// Contract 11: what is planned is what is used, to the byte, in every class and in every tensor at the peak.
#include <chrono>

#include "tests/configs/presets.h"
#include "tests/data/test_data.h"
#include "tests/support/layout_run.h"
#include "trainer/step/planned_memory.h"

namespace jevons {
namespace {

// Every token goes to every expert: so each rank gets the even share that a plan is for, in every micro-batch and from every source.
RunConfig EvenRun(int64_t batch, int64_t micro) {
  RunConfig config = TinyRun(batch, micro);
  MoeConfig& moe = *config.mutable_model()->mutable_moe();
  moe.set_top_k(moe.routed_experts());
  moe.set_kept_groups(moe.groups());
  return config;
}

void ExpectPlanned(RunConfig config, const RunLayout& layout) {
  layout.Set(*config.mutable_parallel());
  config.mutable_train()->set_eval_sequences(16);
  const TempFolder folder;
  WriteDataset(folder / "set", {RandomTokens(16 * kTinySequence + 1, config.model().vocab_size(), 7)},
               config.model().vocab_size());
  const auto validation = ValidationSet::Open(folder / "set", kTinySequence, config.model().vocab_size());
  ASSERT_TRUE(validation.ok()) << validation.status();
  RunLoopback(layout.ranks, [&](Communicator& world) {
    omp_set_num_threads(layout.threads);
    Mesh mesh(world, MeshShapeOn(config, world).value());
    TrainStep step(config, mesh);
    step.Initialize();
    for (int i = 0; i < 2; ++i) {
      const StepPlan plan{.step = i,
                          .first_sample = 0,
                          .sequences = config.train().batch_sequences(),
                          .tokens_before = 0,
                          .learning_rate = 1e-2,
                          .gamma = 0.01,
                          .mtp_weight = 0.3};
      SampleBatch batch = BatchOf(step, plan, config.model().vocab_size());
      for (int64_t t = 0; config.data().document_mask() && t < batch.count * kTinySequence; ++t)
        batch.document_start.push_back(static_cast<int32_t>(t % kTinySequence / 3 * 3));
      const auto stats = step.Run(plan, batch);
      ASSERT_TRUE(stats.ok()) << stats.status();
    }
    ASSERT_TRUE(step.Evaluate(*validation, config.train().eval_sequences()).ok());
    const PlannedMemory planned = PlanMemory(config, mesh.shape(), world.rank());
    const MemoryUse used = step.memory();
    SCOPED_TRACE(testing::Message() << "rank " << world.rank() << " of " << layout.ranks << ", ep " << layout.ep << ", pp "
                                    << layout.pp << " " << ScheduleType_Name(layout.schedule) << " " << layout.stages
                                    << ", nodes " << layout.nodes);
    EXPECT_EQ(planned.use.weights, used.weights);
    EXPECT_EQ(planned.use.gradients, used.gradients);
    EXPECT_EQ(planned.use.optimizer, used.optimizer);
    EXPECT_EQ(planned.use.activations, used.activations);
    EXPECT_EQ(planned.use.host, used.host);
    EXPECT_GT(used.host, 0);
    const MemoryLedger ledger = step.memory_ledger();
    EXPECT_EQ(planned.ledger.masters, ledger.masters);
    EXPECT_EQ(planned.ledger.moments, ledger.moments);
    EXPECT_EQ(planned.ledger.saved, ledger.saved);
    EXPECT_EQ(planned.ledger.temporary, ledger.temporary);
  });
}

const std::vector<RunLayout> kLayouts = {{1, 1, 1},
                                         {1, 1, 3},
                                         {2, 1, 1},
                                         {2, 2, 1},
                                         {4, 1, 1},
                                         {4, 2, 1},
                                         {4, 4, 1},
                                         {.ranks = 4, .ep = 4, .threads = 1, .nodes = 1},
                                         {.ranks = 4, .ep = 4, .threads = 1, .nodes = 2},
                                         {.ranks = 4, .ep = 4, .threads = 1, .nodes = 4}};

using Change = void (*)(RunConfig& config);
struct Case {
  const char* name;
  Change change;
};

class MemoryOfRuns : public testing::TestWithParam<Case> {};

TEST_P(MemoryOfRuns, IsWhatIsUsed) {
  for (const SumType sums : {EXACT, CHAIN}) {
    for (const RunLayout& layout : kLayouts) {
      SCOPED_TRACE(SumType_Name(sums));
      RunConfig config = EvenRun(8, 1);
      config.mutable_parallel()->set_sums(sums);
      GetParam().change(config);
      ExpectPlanned(config, layout);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, MemoryOfRuns,
    testing::Values(Case{"Fp32", [](RunConfig&) {}},
                    Case{"Bf16",
                         [](RunConfig& config) {
                           config.mutable_precision()->set_compute(BF16);
                           config.mutable_optimizer()->set_moments(MOMENTS_BF16);
                         }},
                    Case{"Fp8OverFp32", [](RunConfig& config) { config.mutable_precision()->set_gemm(FP8_BLOCK); }},
                    Case{"Fp8OverBf16",
                         [](RunConfig& config) {
                           config.mutable_precision()->set_compute(BF16);
                           config.mutable_precision()->set_gemm(FP8_BLOCK);
                         }},
                    Case{"GradientsInBlocks",
                         [](RunConfig& config) {
                           config.mutable_precision()->set_gemm(FP8_BLOCK);
                           config.mutable_precision()->set_gradient_tiles(BLOCKS_128X128);
                         }},
                    Case{"Shadowed",
                         [](RunConfig& config) {
                           config.mutable_precision()->set_gemm(FP8_BLOCK);
                           config.mutable_precision()->set_shadow_interval(2);
                         }},
                    Case{"NoModules", [](RunConfig& config) { config.mutable_model()->mutable_mtp()->set_depth(0); }},
                    Case{"Documents", [](RunConfig& config) { config.mutable_data()->set_document_mask(true); }},
                    Case{"Recomputed", [](RunConfig& config) { config.mutable_train()->set_recompute_up_projections(true); }},
                    Case{"RunAgain", [](RunConfig& config) { config.mutable_train()->set_recompute_stages(true); }},
                    Case{"DirectQueries",
                         [](RunConfig& config) { config.mutable_model()->mutable_attention()->set_query_rank(0); }},
                    Case{"Dense",
                         [](RunConfig& config) {
                           config.mutable_model()->set_dense_layers(config.model().layers());
                           config.mutable_model()->mutable_mtp()->set_depth(0);
                         }},
                    Case{"WideMicroBatches", [](RunConfig& config) { config.mutable_train()->set_micro_batch_sequences(2); }}),
    [](const testing::TestParamInfo<Case>& info) { return std::string(info.param.name); });

// With groups of experts that ranks have a part of.
TEST(MemoryOfForwarding, IsWhatIsUsed) {
  for (const ProductType product : {AS_COMPUTE, FP8_BLOCK}) {
    RunConfig config = EvenRun(12, 1);
    config.mutable_precision()->set_compute(BF16);
    config.mutable_precision()->set_gemm(product);
    ExpectPlanned(config, {.ranks = 6, .ep = 6, .threads = 1, .nodes = 2});
    ExpectPlanned(config, {.ranks = 12, .ep = 6, .threads = 1, .nodes = 1});
  }
}

class MemoryOfPipelines : public testing::TestWithParam<std::tuple<ComputeType, ProductType>> {};

TEST_P(MemoryOfPipelines, IsWhatIsUsed) {
  RunConfig config = EvenRun(16, 1);
  config.mutable_model()->set_layers(6);
  config.mutable_model()->set_dense_layers(2);
  config.mutable_model()->mutable_mtp()->set_depth(1);
  config.mutable_precision()->set_compute(std::get<0>(GetParam()));
  config.mutable_precision()->set_gemm(std::get<1>(GetParam()));
  for (const RunLayout& layout : std::vector<RunLayout>{{2, 1, 1, 2, GPIPE},
                                                        {2, 1, 1, 2, ONE_F_ONE_B},
                                                        {4, 2, 1, 2, ONE_F_ONE_B},
                                                        {4, 1, 1, 4, ZB_H1},
                                                        {4, 1, 1, 4, DUALPIPE},
                                                        {4, 1, 1, 4, DUALPIPEV, 1, "1|1|1|0|1|1|1|0"},
                                                        {4, 2, 1, 2, DUALPIPEV},
                                                        {4, 2, 1, 2, DUALPIPEV, 1, "", 2},
                                                        {2, 1, 1, 2, INTERLEAVED, 2},
                                                        {4, 1, 1, 4, ONE_F_ONE_B, 1, "2*3|0"}})
    ExpectPlanned(config, layout);
}

// What is kept of a micro-batch under way is then little, and of a stage's blocks that run again only so many.
TEST(MemoryOfStages, ThatRunAgainIsLess) {
  RunConfig config = EvenRun(16, 1);
  config.mutable_model()->set_layers(8);
  const auto kept = [&](const MeshShape& mesh, ScheduleType schedule, int virtual_stages, bool again) {
    config.mutable_parallel()->set_pp(mesh.pp);
    config.mutable_parallel()->set_schedule(schedule);
    config.mutable_parallel()->set_virtual_stages(virtual_stages);
    config.mutable_train()->set_recompute_stages(again);
    const MemoryLedger ledger = PlanMemory(config, mesh, 0).ledger;
    int64_t bytes = ledger.holes;
    for (const auto* slices : {&ledger.saved, &ledger.stash})
      for (const auto& [name, size] : *slices) bytes += size;
    return bytes;
  };
  const MeshShape pipeline{.world = 4, .pp = 4, .ep = 1}, alone{.world = 1, .pp = 1, .ep = 1};
  EXPECT_LT(kept(pipeline, ONE_F_ONE_B, 1, true), kept(pipeline, ONE_F_ONE_B, 1, false) / 2);
  EXPECT_LT(kept(alone, INTERLEAVED, 8, true), kept(alone, ONE_F_ONE_B, 1, false) / 2);
  for (const RunLayout& layout :
       std::vector<RunLayout>{{4, 2, 1, 2, ONE_F_ONE_B}, {4, 1, 1, 4, DUALPIPE}, {2, 2, 1, 1, INTERLEAVED, 8}})
    ExpectPlanned(config, layout);
}

INSTANTIATE_TEST_SUITE_P(Types, MemoryOfPipelines,
                         testing::Values(std::tuple(FP32, AS_COMPUTE), std::tuple(BF16, AS_COMPUTE),
                                         std::tuple(BF16, FP8_BLOCK)));

// A rank of 2,048, on this machine: nothing of the model's size is allocated, and it takes less than a second.
TEST(MemoryOfARank, OfTheLargestPresetIsCountedHere) {
  const RunConfig config = Preset("deepseek_v3_671b");
  const MeshShape mesh{.world = 2048, .pp = 16, .ep = 64};
  const auto begin = std::chrono::steady_clock::now();
  const PlannedMemory planned = PlanMemory(config, mesh, 5 * mesh.dp() + 7);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("counted in %.3f s: weights %lld, gradients %lld, optimizer %lld, activations %lld\n", seconds,
              static_cast<long long>(planned.use.weights), static_cast<long long>(planned.use.gradients),
              static_cast<long long>(planned.use.optimizer), static_cast<long long>(planned.use.activations));
  EXPECT_GT(planned.use.total(), int64_t{1} << 30);
  for (const double load : {1.0, 1.3, 64.0}) {  // forwarded over eight nodes, with room for rows of others
    const MeshShape over_nodes{.world = 2048, .pp = 16, .ep = 64, .ep_nodes = 8, .forwards = true};
    EXPECT_GT(PlanMemory(config, over_nodes, 5 * mesh.dp() + 7, load).use.activations,
              PlanMemory(config, mesh, 5 * mesh.dp() + 7).use.activations / 2);
  }
}

}  // namespace
}  // namespace jevons
