#include "launch/host_table.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace jevons {
namespace {

constexpr double kClockTolerance = 1;  // second: from there on the lines of two hosts' logs cannot be put in order
constexpr double kSlowPair = 0.5;      // of the median pair's bytes/s: a step waits for the slowest
constexpr char kAlike[] =
    "make these hosts alike: a step waits for the slowest, and ranks that differ are refused or give other "
    "bits";

std::string Dump(const nlohmann::ordered_json& json, int indent) {
  return json.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

nlohmann::ordered_json JsonOf(const HostFacts& host) {
  nlohmann::ordered_json json = {{"host", host.host}, {"facts", nlohmann::ordered_json::array()}};
  for (const Finding& f : host.facts)
    json["facts"].push_back({{"topic", f.topic}, {"bad", f.verdict == Verdict::kBad}, {"value", f.value}, {"remedy", f.remedy}});
  return json;
}

HostFacts FactsOf(const nlohmann::ordered_json& json) {
  HostFacts host{.host = json.at("host").get<std::string>(), .facts = {}};
  for (const auto& f : json.at("facts"))
    host.facts.push_back({f.at("topic").get<std::string>(), f.at("bad").get<bool>() ? Verdict::kBad : Verdict::kGood,
                          f.at("value").get<std::string>(), f.at("remedy").get<std::string>()});
  return host;
}

// Reads what `parse` takes from JSON; every way in which it can be something else is one error.
template <typename Parse>
auto FromText(const std::string& text, const Parse& parse) -> absl::StatusOr<decltype(parse(nlohmann::ordered_json()))> {
  try {
    return parse(nlohmann::ordered_json::parse(text));
  } catch (const nlohmann::json::exception& error) {
    return FailureError(absl::StrFormat("not a report of hosts: %s", error.what()));
  }
}

double MedianSpeed(const std::vector<PairSpeed>& pairs) {
  std::vector<double> speeds;
  for (const PairSpeed& pair : pairs) speeds.push_back(pair.slower());
  std::nth_element(speeds.begin(), speeds.begin() + static_cast<std::ptrdiff_t>(speeds.size() / 2), speeds.end());
  return speeds[speeds.size() / 2];
}

bool Slow(const PairSpeed& pair, double median) { return pair.slower() < kSlowPair * median; }

Finding CompareTopic(const HostReport& report, size_t topic) {
  const Finding& first = report.hosts[0].facts[topic];
  std::vector<std::string> values;  // in the order of the hosts
  std::map<std::string, std::vector<std::string>> hosts_of;
  Finding all{first.topic, Verdict::kGood, first.value, ""};
  for (const HostFacts& host : report.hosts) {
    const Finding& f = host.facts[topic];
    if (f.verdict == Verdict::kBad) all = {f.topic, Verdict::kBad, all.value, f.remedy};
    if (hosts_of[f.value].empty()) values.push_back(f.value);
    hosts_of[f.value].push_back(host.host);
  }
  if (values.size() == 1) return all;
  std::vector<std::string> parts;
  for (const std::string& value : values) parts.push_back(absl::StrJoin(hosts_of[value], ", ") + ": " + value);
  all.value = absl::StrJoin(parts, "; ");
  if (all.verdict != Verdict::kBad) all.remedy = kAlike;
  all.verdict = Verdict::kBad;
  return all;
}

Finding CompareClocks(const HostReport& report) {
  size_t worst = 0;
  for (size_t i = 0; i < report.clock_offsets.size(); ++i)
    if (std::abs(report.clock_offsets[i]) > std::abs(report.clock_offsets[worst])) worst = i;
  const double offset = report.clock_offsets[worst];
  const std::string value = std::abs(offset) < 1e-3
                                ? "less than 1 ms apart from " + report.hosts[0].host + "'s"
                                : absl::StrFormat("that of %s is %.3f s %s that of %s", report.hosts[worst].host,
                                                  std::abs(offset), offset > 0 ? "ahead of" : "behind", report.hosts[0].host);
  if (std::abs(offset) < kClockTolerance) return {"clocks", Verdict::kGood, value, ""};
  return {"clocks", Verdict::kBad, value, "apt-get install chrony  # on every host"};
}

Finding ComparePairs(const HostReport& report) {
  const auto slowest = std::min_element(report.pairs.begin(), report.pairs.end(),
                                        [](const PairSpeed& a, const PairSpeed& b) { return a.slower() < b.slower(); });
  const double median = MedianSpeed(report.pairs);
  const auto name = [&](int rank) { return report.hosts[static_cast<size_t>(rank)].host; };
  const std::string value =
      absl::StrFormat("%d measured, median %.3f GB/s; slowest %s and %s: %.3f GB/s, %.0f us", report.pairs.size(), median * 1e-9,
                      name(slowest->first), name(slowest->second), slowest->slower() * 1e-9, slowest->latency * 1e6);
  if (!Slow(*slowest, median)) return {"pairs", Verdict::kGood, value, ""};
  std::set<int> suspects = {slowest->first, slowest->second};  // in every slow pair
  for (const PairSpeed& pair : report.pairs)
    if (Slow(pair, median)) std::erase_if(suspects, [&](int rank) { return rank != pair.first && rank != pair.second; });
  const std::string where = suspects.size() == 1 ? name(*suspects.begin()) + ", which is in every slow pair," : "these two";
  return {"pairs", Verdict::kBad, value,
          absl::StrFormat("compare cable, port, speed (ethtool), MTU and chosen interface of %s with the others'", where)};
}

// Why findings cannot be made of it, or "".
std::string Flaw(const HostReport& report) {
  if (report.hosts.empty()) return "it has no host";
  const auto same_topics = [&](const HostFacts& host) {
    return std::equal(host.facts.begin(), host.facts.end(), report.hosts[0].facts.begin(), report.hosts[0].facts.end(),
                      [](const Finding& a, const Finding& b) { return a.topic == b.topic; });
  };
  for (const HostFacts& host : report.hosts)
    if (!same_topics(host)) return absl::StrFormat("%s has other topics than %s", host.host, report.hosts[0].host);
  const auto count = static_cast<int>(report.hosts.size());
  if (count > 1 && report.clock_offsets.size() != report.hosts.size())
    return absl::StrFormat("%d clocks of %d hosts", report.clock_offsets.size(), count);
  if (count > 1 && report.pairs.empty()) return "it has no pair of hosts";
  for (const PairSpeed& pair : report.pairs)
    if (std::min(pair.first, pair.second) < 0 || std::max(pair.first, pair.second) >= count)
      return absl::StrFormat("hosts %d and %d of %d", pair.first, pair.second, count);
  return "";
}

}  // namespace

std::string TextOf(const HostFacts& host) { return Dump(JsonOf(host), -1); }

absl::StatusOr<HostFacts> ParseHostFacts(const std::string& text) { return FromText(text, FactsOf); }

std::string TextOf(const HostReport& report) {
  nlohmann::ordered_json json = {{"hosts", nlohmann::ordered_json::array()},
                                 {"clock_offsets", report.clock_offsets},
                                 {"pairs", nlohmann::ordered_json::array()}};
  for (const HostFacts& host : report.hosts) json["hosts"].push_back(JsonOf(host));
  for (const PairSpeed& p : report.pairs)
    json["pairs"].push_back({{"first", p.first},
                             {"second", p.second},
                             {"seconds", p.latency},
                             {"bytes_per_second_there", p.there},
                             {"bytes_per_second_back", p.back}});
  return Dump(json, 2);
}

absl::StatusOr<HostReport> ParseHostReport(const std::string& text) {
  absl::StatusOr<HostReport> parsed = FromText(text, [](const nlohmann::ordered_json& json) {
    HostReport report;
    for (const auto& host : json.at("hosts")) report.hosts.push_back(FactsOf(host));
    report.clock_offsets = json.at("clock_offsets").get<std::vector<double>>();
    for (const auto& p : json.at("pairs"))
      report.pairs.push_back({.first = p.at("first").get<int>(),
                              .second = p.at("second").get<int>(),
                              .latency = p.at("seconds").get<double>(),
                              .there = p.at("bytes_per_second_there").get<double>(),
                              .back = p.at("bytes_per_second_back").get<double>()});
    return report;
  });
  if (!parsed.ok()) return parsed;
  if (const std::string flaw = Flaw(*parsed); !flaw.empty())
    return FailureError(absl::StrFormat("not a report of hosts: %s", flaw));
  return parsed;
}

absl::StatusOr<std::vector<HostSlots>> ParseHostfile(const std::string& text, const std::string& path) {
  std::vector<HostSlots> hosts;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<std::string> words =
        absl::StrSplit(line.substr(0, line.find('#')), absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.empty()) continue;
    HostSlots host{.name = words[0].substr(words[0].rfind('@') + 1)};  // npos + 1 is 0
    if (host.name.empty()) return UsageError(absl::StrFormat("%s: %s: no host follows the user", path, words[0]));
    for (const absl::string_view word : words)
      if (absl::StartsWith(word, "slots=") && (!absl::SimpleAtoi(word.substr(6), &host.slots) || host.slots < 1))
        return UsageError(absl::StrFormat("%s: %s of %s: must be a number from 1 on", path, word, host.name));
    const auto known = std::find_if(hosts.begin(), hosts.end(), [&](const HostSlots& other) { return other.name == host.name; });
    if (known == hosts.end()) {
      hosts.push_back(host);
    } else if (known->slots > std::numeric_limits<int64_t>::max() - host.slots) {
      return UsageError(absl::StrFormat("%s: %s has too many slots", path, host.name));
    } else {
      known->slots += host.slots;
    }
  }
  if (hosts.empty()) return UsageError(absl::StrFormat("%s: names no host; a line is \"node1 slots=8\"", path));
  return hosts;
}

absl::StatusOr<std::vector<HostSlots>> ReadHostfile(const std::string& path) {
  std::ifstream file(path);
  if (!file)
    return UsageError(
        absl::StrFormat("--hosts %s: cannot open; it is a hostfile of mpirun's, with lines as \"node1 slots=8\"", path));
  std::stringstream text;
  text << file.rdbuf();
  return ParseHostfile(text.str(), path);
}

std::vector<Finding> CompareHosts(const HostReport& report) {
  std::vector<Finding> findings;
  for (size_t topic = 0; topic < report.hosts[0].facts.size(); ++topic) findings.push_back(CompareTopic(report, topic));
  if (report.hosts.size() == 1) return findings;
  findings.push_back(CompareClocks(report));
  findings.push_back(ComparePairs(report));
  return findings;
}

std::string PairTable(const HostReport& report) {
  size_t width = 4;
  for (const HostFacts& host : report.hosts) width = std::max(width, host.host.size());
  const int columns = static_cast<int>(width);
  std::string table =
      absl::StrFormat("%-*s  %-*s  %10s  %11s  %11s\n", columns, "from", columns, "to", "us", "GB/s there", "GB/s back");
  for (const PairSpeed& p : report.pairs)
    absl::StrAppendFormat(&table, "%-*s  %-*s  %10.1f  %11.3f  %11.3f%s\n", columns,
                          report.hosts[static_cast<size_t>(p.first)].host, columns,
                          report.hosts[static_cast<size_t>(p.second)].host, p.latency * 1e6, p.there * 1e-9, p.back * 1e-9,
                          Slow(p, MedianSpeed(report.pairs)) ? "  slow" : "");
  return table;
}

std::string TopologyText(const std::string& matrix) {
  std::vector<std::string> columns;
  std::map<std::string, std::map<std::string, int>> links;  // by what a GPU is linked to: "GPU", "NIC"
  for (const absl::string_view line : absl::StrSplit(matrix, '\n')) {
    std::vector<std::string> words = absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.empty()) continue;
    if (columns.empty()) {  // "GPU0 GPU1 NIC0 CPU Affinity ...", in colours
      for (const std::string& word : words)
        for (const char* kind : {"GPU", "NIC"})
          if (const size_t at = word.find(kind);
              at != std::string::npos && at + 3 < word.size() && std::isdigit(word[at + 3]) != 0)
            columns.push_back(kind);
      if (columns.empty()) return "";
      continue;
    }
    if (!absl::StartsWith(words[0], "GPU")) continue;
    for (size_t i = 0; i < columns.size() && i + 1 < words.size(); ++i)
      if (words[i + 1] != "X") ++links[columns[i]][words[i + 1]];
  }
  std::vector<std::string> parts;
  for (const auto& [kind, kinds] : links) {
    std::string part = "GPU to " + kind;
    for (const auto& [link, count] : kinds) absl::StrAppendFormat(&part, " %s x %d", link, count);
    parts.push_back(part);
  }
  return absl::StrJoin(parts, ", ");
}

}  // namespace jevons
