// Forwarded dispatch against contract 8, bit by bit, and against the flat way's counters.
#include <algorithm>
#include <map>
#include <set>

#include "gtest/gtest.h"
#include "kernels/base/philox.h"
#include "parallel/comm/loopback.h"
#include "tests/parallel/dispatcher_checks.h"
#include "tests/support/slow_transport.h"

namespace jevons {
namespace {

struct Shape {
  int nodes, locals;
  int64_t experts, groups;
};
std::ostream& operator<<(std::ostream& out, const Shape& s) {
  return out << s.nodes << "x" << s.locals << ", " << s.experts << " experts in " << s.groups << " groups";
}

// Groups that a rank has whole, that several ranks share, and both; even and uneven blocks of experts; ranks without one.
const Shape kShapes[] = {{1, 8, 20, 4},  {2, 4, 20, 4}, {2, 4, 16, 8}, {4, 2, 12, 4}, {4, 2, 24, 8}, {8, 1, 24, 8},
                         {8, 1, 16, 16}, {2, 3, 14, 2}, {2, 3, 16, 4}, {2, 4, 6, 2},  {1, 1, 5, 1}};

// Groups of an ep group as a mesh makes them.
struct TwoHops {
  TwoHops(Communicator& ep, int nodes)
      : locals(ep.size() / nodes),
        rail(ep.Split(ep.rank() % locals, "ep_rail")),
        local(ep.Split(ep.rank() / locals, "ep_local")),
        groups(ep, nodes, rail.get(), local.get()) {}
  int locals;
  std::unique_ptr<Communicator> rail, local;
  EpGroups groups;
};

Routing WithIndices(const Shape& s, int64_t slots, const std::function<int64_t(int)>& tokens,
                    const std::function<int64_t(uint64_t at, int64_t slot)>& expert) {
  return {.experts = s.experts, .groups = s.groups, .slots = slots, .indices = [=](int rank) {
            std::vector<int32_t> indices;
            for (int64_t t = 0; t < tokens(rank); ++t) {
              std::set<int64_t> chosen;  // different ones
              for (int64_t k = 0; k < slots; ++k) {
                int64_t e = expert(static_cast<uint64_t>(rank * 1000 + t), k) % s.experts;
                while (chosen.contains(e)) e = (e + 1) % s.experts;
                chosen.insert(e);
                indices.push_back(static_cast<int32_t>(e));
              }
            }
            return indices;
          }};
}

// Even, with ranks that have no tokens; none at all; all to one expert, to one node, to one group; zipf.
std::vector<Routing> Routings(const Shape& s) {
  const auto some = [](int rank) { return int64_t{rank % 3 == 1 ? 0 : 5 + 2 * rank}; };
  const int64_t slots = std::min<int64_t>(4, s.experts),
                kept = std::max<int64_t>(s.groups / 2, (slots * s.groups + s.experts - 1) / s.experts);
  const int64_t on_node = s.experts / s.nodes, in_group = s.experts / s.groups;
  return {Chosen(s.experts, s.groups, kept, slots, 3, some),
          Chosen(s.experts, s.groups, s.groups, slots, 4, [](int) { return int64_t{7}; }),
          Chosen(s.experts, s.groups, s.groups, slots, 5, [](int) { return int64_t{0}; }),
          Chosen(s.experts, s.groups, s.groups, slots, 6, [](int rank) { return int64_t{rank == 0 ? 9 : 0}; }),
          WithIndices(s, 1, some, [&s](uint64_t, int64_t) { return s.experts - 1; }),
          WithIndices(s, std::min(slots, on_node), some,
                      [=](uint64_t at, int64_t k) {
                        return static_cast<int64_t>(RandomBits(7, at, static_cast<uint64_t>(k)) % static_cast<uint64_t>(on_node));
                      }),
          WithIndices(s, std::min(slots, in_group), some, [=](uint64_t, int64_t k) { return k; }),
          WithIndices(s, slots, some, [](uint64_t at, int64_t k) {
            return static_cast<int64_t>(1 / (1e-3 + RandomUniform(8, at, static_cast<uint64_t>(k)))) - 1;
          })};
}

class ForwardingTest : public testing::TestWithParam<Shape> {};
INSTANTIATE_TEST_SUITE_P(Shapes, ForwardingTest, testing::ValuesIn(kShapes));

TEST_P(ForwardingTest, EveryRowReachesItsExpertAndEverySumHasTheBitsOfTheContract) {
  const Shape& s = GetParam();
  const std::vector<Routing> routings = Routings(s);
  for (const WrapTransport& wrap : {WrapTransport([](auto transport) { return transport; }), Slow()}) {
    RunLoopback(
        s.nodes * s.locals,
        [&](Communicator& ep) {
          const TwoHops hops(ep, s.nodes);
          Dispatcher dispatcher(hops.groups, {.experts = s.experts, .groups = s.groups});
          for (size_t i = 0; i < routings.size(); ++i) {
            SCOPED_TRACE(testing::Message() << "routing " << i);
            CheckDispatch(ep, dispatcher, routings[i]);
          }
        },
        wrap);
  }
}

// What the numbers of rows are made of: for every token of every source, the nodes and ranks of its experts, and their groups.
struct Counted {
  int64_t tokens = 0, pairs = 0, rows = 0, forwarded = 0, groups = 0, units = 0, network_values = 0, local_values = 0;
};
Counted Count(const Shape& s, const Routing& routing) {
  Counted sum;
  const ForwardMap map{.experts = s.experts, .groups = s.groups, .nodes = s.nodes, .locals = s.locals};
  for (int source = 0; source < map.ranks(); ++source) {
    const std::vector<int32_t> indices = routing.indices(source);
    const int node = source / s.locals, local = source % s.locals;
    for (size_t p = 0; p < indices.size(); p += static_cast<size_t>(routing.slots)) {
      std::set<int> nodes, ranks;
      std::set<int64_t> groups, units;
      ++sum.tokens;
      for (size_t k = 0; k < static_cast<size_t>(routing.slots); ++k) {
        const int64_t expert = indices[p + k], group = map.GroupOf(expert);
        const int owner = map.OwnerOf(expert);
        const bool away = owner / s.locals != node, passed_on = owner % s.locals != local;
        if (away) nodes.insert(owner / s.locals);
        if (away) groups.insert(group);
        if (passed_on) ranks.insert(owner);
        if (passed_on) units.insert(map.HasWhole(owner, group) ? group : 1000 + static_cast<int64_t>(k));
        sum.network_values += away;
        sum.local_values += passed_on;
      }
      sum.rows += static_cast<int64_t>(nodes.size());
      sum.forwarded += static_cast<int64_t>(ranks.size());
      sum.groups += static_cast<int64_t>(groups.size());
      sum.units += static_cast<int64_t>(units.size());
    }
  }
  sum.pairs = sum.network_values;
  return sum;
}

Traffic TrafficOf(const Shape& s, const Routing& routing, bool forwards) {
  Traffic sum;
  RunLoopback(s.nodes * s.locals, [&](Communicator& ep) {
    const TwoHops hops(ep, s.nodes);
    Dispatcher dispatcher(forwards ? hops.groups : EpGroups(ep, s.nodes), {.experts = s.experts, .groups = s.groups});
    CheckDispatch(ep, dispatcher, routing);
    Traffic mine = dispatcher.traffic();
    std::vector<int64_t> numbers;
    for (const int64_t* number : mine.Numbers()) numbers.push_back(*number);
    ep.AllReduceSum(numbers);
    if (ep.rank() != 0) return;
    for (size_t i = 0; i < numbers.size(); ++i) *sum.Numbers()[i] = numbers[i];
  });
  return sum;
}

// CheckDispatch sends 28 bytes of each row, 24 of tokens and 4 of a value for each pair, and gets 12 and 6 back, each with 4 for a pair.
TEST_P(ForwardingTest, CountsWhatTheFormulasSay) {
  const Shape& s = GetParam();
  for (const Routing& routing : Routings(s)) {
    const Counted expected = Count(s, routing);
    const Traffic traffic = TrafficOf(s, routing, /*forwards=*/true);
    EXPECT_EQ(traffic.tokens, expected.tokens);
    EXPECT_EQ(traffic.network_pairs, expected.pairs);
    EXPECT_EQ(traffic.dispatch.network_rows, expected.rows);
    EXPECT_EQ(traffic.dispatch.local_rows, expected.forwarded);
    EXPECT_EQ(traffic.dispatch.network_bytes, expected.rows * 24 + expected.network_values * 4);
    EXPECT_EQ(traffic.dispatch.local_bytes, expected.forwarded * 24 + expected.local_values * 4);
    EXPECT_EQ(traffic.combine.network_rows, 2 * expected.groups);
    EXPECT_EQ(traffic.combine.local_rows, 2 * expected.units);
    EXPECT_EQ(traffic.combine.network_bytes, expected.groups * (12 + 6) + 2 * expected.network_values * 4);
    EXPECT_EQ(traffic.combine.local_bytes, expected.units * (12 + 6) + 2 * expected.local_values * 4);
    const Traffic flat = TrafficOf(s, routing, /*forwards=*/false);
    EXPECT_EQ(flat.network_pairs, expected.pairs);
    EXPECT_EQ(flat.dispatch.network_rows, expected.pairs);
    EXPECT_EQ(flat.combine.network_rows, 2 * expected.pairs);
  }
}

// Of DeepSeek-V3's routing on 2, 4 and 8 nodes: 100,000 tokens, all from one rank, as places of sources do not matter.
TEST(ExpectedTraffic, IsWhatEvenChoicesMake) {
  const RoutingShape shape{.experts = 256, .groups = 8, .kept = 4, .slots = 8};
  const std::vector<int32_t> indices = Chosen(256, 8, 4, 8, 9, [](int) { return int64_t{100'000}; }).indices(0);
  for (const int nodes : {2, 4, 8}) {
    const ForwardMap map{.experts = 256, .groups = 8, .nodes = nodes, .locals = 8};
    double rows = 0, forwarded = 0, groups = 0;
    for (size_t p = 0; p < indices.size(); p += 8) {
      std::set<int> at_nodes, at_ranks;
      std::set<int64_t> of_groups;
      for (size_t k = 0; k < 8; ++k) {
        at_ranks.insert(map.OwnerOf(indices[p + k]));
        at_nodes.insert(map.OwnerOf(indices[p + k]) / 8);
        of_groups.insert(map.GroupOf(indices[p + k]));
      }
      rows += static_cast<double>(at_nodes.size());
      forwarded += static_cast<double>(at_ranks.size());
      groups += static_cast<double>(of_groups.size());
    }
    const double others = 1 - 1.0 / nodes;
    const ExpectedTraffic expected = Expect(shape, map);
    EXPECT_NEAR(rows * 1e-5 * others / expected.rows, 1, 0.01);
    EXPECT_NEAR(groups * 1e-5 * others / expected.groups, 1, 0.01);
    EXPECT_NEAR(forwarded * 1e-5 * 7 / 8 / expected.forwarded, 1, 0.01);
    EXPECT_EQ(expected.pairs, 8 * others);
  }
  // As published of 64 ranks on 8 nodes: 3.63 nodes a token, 3.18 of them others, 7.36 ranks; without a limit of groups 5.295 nodes.
  const ForwardMap map{.experts = 256, .groups = 8, .nodes = 8, .locals = 8};
  EXPECT_NEAR(Expect(shape, map).rows, 3.175, 0.001);
  EXPECT_NEAR(Expect(shape, map).forwarded, 7.36 * 7 / 8, 0.01);
  EXPECT_NEAR(Expect({.experts = 256, .groups = 8, .kept = 8, .slots = 8}, map).rows, 5.295 * 7 / 8, 0.001);
}

// A link that turns a bit in the first long message that one rank receives in one group: the ep group, or the n-th made of it.
class DamagedTransfer : public Transfer {
 public:
  DamagedTransfer(std::unique_ptr<Transfer> transfer, std::byte* at) : transfer_(std::move(transfer)), at_(at) {}
  absl::StatusOr<bool> Poll() override {
    JEVONS_ASSIGN_OR_RETURN(const bool done, transfer_->Poll());
    if (done && at_ != nullptr) *std::exchange(at_, nullptr) ^= std::byte{16};
    return done;
  }
  std::vector<int> MissingPeers() const override { return transfer_->MissingPeers(); }

 private:
  const std::unique_ptr<Transfer> transfer_;
  std::byte* at_;
};
class DamagingTransport : public Transport {
 public:
  DamagingTransport(std::unique_ptr<Transport> transport, int in_group, bool here)
      : transport_(std::move(transport)), in_group_(in_group), here_(here) {}
  int rank() const override { return transport_->rank(); }
  int size() const override { return transport_->size(); }
  int WorldRank(int rank) const override { return transport_->WorldRank(rank); }
  int NodeOf(int rank) const override { return transport_->NodeOf(rank); }
  std::unique_ptr<Transfer> Start(std::span<const Outgoing> sends, std::span<const Incoming> receives, int64_t tag) override {
    std::byte* at = nullptr;
    for (const Incoming& message : receives)
      if (in_group_ == 0 && here_ && message.data.size() >= kLong && at == nullptr) at = &message.data[kLong / 2];
    if (at != nullptr) here_ = false;
    return std::make_unique<DamagedTransfer>(transport_->Start(sends, receives, tag), at);
  }
  std::unique_ptr<Transport> MakeGroup(std::span<const int> members) override {
    ++made_;
    return std::make_unique<DamagingTransport>(transport_->MakeGroup(members), made_ == in_group_ ? 0 : -1, here_);
  }

 private:
  static constexpr size_t kLong = 600;  // no list is as long
  const std::unique_ptr<Transport> transport_;
  const int in_group_;
  bool here_;
  int made_ = 0;
};

// Every rank has 30 tokens for each expert: 360 bytes and more of one kind of rows to every other.
void Damage(int in_group, bool forwards, bool verify) {
  RunLoopback(
      4,
      [&](Communicator& ep) {
        const TwoHops hops(ep, 2);
        Dispatcher dispatcher(forwards ? hops.groups : EpGroups(ep, 2), {.experts = 4, .groups = 2}, {.verify = verify});
        Routing routing = OneSlot(4, [](int, int64_t) { return 60; });
        routing.groups = 2;
        CheckDispatch(ep, dispatcher, routing);
      },
      [=](std::unique_ptr<Transport> transport) {
        const bool here = transport->rank() == 1;
        return std::make_unique<DamagingTransport>(std::move(transport), in_group, here);
      });
}

TEST(VerifyDeathTest, ABitThatTurnsOnTheWayEndsTheJob) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto exits = testing::ExitedWithCode(5);
  constexpr int kUnharmed = 9;
  Damage(kUnharmed, /*forwards=*/true, /*verify=*/true);
  Damage(kUnharmed, /*forwards=*/false, /*verify=*/true);
  EXPECT_EXIT(Damage(0, false, true), exits,
              "rank 1 of 4, world.AllToAllV, .*: what came from ep rank 0 was damaged on its way: hash");
  EXPECT_EXIT(Damage(1, true, true), exits, "rank 1 of 4, ep_rail.AllToAllV, .*: what came from ep rank 3 was damaged");
  EXPECT_EXIT(Damage(2, true, true), exits, "rank 1 of 4, ep_local.AllToAllV, .*: what came from ep rank 0 was damaged");
}

TEST(ForwardingFuzz, DelaysChangeNothing) {
  const Shape s{2, 3, 16, 4};
  const std::vector<Routing> routings = Routings(s);
  for (uint32_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RunLoopback(
        6,
        [&](Communicator& ep) {
          const TwoHops hops(ep, s.nodes);
          Dispatcher dispatcher(hops.groups, {.experts = s.experts, .groups = s.groups});
          for (const Routing& routing : {routings[0], routings[4], routings[7]}) CheckDispatch(ep, dispatcher, routing);
        },
        SlowAndRandom(seed));
  }
}

}  // namespace
}  // namespace jevons
