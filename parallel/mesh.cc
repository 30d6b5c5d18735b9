#include "parallel/mesh.h"

#include <string>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"

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
  return UsageError(absl::StrFormat("%s = %d: must divide %s; nearest: %s", field, value, of_what,
                                    NearestDivisors(whole, value)));
}

}  // namespace

absl::Status MeshShape::Validate() const {
  if (world < 1) return UsageError(absl::StrFormat("world = %d ranks: must be at least 1", world));
  JEVONS_RETURN_IF_ERROR(
      CheckDivides("parallel.pp", pp, world, absl::StrFormat("the world of %d ranks", world)));
  return CheckDivides("parallel.ep", ep, dp(),
                      absl::StrFormat("the %d data-parallel ranks (world %d / pp %d)", dp(), world, pp));
}

MeshRank RankOf(const MeshShape& shape, int world_rank) {
  const int dp_rank = world_rank % shape.dp();
  return {.pp = world_rank / shape.dp(), .dp = dp_rank, .ep = dp_rank % shape.ep, .edp = dp_rank / shape.ep};
}

Mesh::Mesh(Communicator& world, const MeshShape& shape)
    : world_(world), shape_(shape), rank_(RankOf(shape, world.rank())) {
  JEVONS_CHECK(shape.Validate().ok() && shape.world == world.size(), "mesh of %d x %d x %d over %d ranks",
               shape.world, shape.pp, shape.ep, world.size());
  dp_ = world.Split(rank_.pp, "dp");
  ep_ = world.Split(rank_.pp * shape.edp() + rank_.edp, "ep");
  edp_ = world.Split(rank_.pp * shape.ep + rank_.ep, "edp");
}

}  // namespace jevons
