#include "trainer/run/same_run.h"

#include <cstring>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "absl/strings/str_format.h"
#include "configs/differences.h"
#include "configs/load.h"
#include "kernels/base/machine.h"
#include "kernels/ops/gemm.h"
#include "trainer/checkpoint/agreement.h"

namespace jevons {
namespace {

using Facts = std::map<std::string, std::string>;

constexpr char kRemedy[] = "; start all ranks with the same program, config and data, on machines of one kind";

// Rank 0's text, on all ranks.
std::string OfFirstRank(Communicator& world, std::string text) {
  auto size = static_cast<int64_t>(text.size());
  world.Broadcast(std::as_writable_bytes(std::span(&size, 1)), 0);
  text.resize(static_cast<size_t>(size));
  world.Broadcast(std::as_writable_bytes(std::span(text)), 0);
  return text;
}

bool OnAllRanks(Communicator& world, bool mine) {
  int64_t missing = mine ? 0 : 1;
  world.AllReduceMax({&missing, 1});
  return missing == 0;
}

std::string Place(const Communicator& world) { return absl::StrFormat("rank %d (%s)", world.rank(), HostName()); }

// One error for all where all say the same, a bad field for instance; else the lowest failing rank's, with its place.
absl::Status AgreeOnError(Communicator& world, const absl::Status& mine) {
  const std::string text = absl::StrFormat("%d %s", static_cast<int>(mine.code()), std::string(mine.message()));
  if (OnAllRanks(world, OfFirstRank(world, text) == text)) return mine;
  return AgreeOnStatus(world, mine.ok() ? mine : Annotate(mine, Place(world)));
}

std::string ComparableConfig(RunConfig config) {
  config.mutable_parallel()->clear_threads();
  for (DatasetConfig& dataset : *config.mutable_data()->mutable_mixture()) dataset.clear_prefix();
  for (StageConfig& stage : *config.mutable_train()->mutable_stage())
    for (DatasetConfig& dataset : *stage.mutable_mixture()) dataset.clear_prefix();
  config.mutable_data()->clear_path();
  config.mutable_data()->clear_tokenizer();
  return ResolvedText(config);
}

// A text that programs of other versions read too.
std::string TextOf(const RankIdentity& identity) {
  const nlohmann::json json = {{"facts", identity.facts}, {"config", ComparableConfig(identity.config)}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

absl::Status Compare(const std::string& first, const std::string& mine, const Communicator& world) {
  if (first == mine) return absl::OkStatus();
  const auto theirs = nlohmann::json::parse(first), ours = nlohmann::json::parse(mine);
  const auto their_facts = theirs.at("facts").get<Facts>(), our_facts = ours.at("facts").get<Facts>();
  for (const auto& [name, value] : our_facts) {
    const auto other = their_facts.find(name);
    const std::string before = other == their_facts.end() ? "" : other->second;
    if (before != value)
      return UsageError(
          absl::StrFormat("%s has another %s than rank 0: \"%s\", not \"%s\"%s", Place(world), name, value, before, kRemedy));
  }
  JEVONS_ASSIGN_OR_RETURN(const RunConfig before, ParseRunConfig(theirs.at("config").get<std::string>(), "rank 0's config", {}));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig now, ParseRunConfig(ours.at("config").get<std::string>(), "this rank's config", {}));
  return UsageError(absl::StrFormat("%s has another config than rank 0: %s (rank 0 -> this rank)%s", Place(world),
                                    Differences(before, now), kRemedy));
}

}  // namespace

absl::Status AgreeOnRun(Communicator& world, const absl::StatusOr<RankIdentity>& mine) {
  if (world.size() == 1) return mine.status();
  JEVONS_RETURN_IF_ERROR(AgreeOnError(world, mine.status()));
  RankIdentity identity = *mine;
  for (const DType dtype : {DType::kF32, DType::kBF16})
    identity.facts[absl::StrFormat("implementation of %s products", NameOf(dtype))] = GemmImplementation(dtype);
  const std::string text = TextOf(identity);
  return AgreeOnStatus(world, Compare(OfFirstRank(world, text), text, world));
}

absl::Status AgreeOnBytes(Communicator& world, const std::string& name, const std::string& mine) {
  const bool same = OfFirstRank(world, mine) == mine;
  return AgreeOnStatus(
      world,
      same ? absl::OkStatus() : UsageError(absl::StrFormat("%s: %s not the same as on rank 0%s", Place(world), name, kRemedy)));
}

}  // namespace jevons
