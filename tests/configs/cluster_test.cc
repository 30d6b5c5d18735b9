#include "configs/cluster.h"

#include <gmock/gmock.h>

#include <filesystem>

#include "absl/strings/str_replace.h"
#include "tests/support/paths.h"

namespace jevons {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kGood[] =
    "name: 'X' gpus: 16 gpu { peak_bf16_tflops: 989 bf16_tflops: 780 fp8_tflops: 1370 attention_forward_tflops: 697 "
    "attention_backward_tflops: 473 hbm_gbs: 3350 hbm_gib: 80 sms: 132 } node { gpus: 8 nvlink_gbs: 450 } network { gbs: 50 } "
    "hour { dollars_per_gpu: 2 watts_per_gpu: 1300 } ";

// What is wrong after `from` has become `to`.
std::string Problem(const std::string& from, const std::string& to) {
  return std::string(ParseCluster(absl::StrReplaceAll(kGood, {{from, to}}), "c.textproto").status().message());
}

TEST(Cluster, EveryTableInTheTreeIsGood) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(SourcePath("configs/clusters"))) {
    const auto cluster = LoadCluster(entry.path());
    EXPECT_TRUE(cluster.ok()) << cluster.status();
    ++files;
  }
  EXPECT_GE(files, 4);
}

TEST(Cluster, BadValuesNameFileFieldValueAndTheNearest) {
  EXPECT_EQ(Problem("name", "name"), "");
  EXPECT_THAT(Problem("hbm_gib: 80", "hbm_gib: -1"),
              HasSubstr("c.textproto: gpu.hbm_gib = -1: must be from 0.1 to 100000; nearest legal: 0.1"));
  EXPECT_THAT(Problem(" bf16_tflops: 780", " bf16_tflops: nan"), HasSubstr("gpu.bf16_tflops = nan"));
  EXPECT_THAT(Problem("gpus: 16", "gpus: 12"), HasSubstr("gpus = 12: must be whole nodes of node.gpus = 8; nearest legal: 16"));
  EXPECT_THAT(Problem("gbs: 50", "gbs: 0"),
              AllOf(HasSubstr("network.gbs = 0: must be positive: 16 GPUs in nodes of 8"), HasSubstr("nearest legal")));
  EXPECT_THAT(Problem("sms: 132", "sms: 132 communication_sms: 132"),
              HasSubstr("must be less than gpu.sms = 132; nearest legal: 131"));
  EXPECT_THAT(Problem("sms: 132", "sms: 132 reserved_gib: 90"),
              HasSubstr("gpu.reserved_gib = 90: must be less than gpu.hbm_gib = 80"));
  EXPECT_THAT(Problem("hbm_gib: 80", "hbm: 1"), HasSubstr("has no field \"hbm\""));
  EXPECT_THAT(std::string(ParseCluster("", "c.textproto").status().message()), HasSubstr("gpu.sms = not set"));
  EXPECT_THAT(std::string(LoadCluster("/no/such").status().message()), HasSubstr("/no/such: cannot open"));
}

TEST(Cluster, OneNodeNeedsNoNetwork) {
  EXPECT_EQ(Problem("gpus: 16", "gpus: 8"), "");
  EXPECT_EQ(Problem("network { gbs: 50 } ", ""),
            "c.textproto: network.gbs = 0: must be positive: 16 GPUs in nodes of 8 need a link between nodes; "
            "nearest legal: 50, or gpus: 8 without one");
}

}  // namespace
}  // namespace jevons
