// Ranks that were not started as one run: found before they do anything, and told alike by all.
#include "trainer/run/same_run.h"

#include <gmock/gmock.h>

#include <functional>
#include <string>
#include <vector>

#include "kernels/base/machine.h"
#include "parallel/comm/loopback.h"
#include "tests/support/tiny_model.h"

namespace jevons {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

RankIdentity Identity() {
  RankIdentity identity{.config = {}, .facts = {{"program", "jevons 1"}, {"tokenizer hash", "aa"}}};
  *identity.config.mutable_model() = TinyModel();
  identity.config.mutable_data()->set_path("/data");
  identity.config.mutable_optimizer()->mutable_learning_rate()->set_peak(1e-3);
  return identity;
}

// The verdict of four ranks, each with what `change` makes of the identity; it must be everybody's.
absl::Status Verdict(const std::function<absl::StatusOr<RankIdentity>(int rank, RankIdentity identity)>& change) {
  std::vector<absl::Status> verdicts(4);
  RunLoopback(4, [&](Communicator& world) {
    verdicts[static_cast<size_t>(world.rank())] = AgreeOnRun(world, change(world.rank(), Identity()));
  });
  for (const absl::Status& verdict : verdicts) EXPECT_EQ(verdict, verdicts[0]);
  return verdicts[0];
}

TEST(SameRun, WhereThingsLieAndThreadsMayDiffer) {
  const absl::Status verdict = Verdict([](int rank, RankIdentity identity) {
    identity.config.mutable_data()->set_path("/local" + std::to_string(rank));
    identity.config.mutable_data()->set_tokenizer("/tokenizer" + std::to_string(rank));
    identity.config.mutable_parallel()->set_threads(rank);
    return identity;
  });
  EXPECT_TRUE(verdict.ok()) << verdict;
}

TEST(SameRun, AnotherConfigNamesRankHostAndField) {
  const absl::Status verdict = Verdict([](int rank, RankIdentity identity) {
    if (rank >= 2) identity.config.mutable_optimizer()->mutable_learning_rate()->set_peak(0.1);
    return identity;
  });
  EXPECT_EQ(ExitCodeOf(verdict), ExitCode::kUsage);
  EXPECT_THAT(std::string(verdict.message()), StartsWith("rank 2 (" + HostName() + ") has another config than rank 0: "));
  EXPECT_THAT(std::string(verdict.message()), HasSubstr("optimizer.learning_rate.peak: 0.001 -> 0.1"));
}

TEST(SameRun, AnotherFactIsNamed) {
  const absl::Status verdict = Verdict([](int rank, RankIdentity identity) {
    if (rank == 3) identity.facts["program"] = "jevons 2";
    return identity;
  });
  EXPECT_EQ(ExitCodeOf(verdict), ExitCode::kUsage);
  EXPECT_THAT(std::string(verdict.message()),
              StartsWith("rank 3 (" + HostName() + ") has another program than rank 0: \"jevons 2\", not \"jevons 1\""));
}

// A rank without a config says so to all; what all have in common is told once, without a place.
TEST(SameRun, ErrorsReachAllRanks) {
  const absl::Status one = Verdict([](int rank, RankIdentity identity) -> absl::StatusOr<RankIdentity> {
    if (rank == 1) return IntegrityError("data/tokenizer.json: cannot open");
    return identity;
  });
  EXPECT_EQ(ExitCodeOf(one), ExitCode::kIntegrity);
  EXPECT_EQ(one.message(), "rank 1 (" + HostName() + "): data/tokenizer.json: cannot open");
  const absl::Status all =
      Verdict([](int, const RankIdentity&) -> absl::StatusOr<RankIdentity> { return UsageError("model.layers = 0"); });
  EXPECT_EQ(ExitCodeOf(all), ExitCode::kUsage);
  EXPECT_EQ(all.message(), "model.layers = 0");
}

}  // namespace
}  // namespace jevons
