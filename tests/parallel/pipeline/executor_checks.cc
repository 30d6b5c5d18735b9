#include "tests/parallel/pipeline/executor_checks.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "gtest/gtest.h"
#include "kernels/base/check.h"
#include "kernels/tensor/device.h"
#include "parallel/pipeline/executor.h"
#include "parallel/pipeline/passes.h"
#include "parallel/pipeline/simulate.h"
#include "tests/parallel/pipeline/pipeline_cases.h"

namespace jevons {
namespace {

using Kind = TaskKind;

constexpr uint64_t kPoison = 0xDBDBDBDBDBDBDBDB;

// Values of a micro-batch: 1 0 3 2 1 0 3 2 ... rows.
size_t Size(int micro_batch, size_t width) { return (micro_batch * 7 + 1) % 4 * width; }
uint64_t Mix(uint64_t a, uint64_t b, uint64_t c) {
  uint64_t x = (a * 1'000'003 + b) * 1'000'003 + c + 1;
  for (int i = 0; i < 3; ++i) x = (x ^ (x >> 29)) * 0xBF58476D1CE4E5B9;
  return x;
}
uint64_t Factor(int stage) { return 2 * Mix(1, stage, 0) + 1; }

// The arithmetic of a row, for the stages and for the serial run.
uint64_t FirstInput(int micro_batch, size_t i) { return Mix(2, micro_batch, i); }
uint64_t OutputOf(int stage, int micro_batch, size_t i, uint64_t x) { return x * Factor(stage) + Mix(3 + stage, micro_batch, i); }
uint64_t KeptOf(int stage, int micro_batch, size_t i, uint64_t x) { return x ^ Mix(5000 + stage, micro_batch, i); }
uint64_t LastGradient(uint64_t kept) { return kept * 3 + 1; }
uint64_t InputGradientOf(int stage, uint64_t gradient, uint64_t kept) { return gradient * Factor(stage) + kept; }
int64_t WeightGradientOf(uint64_t gradient, uint64_t kept) { return static_cast<int64_t>(gradient * kept >> 32); }
int64_t LossOf(uint64_t y) { return static_cast<int64_t>(y >> 32); }

// [stages] weight gradients, then the loss.
std::vector<int64_t> SerialRun(const Schedule& schedule, size_t width) {
  std::vector<int64_t> sums(schedule.stages + 1);
  for (int m = 0; m < schedule.micro_batches; ++m) {
    for (size_t i = 0; i < Size(m, width); ++i) {
      std::vector<uint64_t> kept;
      uint64_t x = FirstInput(m, i);
      for (int stage = 0; stage < schedule.stages; ++stage) {
        kept.push_back(KeptOf(stage, m, i, x));
        x = OutputOf(stage, m, i, x);
      }
      sums[schedule.stages] += LossOf(x);
      if (schedule.forward_only) continue;
      uint64_t gradient = LastGradient(kept.back());
      for (int stage = schedule.stages - 1; stage >= 0; --stage) {
        sums[stage] += WeightGradientOf(gradient, kept[stage]);
        gradient = InputGradientOf(stage, gradient, kept[stage]);
      }
    }
  }
  return sums;
}

std::span<std::byte> BytesOf(std::vector<uint64_t>& values) { return std::as_writable_bytes(std::span(values)); }

}  // namespace

ToyStage::ToyStage(const Schedule& schedule, int stage, const ToyOptions& options, ToyMemory& memory)
    : schedule_(schedule), stage_(stage), options_(options), memory_(memory), recomputed_(schedule.micro_batches) {
  for (const auto& list : schedule.actions)
    for (const Action& action : list)
      if (action.first().kind == Kind::kRecompute && action.first().stage == stage)
        recomputed_[action.first().micro_batch] = true;
}

ToyStage::~ToyStage() { Synchronize(options_.stream); }

ToyStage::MicroBatch& ToyStage::Open(int micro_batch) {
  const auto [at, fresh] = open_.try_emplace(micro_batch);
  JEVONS_CHECK(fresh, "stage %d opens micro-batch %d twice", stage_, micro_batch);
  memory_.peak_open = std::max(memory_.peak_open, ++memory_.open);
  at->second.input = NewBuffer(micro_batch);
  return at->second;
}

ToyStage::MicroBatch& ToyStage::Opened(int micro_batch) {
  const auto at = open_.find(micro_batch);
  JEVONS_CHECK(at != open_.end(), "micro-batch %d is not open at stage %d", micro_batch, stage_);
  return at->second;
}

void ToyStage::Close(int micro_batch) {
  MicroBatch& state = Opened(micro_batch);
  for (Buffer* buffer : {&state.input, &state.kept, &state.gradient, &state.stash}) Poison(*buffer);
  open_.erase(micro_batch);
  --memory_.open;
  --memory_.held;
}

ToyStage::Buffer ToyStage::NewBuffer(int micro_batch) {
  return std::make_shared<Values>(Size(micro_batch, options_.width), kPoison);
}

// The memory itself lives until the stream is through with it: whoever reads it too late reads poison.
void ToyStage::Poison(Buffer& buffer) {
  if (buffer == nullptr) return;
  options_.enqueue([buffer] { std::fill(buffer->begin(), buffer->end(), kPoison); });
  buffer.reset();
}

void ToyStage::MakeKept(int micro_batch, MicroBatch& state) {
  state.kept = NewBuffer(micro_batch);
  state.has_kept = true;
  options_.enqueue([stage = stage_, micro_batch, from = state.input, to = state.kept] {
    for (size_t i = 0; i < to->size(); ++i) (*to)[i] = KeptOf(stage, micro_batch, i, (*from)[i]);
  });
}

void ToyStage::Publish(std::map<int, Buffer>& spans, int micro_batch, Buffer buffer) {
  JEVONS_CHECK(spans.emplace(micro_batch, std::move(buffer)).second, "a result of stage %d that is there already", stage_);
  peak_spans_ = std::max(peak_spans_, spans.size());
}

void ToyStage::ReleaseSpan(std::map<int, Buffer>& spans, int micro_batch) {
  const auto at = spans.find(micro_batch);
  JEVONS_CHECK(at != spans.end(), "stage %d releases what it has not made of micro-batch %d", stage_, micro_batch);
  Poison(at->second);
  spans.erase(at);
}

void ToyStage::Before(TaskKind kind, int micro_batch) const {
  if (options_.before) options_.before({kind, stage_, micro_batch});
}

std::span<std::byte> ToyStage::Input(int micro_batch) {
  JEVONS_CHECK(!first(), "the first stage has no input");
  return BytesOf(*Open(micro_batch).input);
}

// At least one boundary, so that the two of a pair are open together.
Phases ToyStage::InPhases(TaskKind kind, int micro_batch, std::function<void(size_t begin, size_t end)> compute) {
  const size_t phases = 2 + (2 * stage_ + static_cast<int>(kind)) % 3, size = Size(micro_batch, options_.width);
  for (size_t phase = 0; phase < phases; ++phase) {
    if (phase > 0) {
      co_await NextPhase();
      Before(kind, micro_batch);
    }
    options_.enqueue([=] { compute(phase * size / phases, (phase + 1) * size / phases); });
  }
}

Phases ToyStage::Forward(int micro_batch) {
  Before(Kind::kForward, micro_batch);
  MicroBatch& state = first() ? Open(micro_batch) : Opened(micro_batch);
  JEVONS_CHECK(!std::exchange(state.forwarded, true), "forward twice");
  memory_.peak_held = std::max(memory_.peak_held, ++memory_.held);
  const Buffer output = NewBuffer(micro_batch);
  const std::function<void(size_t, size_t)> compute = [this, micro_batch, input = state.input, output](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      if (first()) (*input)[i] = FirstInput(micro_batch, i);
      (*output)[i] = OutputOf(stage_, micro_batch, i, (*input)[i]);
      if (last()) loss_ += LossOf((*output)[i]);
    }
  };
  co_await InPhases(Kind::kForward, micro_batch, compute);
  if (!last()) Publish(outputs_, micro_batch, output);
  if (schedule_.forward_only) {
    Close(micro_batch);
  } else if (!recomputed_[micro_batch]) {
    MakeKept(micro_batch, state);
  }
}

std::span<const std::byte> ToyStage::Output(int micro_batch) { return BytesOf(*outputs_.at(micro_batch)); }

void ToyStage::ReleaseOutput(int micro_batch) { ReleaseSpan(outputs_, micro_batch); }

Phases ToyStage::Recompute(int micro_batch) {
  Before(Kind::kRecompute, micro_batch);
  MicroBatch& state = Opened(micro_batch);
  JEVONS_CHECK(state.forwarded && !state.has_kept, "recomputes what is there");
  co_await NextPhase();
  MakeKept(micro_batch, state);
}

std::span<std::byte> ToyStage::OutputGradient(int micro_batch) {
  MicroBatch& state = Opened(micro_batch);
  JEVONS_CHECK(!last() && state.forwarded && state.gradient == nullptr, "the gradient of stage %d arrives", stage_);
  state.gradient = NewBuffer(micro_batch);
  return BytesOf(*state.gradient);
}

Phases ToyStage::BackwardInput(int micro_batch) {
  Before(Kind::kBackwardInput, micro_batch);
  MicroBatch& state = Opened(micro_batch);
  JEVONS_CHECK(state.has_kept && !std::exchange(state.input_done, true), "the backward of stage %d", stage_);
  JEVONS_CHECK(last() || state.gradient != nullptr, "no gradient has come to stage %d", stage_);
  if (last()) state.gradient = NewBuffer(micro_batch);
  state.stash = NewBuffer(micro_batch);
  const Buffer result = NewBuffer(micro_batch);
  const std::function<void(size_t, size_t)> compute = [this, kept = state.kept, gradient = state.gradient, stash = state.stash,
                                                       result](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      (*stash)[i] = last() ? LastGradient((*kept)[i]) : (*gradient)[i];
      (*result)[i] = InputGradientOf(stage_, (*stash)[i], (*kept)[i]);
    }
  };
  co_await InPhases(Kind::kBackwardInput, micro_batch, compute);
  Poison(state.gradient);
  Poison(state.input);
  if (!first()) Publish(input_gradients_, micro_batch, result);
}

void ToyStage::BackwardWeight(int micro_batch) {
  Before(Kind::kBackwardWeight, micro_batch);
  MicroBatch& state = Opened(micro_batch);
  JEVONS_CHECK(state.input_done, "W before I");
  options_.enqueue([this, kept = state.kept, stash = state.stash] {
    for (size_t i = 0; i < kept->size(); ++i) weight_gradient_ += WeightGradientOf((*stash)[i], (*kept)[i]);
  });
  Close(micro_batch);
}

Phases ToyStage::Backward(int micro_batch) {
  co_await BackwardInput(micro_batch);
  BackwardWeight(micro_batch);
}

std::span<const std::byte> ToyStage::InputGradient(int micro_batch) { return BytesOf(*input_gradients_.at(micro_batch)); }

void ToyStage::ReleaseInputGradient(int micro_batch) { ReleaseSpan(input_gradients_, micro_batch); }

// What is added later is missing from the sum.
void ToyStage::ReduceGradients() {
  Before(Kind::kReduce, 0);
  JEVONS_CHECK(open_.empty(), "stage %d reduces while micro-batches are open", stage_);
  options_.enqueue([this] { reduced_ = weight_gradient_; });
}

namespace {

// The most micro-batches that are open at once by the list of a rank: from their receive, or their forward.
int PeakOpen(const Schedule& schedule, int rank) {
  int open = 0, peak = 0;
  std::set<std::pair<int, int>> received;
  for (const Action& action : schedule.actions[rank]) {
    for (const auto& [kind, stage, micro_batch] : action.tasks()) {
      if (kind == Kind::kRecvForward) received.insert({stage, micro_batch});
      open += kind == Kind::kRecvForward || (kind == Kind::kForward && received.count({stage, micro_batch}) == 0);
      peak = std::max(peak, open);
      open -= kind == Kind::kBackward || kind == Kind::kBackwardWeight || (schedule.forward_only && kind == Kind::kForward);
    }
  }
  return peak;
}

// What the executor did is what the list says.
class Recorder : public ActionObserver {
 public:
  void Ran(const Action& action, double begin, double end, double waited) override {
    EXPECT_LE(last_end_, begin);
    EXPECT_LE(begin, end);
    EXPECT_GE(waited, 0);
    EXPECT_LE(waited, end - begin);
    last_end_ = end;
    actions.push_back(action);
  }
  std::vector<Action> actions;

 private:
  double last_end_ = 0;
};

bool SendsEverything(const Schedule& schedule, int stage, int step) {
  const int next = stage + step;
  if (next < 0 || next >= schedule.stages) return true;
  return std::all_of(schedule.routes.begin(), schedule.routes.end(),
                     [&](const auto& route) { return route[stage] != route[next]; });
}

}  // namespace

void CheckExecutor(Communicator& pp, const Schedule& schedule, const ToyOptions& options) {
  constexpr int kSteps = 2;
  SCOPED_TRACE(ToString(schedule));
  ToyMemory memory;
  std::vector<std::unique_ptr<ToyStage>> stages(schedule.stages);
  std::vector<Stage*> given(schedule.stages);
  for (const int stage : schedule.StagesOf(pp.rank())) {
    stages[stage] = std::make_unique<ToyStage>(schedule, stage, options, memory);
    given[stage] = stages[stage].get();
  }
  Recorder recorder;
  Executor executor(schedule, pp, options.stream, given, &recorder);
  pp.Barrier();
  const int64_t waits = HostSynchronizations();
  for (int step = 0; step < kSteps; ++step) {
    executor.Run();
    EXPECT_EQ(memory.open, 0);
    EXPECT_EQ(memory.held, 0);
    EXPECT_EQ(recorder.actions, schedule.actions[pp.rank()]);
    recorder.actions.clear();
  }
  pp.Barrier();
  EXPECT_EQ(HostSynchronizations(), waits) << "the host never waits for a device";
  pp.Barrier();
  const auto timeline = Simulate(schedule, PipelineCosts::Uniform(schedule.stages, {}));
  ASSERT_TRUE(timeline.ok());
  EXPECT_EQ(memory.peak_held, timeline->ranks[pp.rank()].peak_held);
  EXPECT_EQ(memory.peak_open, PeakOpen(schedule, pp.rank()));

  Synchronize(options.stream);
  std::vector<int64_t> sums(schedule.stages + 1);
  for (const int stage : schedule.StagesOf(pp.rank())) {
    EXPECT_TRUE(stages[stage]->empty());
    if (SendsEverything(schedule, stage, 1) && SendsEverything(schedule, stage, -1)) {
      const auto neighbours = static_cast<size_t>(schedule.routes.size());  // a route each
      EXPECT_LE(stages[stage]->peak_spans(), Executor::kSends * neighbours + 1) << "stage " << stage;
    }
    sums[stage] += stages[stage]->weight_gradient();
    sums[schedule.stages] += stages[stage]->loss();
  }
  pp.AllReduceSum(sums);
  std::vector<int64_t> expected = SerialRun(schedule, options.width);
  for (int64_t& sum : expected) sum *= kSteps;
  EXPECT_EQ(sums, expected);
}

namespace {

// What may run next, as a random topological order is made.
class RandomLists {
 public:
  RandomLists(std::mt19937& random, Schedule& schedule) : random_(random), schedule_(schedule) {
    for (int m = 0; m < schedule.micro_batches; ++m) ready_.push_back({Kind::kForward, 0, m});
  }
  void Make() {
    while (!ready_.empty()) {
      const Task task = Take(Uniform(ready_.size()));
      const int rank = RankOf(task);
      const int partner = Uniform(2) == 0 ? PartnerOf(task) : -1;
      if (partner < 0) {
        schedule_.actions[rank].emplace_back(task);
        Follow(task);
        continue;
      }
      const Task other = Take(partner);
      const bool forward = task.kind == Kind::kForward;
      schedule_.actions[rank].push_back(Action::Overlap(forward ? task : other, forward ? other : task));
      Follow(task);
      Follow(other);
    }
  }

 private:
  size_t Uniform(size_t size) { return random_() % size; }
  int RankOf(const Task& task) const { return schedule_.RankOf(task.stage, task.micro_batch); }
  Task Take(size_t at) {
    std::swap(ready_[at], ready_.back());
    const Task task = ready_.back();
    ready_.pop_back();
    return task;
  }
  // A forward for a backward of the same rank, or the reverse; -1 if none is ready.
  int PartnerOf(const Task& task) const {
    for (size_t i = 0; i < ready_.size(); ++i) {
      const Task& other = ready_[i];
      if (RankOf(other) != RankOf(task)) continue;
      if (task.kind == Kind::kForward && MakesInputGradient(other.kind)) return static_cast<int>(i);
      if (MakesInputGradient(task.kind) && other.kind == Kind::kForward) return static_cast<int>(i);
    }
    return -1;
  }
  Task RandomBackward(int stage, int micro_batch) {
    return {Uniform(2) == 0 ? Kind::kBackward : Kind::kBackwardInput, stage, micro_batch};
  }
  // Some backwards recompute first, right before or earlier.
  void BackwardIsReady(int stage, int micro_batch) {
    ready_.push_back(Uniform(4) == 0 ? Task{Kind::kRecompute, stage, micro_batch} : RandomBackward(stage, micro_batch));
  }
  void Follow(const Task& done) {
    const auto [kind, stage, micro_batch] = done;
    if (kind == Kind::kRecompute) ready_.push_back(RandomBackward(stage, micro_batch));
    if (kind == Kind::kBackwardInput) ready_.push_back({Kind::kBackwardWeight, stage, micro_batch});
    if (MakesInputGradient(kind) && stage > 0) BackwardIsReady(stage - 1, micro_batch);
    if (kind != Kind::kForward) return;
    if (stage + 1 < schedule_.stages) {
      ready_.push_back({Kind::kForward, stage + 1, micro_batch});
    } else {
      BackwardIsReady(stage, micro_batch);
    }
  }

  std::mt19937& random_;
  Schedule& schedule_;
  std::vector<Task> ready_;
};

}  // namespace

Schedule RandomSchedule(std::mt19937& random, int ranks) {
  const int routes = 1 + random() % 2;
  Schedule schedule{.name = "random",
                    .stages = ranks + static_cast<int>(random() % 3),
                    .micro_batches = routes * (1 + static_cast<int>(random() % 4)),
                    .routes = {},
                    .actions = std::vector<std::vector<Action>>(ranks)};
  for (int route = 0; route < routes; ++route) {
    schedule.routes.emplace_back(schedule.stages);
    for (int& rank : schedule.routes.back()) rank = static_cast<int>(random() % ranks);
  }
  RandomLists(random, schedule).Make();
  return schedule;
}

std::vector<Schedule> ExecutableSchedules(int pp) {
  std::vector<Schedule> schedules;
  for (const ScheduleKind kind : kAllScheduleKinds) {
    for (int micro_batches = 1; micro_batches <= 2 * pp + 1; ++micro_batches) {
      for (int stages = 1; stages <= 3; ++stages) {
        const ScheduleShape shape{.kind = kind, .pp = pp, .micro_batches = micro_batches, .virtual_stages = stages};
        if (!shape.Validate().ok()) continue;
        const auto schedule = ExecutableSchedule(shape, /*recompute=*/micro_batches % 2 == 0);
        JEVONS_CHECK(schedule.ok(), "%s", std::string(schedule.status().message()).c_str());
        schedules.push_back(*schedule);
      }
    }
  }
  return schedules;
}

}  // namespace jevons
