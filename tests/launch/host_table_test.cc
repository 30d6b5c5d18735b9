// What is concluded from what hosts tell.
#include "launch/host_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace jevons {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Finding Good(const std::string& topic, const std::string& value) { return {topic, Verdict::kGood, value, ""}; }

// Hosts a, b, c, alike, whose pairs all have 1 GB/s.
HostReport Alike() {
  HostReport report;
  for (const char* name : {"a", "b", "c"}) report.hosts.push_back({name, {Good("program", "jevons 1"), Good("mpi", "4.1.4")}});
  report.clock_offsets = {0, 1e-5, -2e-5};
  for (int first = 0; first < 3; ++first)
    for (int second = first + 1; second < 3; ++second)
      report.pairs.push_back({.first = first, .second = second, .latency = 2e-5, .there = 1e9, .back = 1.1e9});
  return report;
}

const Finding& Of(const std::vector<Finding>& findings, const std::string& topic) {
  for (const Finding& f : findings)
    if (f.topic == topic) return f;
  static const Finding none{"", Verdict::kAbsent, "no such topic", ""};
  return none;
}

TEST(HostTable, HostsThatAreAlikeAreGood) {
  const auto findings = CompareHosts(Alike());
  ASSERT_EQ(findings.size(), 4u);
  for (const Finding& f : findings) EXPECT_EQ(f.verdict, Verdict::kGood) << f.topic;
  EXPECT_EQ(Of(findings, "program").value, "jevons 1");
  EXPECT_THAT(Of(findings, "clocks").value, HasSubstr("less than 1 ms"));
}

TEST(HostTable, ADifferenceNamesEachValueAndItsHosts) {
  HostReport report = Alike();
  report.hosts[1].facts[1].value = "4.1.6";
  const auto findings = CompareHosts(report);
  EXPECT_EQ(Of(findings, "program").verdict, Verdict::kGood);
  EXPECT_EQ(Of(findings, "mpi").verdict, Verdict::kBad);
  EXPECT_EQ(Of(findings, "mpi").value, "a, c: 4.1.4; b: 4.1.6");
  EXPECT_NE(Of(findings, "mpi").remedy, "");
}

TEST(HostTable, WhatIsBadEverywhereIsBadThoughHostsAgree) {
  HostReport report = Alike();
  for (HostFacts& host : report.hosts) host.facts.push_back({"/dev/shm", Verdict::kBad, "64.0 MiB", "make it larger"});
  const Finding f = Of(CompareHosts(report), "/dev/shm");
  EXPECT_EQ(f.verdict, Verdict::kBad);
  EXPECT_EQ(f.value, "64.0 MiB");
  EXPECT_EQ(f.remedy, "make it larger");
}

TEST(HostTable, OneBadHostKeepsItsRemedy) {
  HostReport report = Alike();
  for (HostFacts& host : report.hosts) host.facts.push_back(Good("output", "shared"));
  report.hosts[2].facts.back() = {"output", Verdict::kBad, "another folder", "share it"};
  const Finding f = Of(CompareHosts(report), "output");
  EXPECT_EQ(f.verdict, Verdict::kBad);
  EXPECT_EQ(f.value, "a, b: shared; c: another folder");
  EXPECT_EQ(f.remedy, "share it");
}

TEST(HostTable, AClockASecondOffIsNamed) {
  HostReport report = Alike();
  report.clock_offsets[2] = -1.5;
  const Finding f = Of(CompareHosts(report), "clocks");
  EXPECT_EQ(f.verdict, Verdict::kBad);
  EXPECT_EQ(f.value, "that of c is 1.500 s behind that of a");
  report.clock_offsets[2] = 0.5;
  EXPECT_EQ(Of(CompareHosts(report), "clocks").verdict, Verdict::kGood);
}

TEST(HostTable, TheSlowPairIsNamedByItsSlowerWay) {
  HostReport report = Alike();
  report.pairs[1].back = 0.4e9;  // from c to a
  const Finding f = Of(CompareHosts(report), "pairs");
  EXPECT_EQ(f.verdict, Verdict::kBad);
  EXPECT_EQ(f.value, "3 measured, median 1.000 GB/s; slowest a and c: 0.400 GB/s, 20 us");
  EXPECT_THAT(f.remedy, HasSubstr("these two"));
  const std::string table = PairTable(report);
  EXPECT_THAT(table, HasSubstr("a     c           20.0        1.000        0.400  slow\n"));
  EXPECT_THAT(table, HasSubstr("a     b           20.0        1.000        1.100\n"));
}

TEST(HostTable, AHostThatIsInEverySlowPairIsNamed) {
  HostReport report = Alike();
  report.hosts.push_back({"d", report.hosts[0].facts});
  report.clock_offsets.push_back(0);
  for (int rank = 0; rank < 3; ++rank)
    report.pairs.push_back({.first = rank, .second = 3, .latency = 2e-5, .there = 1e9, .back = 1e9});
  for (PairSpeed& pair : report.pairs)
    if (pair.first == 1 || pair.second == 1) pair.there = pair.first == 0 ? 0.2e9 : 0.3e9;
  report.pairs.push_back(report.pairs.back());  // the median is a fast one
  EXPECT_THAT(Of(CompareHosts(report), "pairs").remedy, HasSubstr("of b, which is in every slow pair,"));
}

TEST(HostTable, OneHostHasNoPairs) {
  HostReport report = Alike();
  report.hosts.resize(1);
  report.clock_offsets.resize(1);
  report.pairs.clear();
  EXPECT_EQ(CompareHosts(report).size(), 2u);
}

TEST(HostTable, TextsComeBackAsTheyWere) {
  HostReport report = Alike();
  report.hosts[1].facts[0] = {"program", Verdict::kBad, "a \"quoted\"\nvalue", "mend it"};
  const auto again = ParseHostReport(TextOf(report));
  ASSERT_TRUE(again.ok()) << again.status();
  ASSERT_EQ(again->hosts.size(), 3u);
  EXPECT_EQ(again->hosts[1].facts[0].value, "a \"quoted\"\nvalue");
  EXPECT_EQ(again->hosts[1].facts[0].verdict, Verdict::kBad);
  EXPECT_EQ(again->hosts[1].facts[0].remedy, "mend it");
  EXPECT_EQ(again->clock_offsets, report.clock_offsets);
  EXPECT_EQ(again->pairs[2].back, 1.1e9);
  EXPECT_EQ(TextOf(*again), TextOf(report));
  EXPECT_EQ(ParseHostFacts(TextOf(report.hosts[1]))->host, "b");
  for (const char* text : {"", "no JSON", "{}", "[1]", "{\"hosts\":[{\"host\":1}]}"}) {
    EXPECT_FALSE(ParseHostReport(text).ok()) << text;
    EXPECT_FALSE(ParseHostFacts(text).ok()) << text;
  }
}

TEST(HostTable, ReadsHostfilesOfMpirun) {
  EXPECT_THAT(*ParseHostfile("# ours\n\nnode1 slots=8\nroot@node2\tslots=8 # new\r\n  node3\nnode1 slots=2\n", "f"),
              ElementsAre(HostSlots{"node1", 10}, HostSlots{"node2", 8}, HostSlots{"node3", 1}));
  EXPECT_EQ(ExitCodeOf(ParseHostfile("node1 slots=none", "f").status()), ExitCode::kUsage);
  const auto empty = ParseHostfile("# none\n\n", "my/hosts");
  EXPECT_EQ(ExitCodeOf(empty.status()), ExitCode::kUsage);
  EXPECT_THAT(std::string(empty.status().message()), HasSubstr("my/hosts: names no host"));
}

TEST(HostTable, ReadsTheMatrixOfGpuLinks) {
  const std::string matrix =
      "\t\x1b[4mGPU0\tGPU1\tGPU2\tNIC0\tNIC1\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m\n"
      "GPU0\t X \tNV18\tNV18\tPIX\tSYS\t0-47\t0\t\tN/A\n"
      "GPU1\tNV18\t X \tNV18\tPIX\tSYS\t0-47\t0\t\tN/A\n"
      "GPU2\tNV18\tNV18\t X \tSYS\tPIX\t48-95\t1\t\tN/A\n"
      "NIC0\tPIX\tPIX\tSYS\t X \tSYS\n"
      "NIC1\tSYS\tSYS\tPIX\tSYS\t X \n\n"
      "Legend:\n\n  X    = Self\n  SYS  = Connection traversing PCIe\n\nNIC Legend:\n\n  NIC0: mlx5_0\n";
  EXPECT_EQ(TopologyText(matrix), "GPU to GPU NV18 x 6, GPU to NIC PIX x 3 SYS x 3");
  EXPECT_EQ(TopologyText(""), "");
  EXPECT_EQ(TopologyText("No devices were found\n"), "");
}

}  // namespace
}  // namespace jevons
