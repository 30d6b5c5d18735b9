// Executors against a serial run: stages of integers whose memory is poisoned when it is released, and who watch what
// is asked of them. Loopback, MPI and the stand-in for NCCL run the same.
#ifndef JEVONS_TESTS_PARALLEL_PIPELINE_EXECUTOR_CHECKS_H_
#define JEVONS_TESTS_PARALLEL_PIPELINE_EXECUTOR_CHECKS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/pipeline/action.h"
#include "parallel/pipeline/stage.h"

namespace jevons {

// How a toy stage works.
struct ToyOptions {
  Stream stream = {};
  size_t width = 1;  // values per row
  // Gives work to the stream; at once on the host.
  std::function<void(std::function<void()>)> enqueue = [](const std::function<void()>& work) { work(); };
  // Called first by everything that computes, and by each of its phases: to delay it, or to stop.
  std::function<void(const Task& task)> before = {};
};

// What all stages of one rank hold at a time, in micro-batches.
struct ToyMemory {
  int open = 0, peak_open = 0;  // from Input, or Forward without one, until B or W
  int held = 0, peak_held = 0;  // from Forward
};

// y = a x + b(micro-batch), in integers that wrap around; every third or so micro-batch has no rows.
class ToyStage : public Stage {
 public:
  ToyStage(const Schedule& schedule, int stage, const ToyOptions& options, ToyMemory& memory);
  ~ToyStage() override;

  std::span<std::byte> Input(int micro_batch) override;
  Phases Forward(int micro_batch) override;
  std::span<const std::byte> Output(int micro_batch) override;
  void ReleaseOutput(int micro_batch) override;
  Phases Recompute(int micro_batch) override;
  std::span<std::byte> OutputGradient(int micro_batch) override;
  Phases BackwardInput(int micro_batch) override;
  void BackwardWeight(int micro_batch) override;
  Phases Backward(int micro_batch) override;
  std::span<const std::byte> InputGradient(int micro_batch) override;
  void ReleaseInputGradient(int micro_batch) override;
  void ReduceGradients() override;

  // Of the steps reduced so far; where the schedule reduces nothing, of all.
  int64_t weight_gradient() const { return schedule_.reduces() ? reduced_ : weight_gradient_; }
  int64_t loss() const { return loss_; }  // of the last stage
  bool empty() const { return open_.empty() && outputs_.empty() && input_gradients_.empty(); }
  size_t peak_spans() const { return peak_spans_; }  // outputs, or input gradients, not released

 private:
  using Values = std::vector<uint64_t>;
  using Buffer = std::shared_ptr<Values>;
  struct MicroBatch {
    Buffer input, kept, gradient, stash;
    bool forwarded = false, has_kept = false, input_done = false;
  };
  bool first() const { return stage_ == 0; }
  bool last() const { return stage_ == schedule_.stages - 1; }
  MicroBatch& Open(int micro_batch);
  MicroBatch& Opened(int micro_batch);
  void Close(int micro_batch);
  Buffer NewBuffer(int micro_batch);
  void Poison(Buffer& buffer);
  void MakeKept(int micro_batch, MicroBatch& state);
  void Publish(std::map<int, Buffer>& spans, int micro_batch, Buffer buffer);
  void ReleaseSpan(std::map<int, Buffer>& spans, int micro_batch);
  void Before(TaskKind kind, int micro_batch) const;
  // Computes the values of a micro-batch in as many parts as the stage has phases.
  Phases InPhases(TaskKind kind, int micro_batch, std::function<void(size_t begin, size_t end)> compute);

  const Schedule& schedule_;
  const int stage_;
  const ToyOptions options_;
  ToyMemory& memory_;
  std::vector<bool> recomputed_;  // [micro-batches]
  std::map<int, MicroBatch> open_;
  std::map<int, Buffer> outputs_, input_gradients_;  // not released
  size_t peak_spans_ = 0;
  int64_t weight_gradient_ = 0, reduced_ = 0, loss_ = 0;
};

// Two steps of `schedule`, which has its communication, on the ranks of `pp`: the results are those of a serial run,
// memory is held as the lists and the simulator say, and nothing is left over. Collective.
void CheckExecutor(Communicator& pp, const Schedule& schedule, const ToyOptions& options = {});

// Lists of a random topological order, without communication: backwards whole or split, some forwards recomputed, some
// pairs overlapped; stages on any ranks, micro-batches on one or two routes.
Schedule RandomSchedule(std::mt19937& random, int ranks);

// Every legal shape with micro-batches up to 2 pp + 1; interleaved ones with 2 and 3 stages per rank.
std::vector<Schedule> ExecutableSchedules(int pp);

}  // namespace jevons

#endif  // JEVONS_TESTS_PARALLEL_PIPELINE_EXECUTOR_CHECKS_H_
