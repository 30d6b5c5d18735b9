#include "parallel/mesh.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/loopback.h"
#include "tests/support/watched_group.h"

namespace jevons {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(MeshShapeTest, RanksOfAGroupOfExpertsAreNeighbours) {
  const MeshShape shape{.world = 12, .pp = 2, .ep = 3};
  EXPECT_EQ(shape.dp(), 6);
  EXPECT_EQ(shape.edp(), 2);
  for (int r = 0; r < 12; ++r) {
    const MeshRank rank = RankOf(shape, r);
    EXPECT_EQ(rank.pp * 6 + rank.dp, r);
    EXPECT_EQ(rank.edp * 3 + rank.ep, rank.dp);
    EXPECT_LT(rank.ep, 3);
  }
}

TEST(MeshShapeTest, ValidateNamesFieldValueRuleAndRemedy) {
  EXPECT_TRUE((MeshShape{.world = 6, .pp = 1, .ep = 3}.Validate().ok()));
  const auto message = [](const MeshShape& shape) {
    const absl::Status status = shape.Validate();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage);
    return std::string(status.message());
  };
  EXPECT_THAT(message({.world = 4, .pp = 1, .ep = 3}),
              AllOf(HasSubstr("parallel.ep = 3"), HasSubstr("4 data-parallel ranks"), HasSubstr("nearest: 2 or 4")));
  EXPECT_THAT(message({.world = 4, .pp = 3, .ep = 1}), AllOf(HasSubstr("parallel.pp = 3"), HasSubstr("nearest: 2 or 4")));
  EXPECT_THAT(message({.world = 4, .pp = 2, .ep = 4}), AllOf(HasSubstr("parallel.ep = 4"), HasSubstr("nearest: 2")));
  EXPECT_THAT(message({.world = 4, .pp = 1, .ep = 0}), AllOf(HasSubstr("parallel.ep = 0"), HasSubstr("nearest: 1")));
  EXPECT_THAT(message({.world = 4, .pp = -2, .ep = 1}), HasSubstr("parallel.pp = -2"));
  EXPECT_THAT(message({.world = 0, .pp = 1, .ep = 1}), HasSubstr("world = 0"));
}

// The world ranks of a group, as its members see them.
std::vector<int> MembersOf(Communicator& group, int world_rank) {
  std::vector<int> members(group.size());
  group.AllGather(std::as_bytes(std::span(&world_rank, 1)), std::as_writable_bytes(std::span(members)));
  return members;
}

TEST(MeshTest, GroupsHoldTheRanksThatShareTheOtherAxes) {
  const MeshShape shape{.world = 8, .pp = 2, .ep = 2};
  RunLoopback(8, [&](Communicator& world) {
    Mesh mesh(world, shape);
    const MeshRank own = mesh.rank();
    std::vector<int> pp, dp, ep, edp;
    for (int r = 0; r < 8; ++r) {
      const MeshRank other = RankOf(shape, r);
      if (other.dp == own.dp) pp.push_back(r);
      if (other.pp != own.pp) continue;
      dp.push_back(r);
      if (other.edp == own.edp) ep.push_back(r);
      if (other.ep == own.ep) edp.push_back(r);
    }
    EXPECT_EQ(MembersOf(mesh.pp(), world.rank()), pp);
    EXPECT_EQ(MembersOf(mesh.dp(), world.rank()), dp);
    EXPECT_EQ(MembersOf(mesh.ep(), world.rank()), ep);
    EXPECT_EQ(MembersOf(mesh.edp(), world.rank()), edp);
    EXPECT_EQ(mesh.pp().rank(), own.pp);
    EXPECT_EQ(mesh.pp().name(), "pp");
    EXPECT_EQ(mesh.dp().rank(), own.dp);
    EXPECT_EQ(mesh.ep().rank(), own.ep);
    EXPECT_EQ(mesh.edp().rank(), own.edp);
    EXPECT_EQ(mesh.ep().name(), "ep");
  });
}

TEST(MeshTest, AGroupOfExpertsForwardsAlongRailsAndInsideNodes) {
  const MeshShape shape{.world = 16, .pp = 2, .ep = 4, .ep_nodes = 2, .forwards = true};
  RunLoopback(16, [&](Communicator& world) {
    Mesh mesh(world, shape);
    const int first = world.rank() / 4 * 4, place = world.rank() % 2, node = world.rank() % 4 / 2;
    EXPECT_EQ(MembersOf(mesh.ep_rail(), world.rank()), (std::vector{first + place, first + 2 + place}));
    EXPECT_EQ(MembersOf(mesh.ep_local(), world.rank()), (std::vector{first + 2 * node, first + 2 * node + 1}));
    const Mesh pretended(shape, world.rank());
    EXPECT_EQ(mesh.ep_rail().rank(), node);
    EXPECT_EQ(mesh.ep_local().rank(), place);
  });
}

// The ranks of a world of which `machines` says where each is.
class OnMachines : public WatchedGroup {
 public:
  OnMachines(Communicator& group, std::vector<int> machines) : WatchedGroup(group), machines_(std::move(machines)) {}
  int NodeOf(int rank) const override { return machines_[static_cast<size_t>(rank)]; }
  int size() const override { return static_cast<int>(machines_.size()); }

 private:
  const std::vector<int> machines_;
};

TEST(MeshTest, CountsTheNodesOfItsGroupsOfExperts) {
  RunLoopback(1, [](Communicator& one) {
    const auto nodes = [&](const std::vector<int>& machines, int ep) {
      const OnMachines world(one, machines);
      return NodesOf(world, {.world = world.size(), .pp = 1, .ep = ep});
    };
    EXPECT_EQ(nodes({0, 0, 0, 0}, 4), 1);
    EXPECT_EQ(nodes({0, 0, 4, 4}, 4), 2);
    EXPECT_EQ(nodes({0, 1, 2, 3}, 4), 4);
    EXPECT_EQ(nodes({0, 0, 1, 1, 2, 2}, 2), 1);
    EXPECT_EQ(nodes({0, 0, 1, 1, 2, 2}, 6), 3);
    EXPECT_EQ(nodes({0, 1, 0, 1}, 4), 0) << "round robin";
    EXPECT_EQ(nodes({0, 0, 0, 1}, 4), 0);
    EXPECT_EQ(nodes({0, 0, 1, 1, 1, 1}, 3), 0) << "one group on one machine, one on two";
  });
}

TEST(MeshTest, GroupsOfSeveralHoldersSpanTheirDataParallelRanks) {
  const MeshShape shape{.world = 16, .pp = 4, .ep = 2};
  const std::vector<std::vector<int>> sets = {{0, 3}, {1, 2}, {0, 1, 2, 3}, {2}, {0, 3}};
  RunLoopback(16, [&](Communicator& world) {
    Mesh mesh(world, shape);
    mesh.MakeHolderGroups(sets);
    mesh.MakeHolderGroups({{1, 3}, {1, 2}});  // later, and once more
    const MeshRank own = mesh.rank();
    for (const std::vector<int>& holders : {sets[0], sets[1], sets[2], std::vector<int>{1, 3}}) {
      if (std::count(holders.begin(), holders.end(), own.pp) == 0) continue;
      std::vector<int> dp, edp;
      for (int r = 0; r < 16; ++r) {
        const MeshRank other = RankOf(shape, r);
        if (std::count(holders.begin(), holders.end(), other.pp) == 0) continue;
        dp.push_back(r);
        if (other.ep == own.ep) edp.push_back(r);
      }
      EXPECT_EQ(MembersOf(mesh.dp_of(holders), world.rank()), dp);
      EXPECT_EQ(MembersOf(mesh.edp_of(holders), world.rank()), edp);
    }
    EXPECT_EQ(&mesh.dp_of(std::vector{own.pp}), &mesh.dp());
    EXPECT_EQ(&mesh.edp_of(std::vector{own.pp}), &mesh.edp());
    EXPECT_EQ(mesh.dp_of(sets[2]).name(), "dp{0,1,2,3}");
  });
}

TEST(MeshDeathTest, GroupsOfHoldersAreAskedForByHoldersAfterTheyWereMade) {
  const auto ask = [](const std::vector<int>& made, const std::vector<int>& asked) {
    RunLoopback(3, [&](Communicator& world) {
      Mesh mesh(world, {.world = 3, .pp = 3, .ep = 1});
      mesh.MakeHolderGroups({made});
      if (world.rank() == 2) mesh.dp_of(asked);
      world.Barrier();
    });
  };
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(ask({0, 1}, {0, 1}), "pp rank 2 has no group of holders 0, 1");
  EXPECT_DEATH(ask({0, 2}, {1, 2}), "pp rank 2 has no group of holders 1, 2");
  EXPECT_DEATH(ask({2, 0}, {0, 2}), "holders 2, 0 of 3 pp ranks");
  EXPECT_DEATH(ask({0, 3}, {0, 2}), "holders 0, 3 of 3 pp ranks");
}

}  // namespace
}  // namespace jevons
