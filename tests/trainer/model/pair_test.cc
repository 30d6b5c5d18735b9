// Contract 4: two micro-batches zipped by phases give the bits that they give one after the other, and what they exchange has one
// order, on all ranks and whatever the timing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parallel/pipeline/executor.h"
#include "tests/support/model_harness.h"
#include "tests/support/slow_transport.h"
#include "tests/support/watched_group.h"

namespace jevons {
namespace {

constexpr int64_t kS = 5;
constexpr int kRanks = 2;  // of the ep group

// Two stages on one rank; each pair has a forward of one and a backward of the other.
const char kApart[] = "rank 0F0 1F0 1B0 0B0 0F1 1F1 1B1 0B1 0F2 1F2 1B2 0B2\n";
const char kInPairs[] = "rank 0F0 1F0 0F1&1B0 1F1&0B0 0F2&1B1 1F2&0I1 0W1 1B2 0B2\n";

struct Case {
  std::vector<int64_t> layers;  // of the two stages
  int64_t dense = 0, modules = 0;
  bool fp8 = false, masked = false;
  int nodes = 0;  // over which tokens are forwarded; 0: they are not
};

struct Result {
  std::vector<std::vector<double>> gradients;
  std::vector<double> losses;
  std::vector<int64_t> counts;
  bool operator==(const Result&) const = default;
};

int64_t SumOf(const MicroPool::Slices& slices) {
  int64_t sum = 0;
  for (const auto& [name, bytes] : slices) sum += bytes;
  return sum;
}

// Micro-batch m of this rank: m sequences on rank 0, one or none on rank 1.
int64_t SequencesOf(int rank, int micro_batch) { return rank == 0 ? micro_batch : micro_batch != 1; }

Result RunLists(Communicator& ep, const Case& test, const std::string& lists) {
  ModelConfig config = TinyModel();
  config.set_layers(test.layers[0] + test.layers[1]);
  config.set_dense_layers(test.dense);
  config.mutable_mtp()->set_depth(test.modules);
  PrecisionConfig precision;
  precision.set_gemm(test.fp8 ? FP8_BLOCK : AS_COMPUTE);
  const int locals = test.nodes > 0 ? ep.size() / test.nodes : 1;
  const auto rail = ep.Split(ep.rank() % locals, "ep_rail"), local = ep.Split(ep.rank() / locals, "ep_local");
  ModelHarness harness(config, kS, test.nodes > 0 ? EpGroups(ep, test.nodes, rail.get(), local.get()) : EpGroups(ep), precision);
  harness.BindGradients();
  const int64_t terms = harness.model().loss_terms(), experts = config.moe().routed_experts();
  std::vector<std::vector<int32_t>> tokens, starts;
  for (int m = 0; m < 3; ++m) {
    const int64_t sequences = SequencesOf(ep.rank(), m);
    tokens.push_back(RandomTokens(sequences * (kS + 1), config.vocab_size(), static_cast<uint64_t>(10 * ep.rank() + m)));
    starts.emplace_back();
    for (int64_t s = 0; s < sequences; ++s) starts.back().insert(starts.back().end(), {0, 0, 2, 2, 2});
  }
  Result result;
  result.losses.resize(static_cast<size_t>(3 * terms));
  result.counts.resize(static_cast<size_t>(3 * harness.model().moe_layers() * experts));
  MicroPool pool(int64_t{1} << 26, Device::kCpu);
  NetworkStage first(harness.model(), {.layers = {0, test.layers[0]}, .first = true, .last = false}, pool);
  NetworkStage second(harness.model(), {.layers = {test.layers[0], config.layers()}, .first = false, .last = true}, pool);
  const StageStep step{.ctx = harness.Context(),
                       .weights = &harness.binding().weights(),
                       .batch =
                           [&](int m) {
                             const auto i = static_cast<size_t>(m);
                             const int64_t sequences = SequencesOf(ep.rank(), m);
                             MicroBatch batch = ModelHarness::Batch(tokens[i], sequences, kS);
                             if (!test.masked) return batch;
                             batch.document_start = Tensor::Of(starts[i].data(), {sequences, kS});
                             batch.documents = 2 * sequences;
                             batch.longest_document = 3;
                             return batch;
                           },
                       .scales = {.main = 0.1f, .mtp = 0.05f, .balance = 0.01f},
                       .totals =
                           [&](int m) {
                             return MicroBatchTotals{
                                 .losses = result.losses.data() + m * terms,
                                 .counts = Tensor::Of(result.counts.data() + m * harness.model().moe_layers() * experts,
                                                      {harness.model().moe_layers(), experts})};
                           }};
  first.Begin(step);
  second.Begin(step);
  const auto pp = ep.Split(ep.rank(), "pp");
  const auto schedule = ParseSchedule("schedule test stages 2 micro_batches 3\nroute 0 0\n" + lists);
  Executor(schedule.value(), *pp, {}, {&first, &second}).Run();
  harness.Finish();
  // Each of a pair has its scratch, and both count.
  const Arena& scratch = *step.ctx.ops.scratch;
  if (lists == kApart) {
    EXPECT_EQ(SumOf(pool.TemporarySlices({&scratch})), scratch.peak_bytes());
  } else if (test.layers[0] > 0 && SequencesOf(ep.rank(), 1) > 0) {
    EXPECT_GT(SumOf(pool.TemporarySlices({&scratch})), scratch.peak_bytes());
  }
  for (size_t p = 0; p < harness.weights().specs().size(); ++p) result.gradients.push_back(harness.Gradient(p));
  return result;
}

std::vector<Result> OnRanks(const Case& test, const std::string& lists, const WrapTransport& wrap) {
  std::vector<Result> results(kRanks);
  RunLoopback(
      kRanks, [&](Communicator& ep) { results[static_cast<size_t>(ep.rank())] = RunLists(ep, test, lists); }, wrap);
  return results;
}

WrapTransport AsItIs() {
  return [](std::unique_ptr<Transport> transport) { return transport; };
}

const std::vector<Case> kCases = {
    {{1, 1}},
    {{2, 1}},
    {{1, 2}},
    {{3, 1}, 2},           // dense blocks beside experts
    {{0, 3}, 1},           // a stage without blocks
    {{3, 0}, 0, 1},        // modules alone
    {{1, 1}, 0, 2, true},  // FP8
    {{2, 1}, 1, 1, false, true},
    {{1, 2}, 0, 1, true, true},
    {{2, 1}, 0, 1, false, false, 2},
    {{1, 1}, 0, 2, true, false, 1},
};

TEST(Pair, GivesTheBitsOfOneAfterTheOther) {
  for (size_t i = 0; i < kCases.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "case " << i);
    const std::vector<Result> apart = OnRanks(kCases[i], kApart, AsItIs()), in_pairs = OnRanks(kCases[i], kInPairs, AsItIs());
    for (int rank = 0; rank < kRanks; ++rank) {
      const auto r = static_cast<size_t>(rank);
      ASSERT_GT(apart[r].gradients.size(), 10u);
      EXPECT_TRUE(apart[r] == in_pairs[r]) << "rank " << rank;  // NaN, which is poison, equals nothing
    }
  }
}

TEST(Pair, DelaysChangeNothing) {
  Case test{{1, 1}};
  const std::vector<Result> expected = OnRanks(test, kApart, AsItIs());
  for (const int nodes : {0, 1, 2}) {
    test.nodes = nodes;
    for (uint32_t seed = 0; seed < 100; ++seed)
      ASSERT_TRUE(OnRanks(test, kInPairs, SlowAndRandom(seed)) == expected) << "seed " << seed << ", " << nodes << " nodes";
  }
}

// Writes down the exchanges of a group, by what they carry: D0 rows of micro-batch 0 on their way to the experts, C0 on their way
// back, D0d0 and C0c0 with values, P counts; a dot before it where it is waited for.
class ExchangeLog : public WatchedGroup {
 public:
  ExchangeLog(Communicator& group, std::function<std::string(size_t sent, size_t received)> name)
      : WatchedGroup(group), name_(std::move(name)) {}
  const std::string& text() const { return text_; }
  const std::string& numbers() const { return numbers_; }  // the same, each by its number

  CommRequest BeginAllToAllV(const Stream& stream, std::span<const Exchange> exchanges) override {
    const CommRequest request = WatchedGroup::BeginAllToAllV(stream, exchanges);
    std::string& name = open_[request.id];
    for (const Exchange& exchange : exchanges) name += name_(exchange.send.size(), exchange.recv.size());
    text_ += name + " ";
    numbers_ += std::to_string(request.id) + " ";
    return request;
  }
  void Wait(const Stream& stream, CommRequest request) override {
    text_ += "." + open_.at(request.id) + " ";
    numbers_ += "." + std::to_string(request.id) + " ";
    WatchedGroup::Wait(stream, request);
  }

 private:
  const std::function<std::string(size_t, size_t)> name_;
  std::map<int64_t, std::string> open_;
  std::string text_, numbers_;
};

struct Exchanges {
  std::string names, numbers;
};

// [ranks] what each exchanged.
std::vector<Exchanges> ExchangesOf(const Case& test, const std::string& lists, const WrapTransport& wrap) {
  std::vector<Exchanges> exchanges(kRanks);
  RunLoopback(
      kRanks,
      [&](Communicator& group) {
        const ModelConfig config = TinyModel();
        const auto rows = static_cast<size_t>(kS * config.moe().top_k()), bytes = static_cast<size_t>(config.hidden_size()) * 4;
        ExchangeLog log(group, [&](size_t sent, size_t received) -> std::string {
          if (sent == static_cast<size_t>(config.moe().routed_experts()) * 8) return "P";
          for (const int m : {0, 1, 2}) {
            const size_t pairs = static_cast<size_t>(SequencesOf(group.rank(), m)) * rows;
            for (const auto& [width, letters] : {std::pair(bytes, "DC"), std::pair(size_t{4}, "dc")}) {
              if (sent == pairs * width) return letters[0] + std::to_string(m);
              if (received == pairs * width) return letters[1] + std::to_string(m);
            }
          }
          return "?";
        });
        RunLists(log, test, lists);
        exchanges[static_cast<size_t>(group.rank())] = {log.text(), log.numbers()};
      },
      wrap);
  return exchanges;
}

// Of rank 0, whose micro-batches differ in size.
TEST(PairOrder, IsThatOfTheReport) {
  const std::string text = ExchangesOf({{1, 1}}, kInPairs, AsItIs())[0].names;
  // 0F2 beside 1B1: gradients out, counts, rows out, gradients back, results back.
  EXPECT_THAT(text, testing::HasSubstr("D1 P .P D2d2 .D1 C1c1 .D2d2 C2 .C1c1 .C2 ")) << text;
}

// Whatever the rows, which differ by rank, the timing, and the blocks of the two.
TEST(PairOrder, IsOneListOnAllRanks) {
  for (size_t i = 0; i < kCases.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "case " << i);
    const std::string expected = ExchangesOf(kCases[i], kInPairs, AsItIs())[0].numbers;
    if (kCases[i].layers[0] > 0 && kCases[i].nodes == 0) {  // else rows travel in other groups
      EXPECT_NE(expected, ExchangesOf(kCases[i], kApart, AsItIs())[0].numbers);
    }
    for (uint32_t seed = 0; seed < 2; ++seed)
      for (const Exchanges& rank : ExchangesOf(kCases[i], kInPairs, SlowAndRandom(seed))) ASSERT_EQ(rank.numbers, expected);
  }
}

}  // namespace
}  // namespace jevons
