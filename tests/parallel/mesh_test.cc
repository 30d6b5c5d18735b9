#include "parallel/mesh.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/loopback.h"

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
  EXPECT_THAT(
      message({.world = 4, .pp = 1, .ep = 3}),
      AllOf(HasSubstr("parallel.ep = 3"), HasSubstr("4 data-parallel ranks"), HasSubstr("nearest: 2 or 4")));
  EXPECT_THAT(message({.world = 4, .pp = 3, .ep = 1}),
              AllOf(HasSubstr("parallel.pp = 3"), HasSubstr("nearest: 2 or 4")));
  EXPECT_THAT(message({.world = 4, .pp = 2, .ep = 4}),
              AllOf(HasSubstr("parallel.ep = 4"), HasSubstr("nearest: 2")));
  EXPECT_THAT(message({.world = 4, .pp = 1, .ep = 0}),
              AllOf(HasSubstr("parallel.ep = 0"), HasSubstr("nearest: 1")));
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
    std::vector<int> dp, ep, edp;
    for (int r = 0; r < 8; ++r) {
      const MeshRank other = RankOf(shape, r);
      if (other.pp != own.pp) continue;
      dp.push_back(r);
      if (other.edp == own.edp) ep.push_back(r);
      if (other.ep == own.ep) edp.push_back(r);
    }
    EXPECT_EQ(MembersOf(mesh.dp(), world.rank()), dp);
    EXPECT_EQ(MembersOf(mesh.ep(), world.rank()), ep);
    EXPECT_EQ(MembersOf(mesh.edp(), world.rank()), edp);
    EXPECT_EQ(mesh.dp().rank(), own.dp);
    EXPECT_EQ(mesh.ep().rank(), own.ep);
    EXPECT_EQ(mesh.edp().rank(), own.edp);
    EXPECT_EQ(mesh.ep().name(), "ep");
  });
}

}  // namespace
}  // namespace jevons
