// Runs some steps of a tiny model on loopback ranks in any layout, and compares what they leave behind.
#ifndef JEVONS_TESTS_SUPPORT_LAYOUT_RUN_H_
#define JEVONS_TESTS_SUPPORT_LAYOUT_RUN_H_

#include <gtest/gtest.h>
#include <omp.h>

#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "parallel/comm/loopback.h"
#include "tests/support/tiny_model.h"
#include "trainer/step/train_step.h"

namespace jevons {

inline constexpr int64_t kTinySequence = 6;  // tokens

inline RunConfig TinyRun(int64_t batch, int64_t micro) {
  RunConfig config;
  *config.mutable_model() = TinyModel();
  config.mutable_model()->mutable_moe()->set_routed_experts(12);  // 12 experts on 8 ranks: blocks of 1 and 2
  config.mutable_model()->mutable_moe()->set_groups(4);
  config.mutable_data()->set_sequence_length(kTinySequence);
  config.mutable_train()->set_batch_sequences(batch);
  config.mutable_train()->set_micro_batch_sequences(micro);
  config.mutable_optimizer()->mutable_learning_rate()->set_peak(1e-2);
  config.mutable_optimizer()->set_ema_decay(0.75);
  return config;
}

// Everything that a run of some steps leaves behind, by logical tensor, and the figures it printed.
struct Outcome {
  std::map<std::string, std::vector<uint8_t>> state;
  std::vector<double> figures;
  std::vector<int64_t> loads;
};

struct RunLayout {
  int ranks, ep, threads;
  int pp = 1;
  ScheduleType schedule = ONE_F_ONE_B;
  int virtual_stages = 1;
  std::string stages = "";  // as parallel.stages
  int nodes = 0;            // of an ep group, over which tokens are forwarded; 0: they are not
  // In the config; what it says of the rest stays.
  void Set(ParallelConfig& parallel) const {
    parallel.set_ep(ep);
    parallel.set_pp(pp);
    parallel.set_schedule(schedule);
    parallel.set_virtual_stages(virtual_stages);
    parallel.set_stages(stages);
    parallel.set_ep_nodes(nodes);
    parallel.set_dispatch(nodes > 0 ? FORWARDING : FLAT);
  }
};

// `documents`: each sample is packed of several, cut at random.
inline SampleBatch BatchOf(const TrainStep& step, const StepPlan& plan, int64_t vocab, bool documents = false) {
  const Range mine = step.SamplesOf(plan.sequences);
  SampleBatch batch{.first = plan.first_sample + mine.begin, .count = mine.size(), .tokens = {}, .document_start = {}};
  for (int64_t s = 0; s < mine.size(); ++s) {
    const uint64_t seed = 100 + static_cast<uint64_t>(batch.first + s);
    for (int32_t token : RandomTokens(kTinySequence + 1, vocab, seed)) batch.tokens.push_back(token);
    int32_t start = 0;
    for (int32_t i = 0; documents && i < kTinySequence; ++i) {
      if (RandomBits(seed, 1, static_cast<uint64_t>(i)) % 3 == 0) start = i;
      batch.document_start.push_back(start);
    }
  }
  return batch;
}

inline StepPlan StepAt(int64_t step, const RunConfig& config) {
  return {.step = step,
          .first_sample = step * config.train().batch_sequences(),
          .sequences = config.train().batch_sequences(),
          .tokens_before = 0,
          .learning_rate = 1e-2,
          .gamma = 0.01,
          .mtp_weight = 0.3};
}

// Adds this rank's slices of the state; what no rank has added yet is 0xAB.
inline void AddState(const TrainStep& step, std::map<std::string, std::vector<uint8_t>>& state) {
  for (const StateSlice& slice : step.State()) {
    const auto size = static_cast<size_t>(SizeOf(slice.data.dtype));
    std::vector<uint8_t>& bytes = state[slice.name];
    bytes.resize(static_cast<size_t>(slice.shape.size()) * size, 0xAB);
    std::memcpy(bytes.data() + static_cast<size_t>(slice.elements.begin) * size, slice.data.data,
                static_cast<size_t>(slice.elements.size()) * size);
  }
}

inline Outcome RunSteps(RunConfig config, const RunLayout& layout, int steps) {
  layout.Set(*config.mutable_parallel());
  Outcome outcome;
  std::mutex mutex;
  RunLoopback(layout.ranks, [&](Communicator& world) {
    omp_set_num_threads(layout.threads);
    Mesh mesh(world, MeshShapeOn(config, world).value());
    TrainStep step(config, mesh);
    step.Initialize();
    for (int i = 0; i < steps; ++i) {
      const StepPlan plan = StepAt(i, config);
      const auto stats = step.Run(plan, BatchOf(step, plan, config.model().vocab_size(), config.data().document_mask()));
      ASSERT_TRUE(stats.ok()) << stats.status();
      const std::lock_guard lock(mutex);
      if (world.rank() != 0) continue;
      for (double figure : {stats->loss, stats->mtp_loss, stats->balance_loss, stats->gradient_norm})
        outcome.figures.push_back(figure);
      outcome.loads = stats->loads;
    }
    const std::lock_guard lock(mutex);
    AddState(step, outcome.state);
  });
  return outcome;
}

inline void ExpectEqual(const Outcome& a, const Outcome& b) {
  EXPECT_EQ(a.figures, b.figures);
  EXPECT_EQ(a.loads, b.loads);
  ASSERT_EQ(a.state.size(), b.state.size());
  for (const auto& [name, bytes] : a.state) EXPECT_TRUE(bytes == b.state.at(name)) << name;
}

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_LAYOUT_RUN_H_
