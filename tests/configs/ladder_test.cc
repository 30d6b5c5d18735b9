#include "configs/ladder.h"

#include <gmock/gmock.h>

#include <filesystem>

#include "absl/strings/str_replace.h"
#include "tests/support/paths.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

constexpr char kGood[] =
    "name: 'x' base: 'b' size { name: 's1' gflops: 10 } size { name: 's2' gflops: 10 seed: 1 seed: 2 } variant { name: 'dense' "
    "experts: 0 } "
    "variant { name: 'moe' } law { name: OLMO tokens_per_parameter: 20 } machine { devices: 2 } asymptote: 1.5";

// What is wrong after `from` has become `to`.
std::string Problem(const std::string& from, const std::string& to) {
  return std::string(ParseLadder(absl::StrReplaceAll(kGood, {{from, to}}), "l.textproto").status().message());
}

TEST(Ladder, EveryLadderInTheTreeIsGood) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(SourcePath("configs/ladders"))) {
    const auto ladder = LoadLadder(entry.path());
    EXPECT_TRUE(ladder.ok()) << ladder.status();
    ++files;
  }
  EXPECT_GE(files, 1);
}

TEST(Ladder, BadValuesNameFileFieldValueAndTheNearest) {
  EXPECT_EQ(Problem("name", "name"), "");
  EXPECT_EQ(Problem("asymptote: 1.5", "asymptote: -1"), "l.textproto: asymptote = -1: must be from 0 to 100; nearest legal: 0");
  EXPECT_EQ(Problem("asymptote: 1.5", ""), "l.textproto: asymptote = not set: must be from 0 to 100");
  EXPECT_EQ(Problem("'s2' gflops: 10", "'s2' gflops: nan"),
            "l.textproto: size[1].gflops = nan: must be from 1e-06 to 1e+12; nearest legal: 1e-06");
  EXPECT_EQ(Problem("'s2' gflops: 10", "'s2'"), "l.textproto: size[1].gflops = not set: must be from 1e-06 to 1e+12");
  EXPECT_THAT(Problem("'s2'", "'s1'"), HasSubstr("size[1].name = \"s1\": must not be given twice"));
  EXPECT_THAT(Problem("'s2'", "'../s2'"), HasSubstr("size[1].name = \"../s2\": must be made of letters, digits"));
  EXPECT_THAT(Problem("seed: 2", "seed: 1"), HasSubstr("size[1].seed = a value: must not be given twice"));
  EXPECT_THAT(Problem("seed: 2", "tokens_factor: 0"),
              HasSubstr("size[1].tokens_factor = 0: must be from 0.001 to 1000; nearest legal: 1"));
  EXPECT_THAT(Problem("experts: 0", "experts: -1"), HasSubstr("variant[0].experts = -1"));
  EXPECT_THAT(Problem("'moe'", "'moe' slowdown: 0"), HasSubstr("variant[1].slowdown = 0"));
  EXPECT_THAT(Problem("base: 'b'", ""), HasSubstr("base = not set"));
  EXPECT_THAT(Problem("base: 'b'", "bose: 'b'"), HasSubstr("did you mean \"base\"?"));
  EXPECT_THAT(std::string(ParseLadder("", "l.textproto").status().message()), HasSubstr("l.textproto: variant = not set"));
  EXPECT_THAT(std::string(LoadLadder("/no/such").status().message()), HasSubstr("/no/such: cannot open"));
}

TEST(Ladder, ALawTakesWhatItNeedsAndNoMore) {
  EXPECT_THAT(Problem("tokens_per_parameter: 20", ""), HasSubstr("law.tokens_per_parameter = not set"));
  EXPECT_EQ(Problem("name: OLMO tokens_per_parameter: 20", "name: DEEPSEEK_LLM"), "");
  EXPECT_THAT(Problem("name: OLMO", ""), HasSubstr("law.name = not set: must be DEEPSEEK_LLM, STEP_LAW, OLMO or CONSTANTS"));
  EXPECT_THAT(Problem("name: OLMO", "name: CONSTANTS"), HasSubstr("law.batch_tokens = not set"));
  EXPECT_EQ(Problem("name: OLMO", "name: CONSTANTS batch_tokens: 512 learning_rate: 1e-3"), "");
  EXPECT_THAT(Problem("name: OLMO", "name: OLMO batch_tokens: 512"),
              HasSubstr("law.batch_tokens = 512: is for law.name = CONSTANTS alone"));
}

}  // namespace
}  // namespace jevons
