// Forwarded dispatch as a user meets it: the same run, what it says of its rows, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/train_cli.h"

namespace jevons {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class DispatchCli : public TrainCli {
 protected:
  static std::string HashOf(const std::string& run) { return Jevons({"inspect", folder_ / run, "--hash"}).out; }
};

TEST_F(DispatchCli, ForwardedTokensGiveTheSameRun) {
  ASSERT_EQ(Train(1, 1, "alone", {"train.steps=4"}).exit_code, 0);
  const ProcessResult flat = Train(4, 4, "flat", {"train.steps=4"});
  ASSERT_EQ(flat.exit_code, 0) << flat.err;
  EXPECT_THAT(flat.out, Not(HasSubstr("between nodes"))) << "all ranks are on one";
  const ProcessResult forwarded =
      Train(4, 4, "forwarded", {"train.steps=4", "parallel.ep_nodes=2", "parallel.verify_transfers=true"});
  ASSERT_EQ(forwarded.exit_code, 0) << forwarded.err;
  EXPECT_THAT(HashOf("alone"), Not(StartsWith("error")));
  EXPECT_EQ(HashOf("flat"), HashOf("alone"));
  EXPECT_EQ(HashOf("forwarded"), HashOf("alone"));
  const std::string rows =
      "between nodes +[0-9.]+ rows a token over the network and [0-9.]+ saved, [0-9.]+ inside nodes; back [0-9.]+ and [0-9.]+";
  EXPECT_THAT(forwarded.out, ContainsRegex(rows + "; if choices were even, 0.8[0-9] over the network"));
  EXPECT_THAT(Jevons({"inspect", folder_ / "forwarded"}).out, ContainsRegex(rows));
}

TEST_F(DispatchCli, RefusesNodesThatCannotForward) {
  const auto refusal = [](const std::vector<std::string>& overrides) {
    const ProcessResult result = Train(4, 4, "refused", overrides);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_FALSE(fs::exists(folder_ / "refused"));
    return result.err;
  };
  EXPECT_THAT(refusal({"parallel.ep_nodes=3"}),
              StartsWith("error: parallel.ep_nodes = 3: must divide parallel.ep = 4; nearest: 2 or 4"));
  EXPECT_THAT(
      refusal({"parallel.ep_nodes=4", "parallel.dispatch=FORWARDING", "model.moe.groups=2", "model.moe.kept_groups=1"}),
      StartsWith("error: parallel.dispatch = FORWARDING: the 4 nodes of an ep group have to divide model.moe.groups = 2"));
}

}  // namespace
}  // namespace jevons
