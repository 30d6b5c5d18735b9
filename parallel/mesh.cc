#include "parallel/mesh.h"

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/base/check.h"
#include "parallel/comm/pretend.h"

namespace jevons {
namespace {

// "2", or "2 or 4": the divisors of `whole` next to `value` (whole > 0).
std::string NearestDivisors(int whole, int value) {
  int below = 0, above = 0;
  for (int divisor = 1; divisor <= whole; ++divisor) {
    if (whole % divisor != 0) continue;
    if (divisor < value) below = divisor;
    if (divisor > value && above == 0) above = divisor;
  }
  if (below == 0) return absl::StrFormat("%d", above);
  if (above == 0) return absl::StrFormat("%d", below);
  return absl::StrFormat("%d or %d", below, above);
}

absl::Status CheckDivides(const char* field, int value, int whole, const std::string& of_what) {
  if (value >= 1 && whole % value == 0) return absl::OkStatus();
  return UsageError(
      absl::StrFormat("%s = %d: must divide %s; nearest: %s", field, value, of_what, NearestDivisors(whole, value)));
}

}  // namespace

absl::Status MeshShape::Validate() const {
  if (world < 1) return UsageError(absl::StrFormat("world = %d ranks: must be at least 1", world));
  JEVONS_RETURN_IF_ERROR(CheckDivides("parallel.pp", pp, world, absl::StrFormat("the world of %d ranks", world)));
  JEVONS_RETURN_IF_ERROR(
      CheckDivides("parallel.ep", ep, dp(), absl::StrFormat("the %d data-parallel ranks (world %d / pp %d)", dp(), world, pp)));
  return CheckDivides("parallel.ep_nodes", ep_nodes, ep, absl::StrFormat("parallel.ep = %d", ep));
}

int NodesOf(const Communicator& world, const MeshShape& shape) {
  int nodes = 0;
  for (int first = 0; first < shape.world; first += shape.ep) {
    std::vector<int> firsts = {0};  // of each run of ranks on one machine
    std::set<int> seen = {world.NodeOf(first)};
    for (int e = 1; e < shape.ep; ++e) {
      if (world.NodeOf(first + e) == world.NodeOf(first + e - 1)) continue;
      if (!seen.insert(world.NodeOf(first + e)).second) return 0;
      firsts.push_back(e);
    }
    const auto here = static_cast<int>(firsts.size());
    for (int n = 0; n < here; ++n)
      if (firsts[static_cast<size_t>(n)] * here != n * shape.ep) return 0;
    if (first > 0 && here != nodes) return 0;
    nodes = here;
  }
  return nodes;
}

MeshRank RankOf(const MeshShape& shape, int world_rank) {
  const int dp_rank = world_rank % shape.dp();
  return {.pp = world_rank / shape.dp(), .dp = dp_rank, .ep = dp_rank % shape.ep, .edp = dp_rank / shape.ep};
}

Mesh::Mesh(Communicator& world, const MeshShape& shape) : Mesh(nullptr, &world, shape) {}

Mesh::Mesh(const MeshShape& shape, int world_rank) : Mesh(Pretend(world_rank, shape.world, "world"), nullptr, shape) {}

Mesh::Mesh(std::unique_ptr<Communicator> pretended, Communicator* world, const MeshShape& shape)
    : pretended_(std::move(pretended)),
      world_(world != nullptr ? *world : *pretended_),
      shape_(shape),
      rank_(RankOf(shape, world_.rank())) {
  JEVONS_CHECK(shape.Validate().ok() && shape.world == world_.size(), "mesh of %d x %d x %d over %d ranks", shape.world, shape.pp,
               shape.ep, world_.size());
  pp_ = Group(rank_.dp, "pp", rank_.pp, shape.pp);
  dp_ = Group(rank_.pp, "dp", rank_.dp, shape.dp());
  ep_ = Group(rank_.pp * shape.edp() + rank_.edp, "ep", rank_.ep, shape.ep);
  edp_ = Group(rank_.pp * shape.ep + rank_.ep, "edp", rank_.edp, shape.edp());
  if (!shape.forwards) return;
  const int locals = shape.ep / shape.ep_nodes, node = rank_.ep / locals, local = rank_.ep % locals;
  const int first = (rank_.pp * shape.edp() + rank_.edp) * shape.ep;  // of the group, in the world
  ep_rail_ = Group(first + local, "ep_rail", node, shape.ep_nodes);
  ep_local_ = Group(first + node * locals, "ep_local", local, locals);
}

std::unique_ptr<Communicator> Mesh::Group(int color, const std::string& name, int rank, int size) {
  auto group = pretended_ != nullptr ? Pretend(rank, size, name) : world_.Split(color, name);
  JEVONS_CHECK(group->rank() == rank && group->size() == size, "%s: rank %d of %d instead of %d of %d", name.c_str(),
               group->rank(), group->size(), rank, size);
  return group;
}

void Mesh::MakeHolderGroups(const std::vector<std::vector<int>>& holder_sets) {
  for (const std::vector<int>& holders : holder_sets) {
    JEVONS_CHECK(!holders.empty() && holders.front() >= 0 && holders.back() < shape_.pp &&
                     std::adjacent_find(holders.begin(), holders.end(), std::greater_equal<>()) == holders.end(),
                 "holders %s of %d pp ranks", absl::StrJoin(holders, ", ").c_str(), shape_.pp);
    if (holders.size() == 1 || holder_groups_.count(holders) > 0) continue;
    const bool holds = std::binary_search(holders.begin(), holders.end(), rank_.pp);
    const auto place = static_cast<int>(std::lower_bound(holders.begin(), holders.end(), rank_.pp) - holders.begin());
    // Whoever holds nothing gets a group of its own, which costs no transport anything, and drops it.
    const auto group = [&](int color, const char* axis, int rank, int ranks) {
      const std::string name = absl::StrCat(axis, "{", absl::StrJoin(holders, ","), "}");
      auto made = holds ? Group(color, name, place * ranks + rank, static_cast<int>(holders.size()) * ranks)
                        : Group(shape_.ep + world_.rank(), name, 0, 1);
      return holds ? std::move(made) : nullptr;
    };
    HolderGroups& groups = holder_groups_[holders];
    groups.dp = group(0, "dp", rank_.dp, shape_.dp());
    groups.edp = group(rank_.ep, "edp", rank_.edp, shape_.edp());
  }
}

Mesh::HolderGroups& Mesh::GroupsOf(std::span<const int> holders) {
  const auto found = holder_groups_.find({holders.begin(), holders.end()});
  JEVONS_CHECK(found != holder_groups_.end() && found->second.dp != nullptr, "pp rank %d has no group of holders %s", rank_.pp,
               absl::StrJoin(holders, ", ").c_str());
  return found->second;
}

Communicator& Mesh::dp_of(std::span<const int> holders) { return IsOwn(holders) ? *dp_ : *GroupsOf(holders).dp; }

Communicator& Mesh::edp_of(std::span<const int> holders) { return IsOwn(holders) ? *edp_ : *GroupsOf(holders).edp; }

}  // namespace jevons
