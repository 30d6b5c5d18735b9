// How long ranks of an ep group wait for each other's rows, with the micro-batches one after the other and in pairs.
//   pair_bench              two ranks over loopback, on models of a link
//   mpirun -np 2 pair_bench two ranks over MPI, by the clock on the wall; not to be believed on a machine that does other things
// On a model (link_group.h) a rank computes as long as its thread has a CPU, so that other programs do not show.
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>

#include "parallel/comm/mpi.h"
#include "parallel/pipeline/executor.h"
#include "tests/support/link_group.h"
#include "tests/support/model_harness.h"

namespace jevons {
namespace {

constexpr int kMicroBatches = 8, kRounds = 5;
constexpr int64_t kSequences = 2, kLength = 128;

double Clock(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// By the clock on the wall.
class TimedGroup : public WatchedGroup {
 public:
  using WatchedGroup::WatchedGroup;
  double Now() const { return Clock(CLOCK_MONOTONIC); }
  void Wait(const Stream& stream, CommRequest request) override {
    const double begin = Now();
    WatchedGroup::Wait(stream, request);
    waited += Now() - begin;
  }
  double waited = 0, busy = 0;  // seconds; busy: of a link, which nobody knows here
};

ModelConfig BenchModel() {
  ModelConfig model = TinyModel();
  model.set_vocab_size(256);
  model.set_hidden_size(256);
  model.set_layers(4);
  model.set_dense_layers(0);
  model.set_init_std(0.02);
  model.mutable_mtp()->set_depth(0);
  AttentionConfig& attention = *model.mutable_attention();
  attention.set_heads(4);
  attention.set_query_rank(64);
  attention.set_kv_rank(64);
  attention.set_nope_dim(32);
  attention.set_rope_dim(16);
  attention.set_value_dim(32);
  model.mutable_moe()->set_intermediate_size(256);
  return model;
}

// Two stages of this rank, forwards and backwards in turn.
std::string Lists(bool pairs) {
  std::string list = "schedule bench stages 2 micro_batches " + std::to_string(kMicroBatches) + "\nroute 0 0\nrank 0F0 1F0";
  for (int i = 1; i < kMicroBatches; ++i) {
    const std::string f = std::to_string(i), b = std::to_string(i - 1), join = pairs ? "&" : " ";
    list += " 0F" + f + join + "1B" + b + " 1F" + f + join + "0B" + b;
  }
  const std::string last = std::to_string(kMicroBatches - 1);
  return list + " 1B" + last + " 0B" + last + "\n";
}

struct Times {
  double wall = 0, waited = 0, busy = 0;  // seconds for each micro-batch
};

// A step of micro-batches, the best of some.
// watch: what says Now(), waited and busy of ep.
template <typename Watch>
Times RunLists(Communicator& world, Communicator& ep, Watch& watch, bool pairs) {
  omp_set_num_threads(1);
  const ModelConfig config = BenchModel();
  ModelHarness harness(config, kLength, ep);
  harness.BindGradients();
  std::vector<int32_t> tokens =
      RandomTokens(kSequences * (kLength + 1), config.vocab_size(), static_cast<uint64_t>(world.rank()));
  const int64_t experts = config.moe().routed_experts();
  std::vector<double> losses(static_cast<size_t>(harness.model().loss_terms()));
  std::vector<int64_t> counts(static_cast<size_t>(config.layers() * experts));
  MicroPool pool(int64_t{1} << 30, Device::kCpu);
  NetworkStage first(harness.model(), {.layers = {0, 2}, .first = true, .last = false}, pool);
  NetworkStage second(harness.model(), {.layers = {2, 4}, .first = false, .last = true}, pool);
  const StageStep step{
      .ctx = harness.Context(),
      .weights = &harness.binding().weights(),
      .batch = [&](int) { return ModelHarness::Batch(tokens, kSequences, kLength); },
      .scales = {.main = 0.01f, .mtp = 0, .balance = 0.001f},
      .totals =
          [&](int) {
            return MicroBatchTotals{.losses = losses.data(), .counts = Tensor::Of(counts.data(), {config.layers(), experts})};
          }};
  const auto pp = world.Split(world.rank(), "pp");
  Executor executor(ParseSchedule(Lists(pairs)).value(), *pp, {}, {&first, &second});
  Times best{.wall = 1e9};
  for (int round = 0; round < kRounds; ++round) {
    first.Begin(step);
    second.Begin(step);
    world.Barrier();
    const double begin = watch.Now(), waited = watch.waited, busy = watch.busy;
    executor.Run();
    const Times times{.wall = (watch.Now() - begin) / kMicroBatches,
                      .waited = (watch.waited - waited) / kMicroBatches,
                      .busy = (watch.busy - busy) / kMicroBatches};
    if (times.wall < best.wall) best = times;
  }
  return best;
}

void Print(const std::string& link, bool pairs, const Times& times) {
  std::printf("%-28s %-6s %9.2f %9.2f %9.2f %9.2f\n", link.c_str(), pairs ? "pairs" : "apart", 1e3 * times.wall,
              1e3 * (times.wall - times.waited), 1e3 * times.busy, 1e3 * times.waited);
}

void RunOverMpi(Communicator& world) {
  for (const bool background : {false, true}) {
    for (const bool pairs : {false, true}) {
      const auto group = world.Split(0, "ep");
      if (background) group->MoveInBackground();
      TimedGroup ep(*group);
      const Times times = RunLists(world, ep, ep, pairs);
      if (world.rank() == 0) Print(background ? "MPI, moved on by a thread" : "MPI", pairs, times);
    }
  }
}

void RunOverModel(const std::string& name, double bytes_per_second, bool asks) {
  for (const bool pairs : {false, true}) {
    LinkMeeting meeting;
    RunLoopback(2, [&](Communicator& world) {
      const auto group = world.Split(0, "ep");
      LinkClock clock([] { return Clock(CLOCK_THREAD_CPUTIME_ID); });
      LinkGroup ep(*group, meeting, {bytes_per_second, bytes_per_second}, clock, asks);
      const Times times = RunLists(world, ep, clock, pairs);
      if (world.rank() == 0) Print(name, pairs, times);
    });
  }
}

int Main(int argc, char** argv) {
  const auto session = MpiSession::Start(&argc, &argv);
  if (!session.ok()) return std::fprintf(stderr, "%s\n", std::string(session.status().message()).c_str()), 2;
  Communicator& world = (*session)->world();
  if (world.rank() == 0)
    std::printf("%-28s %-6s %9s %9s %9s %9s\n", "ms of rank 0, a micro-batch", "", "all", "computes", "link busy", "waits");
  if (world.size() > 1) {
    RunOverMpi(world);
    return 0;
  }
  for (const double megabytes : {400, 200, 100, 50}) {
    const std::string speed = std::to_string(static_cast<int>(megabytes)) + " MB/s";
    RunOverModel(speed, megabytes * 1e6, false);
    RunOverModel(speed + ", asks", megabytes * 1e6, true);
  }
  return 0;
}

}  // namespace
}  // namespace jevons

int main(int argc, char** argv) { return jevons::Main(argc, argv); }
