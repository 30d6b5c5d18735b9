// The trace keeps the rules of the trace event format; the page is one well-formed document that needs nothing else.
#include "trainer/plan/timeline_files.h"

#include <gmock/gmock.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/trainer/plan/plan_cases.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

const Plan& ThePlan() {
  static const Plan plan = PlanOf(PublishedLayout());
  return plan;
}

TEST(TraceJson, KeepsTheTraceEventFormat) {
  const nlohmann::json trace = nlohmann::json::parse(TraceJson(ThePlan()));
  EXPECT_EQ(trace["displayTimeUnit"], "ms");
  std::set<int> named;
  std::map<int, double> end;  // of each rank's last event: events of one thread do not overlap
  int64_t complete = 0;
  for (const auto& event : trace["traceEvents"]) {
    ASSERT_TRUE(event["name"].is_string() && event["ph"].is_string() && event["pid"].is_number() && event["tid"].is_number())
        << event;
    const int tid = event["tid"];
    if (event["ph"] == "M") {
      EXPECT_EQ(event["name"], "thread_name");
      EXPECT_TRUE(event["args"]["name"].is_string());
      EXPECT_TRUE(named.insert(tid).second) << "named twice: " << tid;
      continue;
    }
    ASSERT_EQ(event["ph"], "X") << event;
    EXPECT_TRUE(named.count(tid)) << "an event of an unnamed thread: " << event;
    const double begin = event["ts"], duration = event["dur"];
    EXPECT_GE(duration, 0);
    EXPECT_GE(begin, end[tid] - 1e-3) << event;
    end[tid] = begin + duration;
    ++complete;
  }
  EXPECT_EQ(named.size(), 16);
  EXPECT_EQ(complete, ThePlan().schedule.action_count() + ThePlan().schedule.ranks());
  double last = 0;
  for (const auto& [tid, at] : end) last = std::max(last, at);
  EXPECT_NEAR(last / 1e6, ThePlan().timeline.makespan + ThePlan().lines.optimizer, 1e-6);
}

// Every tag is closed in order, attributes are quoted once, text holds no bare & or <. Returns the first offence.
std::string Offence(const std::string& html) {
  const std::set<std::string> empty = {"!DOCTYPE", "meta"};
  std::vector<std::string> open;
  for (size_t i = 0; i < html.size();) {
    if (html[i] == '&') {
      const size_t end = html.find(';', i);
      const std::string entity = html.substr(i, end - i + 1);
      if (entity != "&amp;" && entity != "&lt;" && entity != "&gt;") return "entity " + html.substr(i, 20);
    }
    if (html[i] == '>') return "bare > at " + html.substr(i, 20);
    if (html[i] != '<') {
      ++i;
      continue;
    }
    const size_t end = html.find('>', i);
    if (end == std::string::npos) return "unfinished tag";
    const std::string tag = html.substr(i + 1, end - i - 1);
    if (tag.find('<') != std::string::npos) return "< in tag " + tag;
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0) return "quotes of " + tag;
    const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return "closed: " + tag;
      open.pop_back();
    } else if (tag.back() != '/' && empty.count(name) == 0) {
      open.push_back(name);
    }
    i = end + 1;
  }
  return open.empty() ? "" : "open: " + open.back();
}

TEST(PlanHtml, IsWellFormedAndNeedsNothingElse) {
  const std::string html =
      PlanHtml(ThePlan(), {.tokens = 14.8e12, .priced_tokens = 14.8e12, .gpu_hours = ThePlan().gpu_hours(14.8e12)});
  EXPECT_EQ(Offence(html), "");
  EXPECT_EQ(Offence("<a><b></a></b>"), "closed: /a");  // the check itself can fail
  EXPECT_THAT(html, HasSubstr("<svg"));
  for (const char* reference : {"http://", "https://", "<script", "<link", "src=", "href=", "url(", "@import"})
    EXPECT_EQ(html.find(reference), std::string::npos) << reference;
}

TEST(PlanHtml, DrawsEveryComputingAction) {
  const std::string html = PlanHtml(ThePlan(), {});
  int64_t rectangles = 0;
  for (size_t at = html.find("<rect"); at != std::string::npos; at = html.find("<rect", at + 1)) ++rectangles;
  EXPECT_GE(rectangles, ThePlan().schedule.action_count());
}

}  // namespace
}  // namespace jevons
