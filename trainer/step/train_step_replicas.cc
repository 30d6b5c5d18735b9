// Whether ranks that compute with the same weights have the same bits of them: memory that has lost one gives no other sign.
#include <algorithm>
#include <bit>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "parallel/comm/heartbeat.h"
#include "parallel/comm/places.h"
#include "parallel/hash.h"
#include "trainer/step/train_step.h"

namespace jevons {
namespace {

// What the ranks of one group hold in common, in the same order on all of them.
struct Replicated {
  Communicator* ranks;
  std::vector<std::string> names;
  std::vector<uint64_t> hashes;
};

class Replicas {
 public:
  Replicas(const Partition& partition, Mesh& mesh) : partition_(partition), mesh_(mesh) {}

  void Add(bool expert, int layer, std::string name, uint64_t hash) {
    const std::vector<int> holders = partition_.HoldersOf(layer);
    Communicator* ranks = expert ? &mesh_.edp_of(holders) : &mesh_.dp_of(holders);
    if (ranks->size() == 1) return;
    auto group = std::find_if(groups_.begin(), groups_.end(), [&](const Replicated& other) { return other.ranks == ranks; });
    if (group == groups_.end()) group = groups_.insert(groups_.end(), {ranks, {}, {}});
    group->names.push_back(std::move(name));
    group->hashes.push_back(hash);
  }
  const std::vector<Replicated>& groups() const { return groups_; }

 private:
  const Partition& partition_;
  Mesh& mesh_;
  std::vector<Replicated> groups_;
};

// The first entry of which some ranks have other bits; none: past the last.
size_t FirstDifference(const Replicated& group) {
  std::vector<int64_t> extremes;  // the greatest, and minus the least
  for (const uint64_t hash : group.hashes) {
    const int64_t bits = std::bit_cast<int64_t>(hash);
    extremes.insert(extremes.end(), {bits, ~bits});
  }
  group.ranks->AllReduceMax(extremes);
  size_t i = 0;
  while (i < group.hashes.size() && extremes[2 * i] == ~extremes[2 * i + 1]) ++i;
  return i;
}

absl::Status Difference(const Replicated& group, size_t entry, int world_rank) {
  std::vector<uint64_t> all(static_cast<size_t>(group.ranks->size()));
  group.ranks->AllGather(std::as_bytes(std::span(&group.hashes[entry], 1)), std::as_writable_bytes(std::span(all)));
  const std::vector<std::string> places = PlacesOf(*group.ranks, world_rank);
  std::map<uint64_t, std::vector<std::string>> holders;
  for (size_t r = 0; r < all.size(); ++r) holders[all[r]].push_back(places[r]);
  const auto most = std::max_element(holders.begin(), holders.end(),
                                     [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  std::vector<std::string> others;
  for (const auto& [hash, ranks] : holders)
    if (hash != most->first) others.insert(others.end(), ranks.begin(), ranks.end());
  const bool majority = 2 * most->second.size() > all.size();
  if (majority && group.hashes[entry] != most->first) HeartbeatFault();
  return PeerLostError(absl::StrFormat("%s: %s ha%s other bits than %s; %s", group.names[entry], absl::StrJoin(others, ", "),
                                       others.size() == 1 ? "s" : "ve", absl::StrJoin(most->second, ", "),
                                       majority
                                           ? "memory or processor there have lost some: start without that machine"
                                           : "which of them lost some cannot be told: examine the memory of these machines"));
}

}  // namespace

std::vector<uint64_t> TrainStep::StateHashes() const {
  std::vector<uint64_t> hashes;
  for (const StateSlice& slice : State())
    hashes.push_back(HashOf(absl::StartsWith(slice.name, "ema/") ? Stream() : stream_.get(), slice.data));
  return hashes;
}

absl::Status TrainStep::CompareReplicas() {
  const WeightStore& weights = *weights_;
  const Stream& stream = stream_.get();
  Replicas replicas(partition_, mesh_);
  for (size_t p = 0; p < weights.specs().size(); ++p) {
    if (!weights.holds(p)) continue;
    const ParamSpec& spec = weights.specs()[p];
    for (int64_t e = 0; e < (spec.expert ? weights.experts().size() : 1); ++e) {
      uint64_t hash = 0;
      if (!weights.passing(p)) hash = HashOf(stream, spec.expert ? weights.value(p).Index(e) : weights.value(p));
      for (const Tensor& codes : binding_->CodesOf(p, e)) hash = HashOf(stream, codes, hash);
      replicas.Add(spec.expert, spec.layer,
                   absl::StrCat(spec.name, spec.expert ? absl::StrCat(", expert ", weights.experts().begin + e) : ""), hash);
    }
  }
  for (size_t i = 0; i < weights.bias_names().size(); ++i)
    if (const Tensor& bias = weights.bias(i); bias)
      replicas.Add(false, GateBiasLayer(config_.model(), i), weights.bias_names()[i], HashOf(stream, bias));
  absl::Status status;
  for (const Replicated& group : replicas.groups())
    if (const size_t entry = FirstDifference(group); entry < group.names.size())
      status.Update(Difference(group, entry, mesh_.world().rank()));
  return status;
}

}  // namespace jevons
