// Steps of a tiny model on loopback ranks, judged (contract 14), while something happens on some of them.
#ifndef JEVONS_TESTS_SUPPORT_JUDGED_RUN_H_
#define JEVONS_TESTS_SUPPORT_JUDGED_RUN_H_

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/layout_run.h"
#include "tests/support/watched_group.h"
#include "trainer/run/step_judge.h"

namespace jevons {

// A world that tells when its ranks first agree on something: for a judge between the two times that it computes a step, when it has compared
// the replicas.
class ListeningWorld final : public WatchedGroup {
 public:
  using WatchedGroup::WatchedGroup;
  void AllReduceMax(std::span<int64_t> values) override {
    if (heard) heard();
    WatchedGroup::AllReduceMax(values);
  }
  int NodeOf(int rank) const override { return rank; }
  std::function<void()> heard;
};

// What happens on one rank before a step.
struct Spoilt {
  std::function<void(TrainStep&step, SampleBatch&batch)> spoil, mend;  // mend: after the step
  int rank = 1;
  int64_t step = 4;
  bool only_first = false;  // mended before the step is computed again
};

struct Judged {
  std::vector<std::vector<JudgedStep>> steps;  // [ranks][steps until the end]
  std::vector<int64_t> suspects;               // [ranks]
  std::map<std::string, std::vector<uint8_t>> state;
};

inline constexpr int64_t kSteps = 7;

// `left_out`: a step that is not even computed.
inline Judged RunJudged(RunConfig config, const RunLayout& layout, const std::vector<Spoilt>& spoilt, int64_t left_out = -1,
                        int64_t steps = kSteps) {
  layout.Set(*config.mutable_parallel());
  Judged judged;
  judged.steps.resize(static_cast<size_t>(layout.ranks));
  judged.suspects.resize(static_cast<size_t>(layout.ranks));
  std::mutex mutex;
  RunLoopback(layout.ranks, [&](Communicator& world) {
    omp_set_num_threads(layout.threads);
    Mesh mesh(world, MeshShapeOn(config, world).value());
    TrainStep step(config, mesh);
    step.Initialize();
    ListeningWorld listening(world);
    StepJudge judge(config.train(), step, listening);
    std::vector<JudgedStep>& mine = judged.steps[static_cast<size_t>(world.rank())];
    for (int64_t i = 0; i < steps && (mine.empty() || mine.back().status.ok()); ++i) {
      const StepPlan plan = StepAt(i, config);
      SampleBatch batch = BatchOf(step, plan, config.model().vocab_size());
      if (i == left_out) continue;
      const Spoilt* now = nullptr;
      for (const Spoilt& one : spoilt)
        if (one.step == i && one.rank == world.rank()) now = &one;
      if (now != nullptr) now->spoil(step, batch);
      bool mended = now == nullptr;
      const auto mend = [&] {
        if (!std::exchange(mended, true)) now->mend(step, batch);
      };
      if (now != nullptr && now->only_first) listening.heard = mend;
      mine.push_back(judge.Run(plan, batch));
      mend();
    }
    judged.suspects[static_cast<size_t>(world.rank())] = judge.suspect();
    const std::lock_guard lock(mutex);
    AddState(step, judged.state);
  });
  return judged;
}

inline size_t ParamNamed(const TrainStep& step, const std::string& name) {
  for (size_t p = 0; p < step.weights().specs().size(); ++p)
    if (step.weights().specs()[p].name == name) return p;
  ADD_FAILURE() << name;
  return 0;
}

inline RunConfig With(BadStepPolicy policy) {
  RunConfig config = TinyRun(8, 1);
  config.mutable_train()->mutable_bad_step()->set_policy(policy);
  return config;
}

inline RunConfig Spiking(BadStepPolicy policy) {
  RunConfig config = With(policy);
  config.mutable_train()->mutable_bad_step()->set_spike_sigmas(3);
  config.mutable_train()->mutable_bad_step()->set_spike_window(4);
  return config;
}

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_JUDGED_RUN_H_
