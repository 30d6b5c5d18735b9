#include "launch/supervise/rank_table.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "launch/supervise/agent_messages.h"
#include "launch/supervise/journal.h"
#include "trainer/files/file_system.h"

namespace jevons {
namespace {

using Json = nlohmann::json;

// Seconds without a new one, after which there is no supervisor any more; caches of shared folders hold old ones.
constexpr double kForgotten = 60;

std::string PathOf(const std::string& run) { return run + "/supervise.ranks"; }

RankTable TableOf(const Json& json) {
  RankTable table;
  json.at("hosts").get_to(table.hosts);
  const double age = std::max(0.0, UnixSeconds() - json.at("time").get<double>());
  if (age > kForgotten) return {};
  for (const Json& rank : json.at("ranks")) {
    RankState& state = table.ranks.emplace_back(RankStateOf(rank));
    state.silent += age;
    if (state.host < 0 || static_cast<size_t>(state.host) >= table.hosts.size()) return {};
  }
  return table;
}

}  // namespace

absl::Status WriteRankTable(const std::string& run, const RankTable& table) {
  Json json = {{"time", UnixSeconds()}, {"hosts", table.hosts}, {"ranks", Json::array()}};
  for (const RankState& state : table.ranks) json["ranks"].push_back(JsonOf(state));
  return ReplaceWholeFile(PosixFileSystem(), PathOf(run), json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

RankTable ReadRankTable(const std::string& run) {
  std::ifstream file(PathOf(run));
  try {
    return TableOf(Json::parse(file));
  } catch (const Json::exception&) {
    return {};
  }
}

}  // namespace jevons
