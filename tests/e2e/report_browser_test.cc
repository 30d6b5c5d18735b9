// The page of `report` in a real browser: nothing wider than the window, no empty plot, no label cut off or upon another, text that can be
// read, and paper. Chromium is Debian's; where it is absent the test says so and is skipped.
#include <gmock/gmock.h>

#include <filesystem>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "launch/process.h"
#include "tests/trainer/report/shown_run.h"

namespace jevons {
namespace {

// Tells the page around what it sees: "name=value" by "|".
constexpr char kLook[] = R"(<script>
const out = {width: innerWidth, scroll: document.documentElement.scrollWidth, figures: 0, empty: [], cut: [], upon: [], small: []};
for (const svg of document.querySelectorAll('figure svg')) {
  const title = svg.getAttribute('aria-label'), box = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  out.figures++;
  if (![...svg.querySelectorAll('.line, .cell')].some(m => m.getBoundingClientRect().width > 50)) out.empty.push(title);
  for (const [text, r] of texts) {
    if (r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 1 || r.bottom > box.bottom + 1) out.cut.push(title + ': ' + text);
    if (Math.min(r.height, r.width) < 5 || Math.max(r.height, r.width) < 9) if (text.length > 2) out.small.push(title + ': ' + text);
  }
  texts.forEach(([a, r], i) => texts.slice(i + 1).forEach(([b, s]) => {
    if (r.left < s.right - 1 && s.left < r.right - 1 && r.top + 3 < s.bottom - 3 && s.top + 3 < r.bottom - 3) out.upon.push(title + ': ' + a + ' and ' + b);
  }));
}
parent.postMessage(Object.entries(out).map(([k, v]) => k + '=' + v).join('|'), '*');
</script>)";

ProcessResult Chromium(const TempFolder& folder, std::vector<std::string> arguments) {
  std::vector<std::string> command = {"chromium",      "--headless",        "--no-sandbox",
                                      "--disable-gpu", "--hide-scrollbars", "--user-data-dir=" + (folder / "browser")};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return RunProcess(std::move(command), 120);
}

class ReportInBrowser : public testing::Test {
 protected:
  void SetUp() override {
    if (RunProcess({"sh", "-c", "command -v chromium"}, 10).exit_code != 0)
      GTEST_SKIP() << "no chromium: apt-get install chromium";
    const std::vector<RunHistory> runs = {
        ShownRun(folder_, "a run with a name that is long enough to be a nuisance", 300).Read(),
        ShownRun(folder_, "second", 40, {"train.seed=7", "model.moe.routed_experts=64"}).Read()};
    const std::vector<RunFacts> facts = {ShownFacts(runs[0]), ShownFacts(runs[1])};
    page_ = ReportPage(runs, facts, CompareRuns(runs, {}).value());
  }

  // What the script saw in a window of so many pixels.
  std::map<std::string, std::string> Look(int width) {
    folder_.Write("look.html", page_ + kLook);
    // A frame, for a window is never narrower than 500 pixels.
    const std::string around = folder_.Write(
        "around.html", absl::StrCat("<script>onmessage = e => document.documentElement.setAttribute('data-look', "
                                    "e.data)</script><iframe src=\"look.html\" style=\"border:0;height:900px;width:",
                                    width, "px\"></iframe>"));
    const ProcessResult seen =
        Chromium(folder_, {"--window-size=1400,1000", "--virtual-time-budget=5000", "--dump-dom", "file://" + around});
    const std::string begin = "data-look=\"";
    const size_t at = seen.out.find(begin);
    EXPECT_NE(at, std::string::npos) << seen.err;
    if (at == std::string::npos) return {};
    const size_t from = at + begin.size();
    std::map<std::string, std::string> look;
    for (const std::string& part :
         std::vector<std::string>(absl::StrSplit(seen.out.substr(from, seen.out.find('"', from) - from), '|')))
      look.insert(absl::StrSplit(part, absl::MaxSplits('=', 1)));
    return look;
  }

  const TempFolder folder_;
  std::string page_;
};

TEST_F(ReportInBrowser, FitsAPhoneAndADesk) {
  for (const int width : {400, 1280}) {
    const auto look = Look(width);
    ASSERT_FALSE(look.empty());
    EXPECT_EQ(look.at("width"), absl::StrCat(width));
    EXPECT_EQ(look.at("scroll"), absl::StrCat(width)) << "something is wider than the window";
    EXPECT_EQ(look.at("figures"), "37");
    for (const char* what : {"empty", "cut", "upon", "small"}) EXPECT_EQ(look.at(what), "") << width << " pixels: " << what;
  }
}

TEST_F(ReportInBrowser, PrintsOnPaper) {
  const std::string page = folder_.Write("page.html", page_), pdf = folder_ / "page.pdf";
  const ProcessResult printed = Chromium(folder_, {"--print-to-pdf=" + pdf, "--no-pdf-header-footer", "file://" + page});
  std::ostringstream bytes;
  bytes << std::ifstream(pdf, std::ios::binary).rdbuf();
  EXPECT_TRUE(absl::StartsWith(bytes.str(), "%PDF")) << printed.err;
  EXPECT_GT(bytes.str().size(), 50'000u);
}

}  // namespace
}  // namespace jevons
