#include "launch/supervise/rank_table.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "launch/supervise/journal.h"
#include "tests/support/temp_folder.h"

namespace jevons {
namespace {

RankTable Two() {
  RankState first, second;
  first.rank = 0;
  first.pid = 17;
  first.step = 5;
  first.silent = 0.5;
  second.rank = 1;
  second.pid = 18;
  second.action = "all-to-all of \xff";  // what a torn line of shared memory may say
  second.lives = false;
  second.host = 1;
  return {{"node1", "node2"}, {first, second}};
}

class RankTables : public ::testing::Test {
 protected:
  nlohmann::json Written() const {
    std::ifstream file(path_);
    return nlohmann::json::parse(file);
  }
  void Change(const nlohmann::json& json) const { std::ofstream(path_) << json; }

  const TempFolder folder_;
  const std::string path_ = folder_.path() + "/supervise.ranks";
};

TEST_F(RankTables, WhatIsWrittenIsRead) {
  EXPECT_TRUE(ReadRankTable(folder_.path()).ranks.empty()) << "there is none";
  ASSERT_TRUE(WriteRankTable(folder_.path(), Two()).ok());
  const RankTable read = ReadRankTable(folder_.path());
  EXPECT_EQ(read.hosts, (std::vector<std::string>{"node1", "node2"}));
  ASSERT_EQ(read.ranks.size(), 2u);
  EXPECT_EQ(read.ranks[0].step, 5);
  EXPECT_GE(read.ranks[0].silent, 0.5);
  EXPECT_LT(read.ranks[0].silent, 30);
  EXPECT_EQ(read.ranks[1].pid, 18);
  EXPECT_FALSE(read.ranks[1].lives);
  EXPECT_EQ(read.ranks[1].host, 1);
  EXPECT_FALSE(WriteRankTable(folder_.path() + "/none", Two()).ok());
}

// Silence goes on while nobody writes; after a minute there is no supervisor any more.
TEST_F(RankTables, AnOldOneIsNone) {
  ASSERT_TRUE(WriteRankTable(folder_.path(), Two()).ok());
  nlohmann::json json = Written();
  json["time"] = UnixSeconds() - 20;
  Change(json);
  ASSERT_EQ(ReadRankTable(folder_.path()).ranks.size(), 2u);
  EXPECT_GE(ReadRankTable(folder_.path()).ranks[0].silent, 20.5);
  json["time"] = UnixSeconds() - 100;
  Change(json);
  EXPECT_TRUE(ReadRankTable(folder_.path()).ranks.empty());
}

TEST_F(RankTables, ADamagedOneIsNone) {
  ASSERT_TRUE(WriteRankTable(folder_.path(), Two()).ok());
  const nlohmann::json whole = Written();
  for (const int host : {-1, 2}) {
    nlohmann::json json = whole;
    json["ranks"][1]["host"] = host;
    Change(json);
    EXPECT_TRUE(ReadRankTable(folder_.path()).ranks.empty()) << host;
    EXPECT_TRUE(ReadRankTable(folder_.path()).hosts.empty()) << host;
  }
  const std::string text = whole.dump();
  for (size_t size = 0; size < text.size(); size += 7) {
    std::ofstream(path_) << text.substr(0, size);
    EXPECT_TRUE(ReadRankTable(folder_.path()).ranks.empty()) << size;
  }
}

}  // namespace
}  // namespace jevons
