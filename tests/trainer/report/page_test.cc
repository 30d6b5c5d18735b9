#include "trainer/report/page.h"

#include <gmock/gmock.h>

#include <regex>
#include <set>

#include "tests/trainer/report/shown_run.h"

namespace jevons {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string PageOf(const std::vector<RunHistory>& runs) {
  std::vector<RunFacts> facts;
  for (const RunHistory& run : runs) facts.push_back(ShownFacts(run));
  return ReportPage(runs, facts, CompareRuns(runs, {}).value());
}

// "" where every element is closed in its turn; else the place where one is not.
std::string Unbalanced(const std::string& html) {
  const std::set<std::string> kEmpty = {"meta"};
  std::vector<std::string> open;
  const std::regex tag("<(/?)([a-z0-9]+)[^>]*?(/?)>");
  for (std::sregex_iterator at(html.begin(), html.end(), tag), end; at != end; ++at) {
    const std::string name = (*at)[2];
    if ((*at)[3].length() > 0 || kEmpty.contains(name)) continue;
    if ((*at)[1].length() == 0) {
      open.push_back(name);
    } else if (open.empty() || open.back() != name) {
      return html.substr(std::max<int64_t>(0, at->position() - 100), 150);
    } else {
      open.pop_back();
    }
  }
  return open.empty() ? "" : "open: " + open.back();
}

TEST(Page, ShowsEveryPartOfARun) {
  const TempFolder folder;
  const std::string page = PageOf({ShownRun(folder, "run", 100, {"run.tags=a & b"}).Read()});
  EXPECT_EQ(Unbalanced(page), "");
  for (const char* part : {"What was trained",
                           "Loss, nats per token",
                           "Gradient norm",
                           "Learning rate",
                           "Tokens per second",
                           "MFU",
                           "forward",
                           "of them lost with their steps",
                           "DeepSeek-V3",
                           "At several prices",
                           "died rank 2",
                           "Rows of each expert, step 1<",
                           "Rows of each expert, step 100<",
                           "Gate bias of each expert",
                           "gradients",
                           "became 0",
                           "0F0 0.5 ms",
                           "In the beginning &lt;b&gt;",
                           "0123456789abcdef",
                           "Nearest preset: quickstart_cpu; 1 fields differ",
                           "a &amp; b"})
    EXPECT_THAT(page, HasSubstr(part));
  EXPECT_THAT(page, Not(HasSubstr("not recorded")));
  EXPECT_THAT(page, Not(HasSubstr("nan")));
}

TEST(Page, NeedsNothingBesideIt) {
  const TempFolder folder;
  const std::string page = PageOf({ShownRun(folder, "run", 20, {"run.name=<script>alert(1)</script>"}).Read()});
  for (const char* foreign : {"<script", "http:", "https:", "url(", "src=", "href="})
    EXPECT_THAT(page, Not(HasSubstr(foreign))) << foreign;
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;"));
}

TEST(Page, SaysWhatARunDoesNotTell) {
  const TempFolder folder;
  WrittenRun written(folder, "run");
  written.Add({.step = 1, .wall_time = 1, .values = {{"loss/main", 5}}});
  const std::vector<RunHistory> runs = {written.Read()};
  const std::vector<RunFacts> facts(1);
  const std::string page = ReportPage(runs, facts, {});
  EXPECT_EQ(Unbalanced(page), "");
  for (const char* sentence :
       {"Loss, nats per token: not recorded", "do not say where time went", "do not say what was paid for",
        "no record of each expert", "no checkpoint to read them from", "Not known before the run has ended",
        "No products were in FP8", "No step was traced", "samples.txt"})
    EXPECT_THAT(page, HasSubstr(sentence));
}

TEST(Page, PutsSeveralRunsSideBySide) {
  const TempFolder folder;
  const std::string page =
      PageOf({ShownRun(folder, "first", 30).Read(), ShownRun(folder, "second", 40, {"train.seed=7"}).Read()});
  EXPECT_EQ(Unbalanced(page), "");
  for (const char* part :
       {"<h1>2 runs</h1>", "Side by side", "train.seed", "Loss, smoothed, over dollars<", "Run first", "Run second"})
    EXPECT_THAT(page, HasSubstr(part));
  EXPECT_THAT(page, Not(HasSubstr("over dollars at the reference"))) << "none is stated";
}

// DeepSeek-V3's 59 x 256 gates over many steps.
TEST(Page, OfALargeRunIsUnderAMegabyte) {
  const TempFolder folder;
  const std::string page = PageOf({ShownRun(folder, "large", 600,
                                            {"model.layers=61", "model.dense_layers=3", "model.mtp.depth=1",
                                             "model.moe.routed_experts=256", "model.moe.groups=8"})
                                       .Read()});
  EXPECT_LT(page.size(), 1'000'000u);
  EXPECT_GT(page.size(), 100'000u);
}

}  // namespace
}  // namespace jevons
