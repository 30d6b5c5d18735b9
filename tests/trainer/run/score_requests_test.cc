// Files of requests, how their texts become tokens, and what is made of scores.
#include "trainer/run/score_requests.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/data/tokenizer/tiny_tokenizer.h"

namespace jevons {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string ErrorOf(const std::string& line, bool answers = false) {
  const absl::Status status = ParseScoreRequests(line, "file.jsonl", answers).status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage);
  return std::string(status.message());
}

TEST(ScoreRequests, AreReadLineByLine) {
  const auto requests = ParseScoreRequests(
      "{\"context\": \"a\", \"continuations\": [\"b\", \"c\"], \"answer\": 1}\n"
      "{\"continuations\": [\"\\u00e4\"], \"context\": \"\"}",
      "file.jsonl", false);
  ASSERT_TRUE(requests.ok()) << requests.status();
  ASSERT_EQ(requests->size(), 2u);
  EXPECT_EQ((*requests)[0].context, "a");
  EXPECT_THAT((*requests)[0].continuations, ElementsAre("b", "c"));
  EXPECT_EQ((*requests)[0].answer, 1);
  EXPECT_EQ((*requests)[1].line, 2);
  EXPECT_EQ((*requests)[1].answer, std::nullopt);
}

TEST(ScoreRequests, BadLinesAreNamedWithTheirField) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("file.jsonl: there is no line in it"));
  EXPECT_THAT(ErrorOf("{}\n"), StartsWith("file.jsonl, line 1: context is missing"));
  const std::string good = "{\"context\": \"a\", \"continuations\": [\"b\"]}\n";
  EXPECT_THAT(ErrorOf(good + "\n" + good), StartsWith("file.jsonl, line 2: not valid JSON"));
  EXPECT_THAT(ErrorOf(good + "[]"), StartsWith("file.jsonl, line 2: []: it must be an object"));
  EXPECT_THAT(ErrorOf(R"({"context": "a"})"), HasSubstr("continuations is missing"));
  EXPECT_THAT(ErrorOf(R"({"context": "a", "continuations": []})"), HasSubstr("continuations = []: it must be an array"));
  EXPECT_THAT(ErrorOf(R"({"context": "a", "continuations": ["b", 7]})"), HasSubstr("continuations[1] = 7: it must be a string"));
  EXPECT_THAT(ErrorOf(R"({"context": "a", "continuations": [""]})"), HasSubstr("continuations[0] = \"\": it must be"));
  EXPECT_THAT(ErrorOf(R"({"context": "a", "continuation": ["b"]})"), HasSubstr("continuation: there is no such field"));
  EXPECT_THAT(ErrorOf(R"({"context": "a", "continuations": ["b"], "answer": 1})"), HasSubstr("answer = 1: it must be the index"));
  EXPECT_THAT(ErrorOf(R"({"context": "a", "continuations": ["b"], "answer": -1})"), HasSubstr("answer = -1: "));
  EXPECT_THAT(ErrorOf(good, /*answers=*/true), HasSubstr("answer is missing"));
}

class Encoded : public testing::Test {
 protected:
  absl::StatusOr<EncodedRequests> Encode(const std::string& context, const std::string& continuation, int64_t length = 100) {
    return EncodeScoreRequests({{ScoreRequest{.line = 3, .context = context, .continuations = {continuation}, .answer = {}}}},
                               "file.jsonl", tokenizer_, length);
  }
  std::vector<int32_t> Tokens(const std::string& text) {
    return tokenizer_.Encode(text, {.specials = SpecialText::kRecognized, .add_bos = false});
  }
  const Tokenizer tokenizer_ = TinyTokenizer();
};

TEST_F(Encoded, ContinuationsAreWhatBothHaveBeyondTheContext) {
  const auto encoded = Encode("In the beginning", " God created");
  ASSERT_TRUE(encoded.ok()) << encoded.status();
  EXPECT_EQ(encoded->sequences[0].tokens, Tokens("In the beginning God created"));
  EXPECT_EQ(encoded->sequences[0].scored, static_cast<int64_t>(Tokens("In the beginning").size()));
  EXPECT_EQ(encoded->shortened, 0);
}

TEST_F(Encoded, SpaceAtTheEndOfAContextBelongsToTheContinuation) {
  for (const std::string space : {" ", " \n", "\u00a0", "\t\u2003 "}) {
    const auto there = Encode("In the beginning" + space, "God"), here = Encode("In the beginning", space + "God");
    ASSERT_TRUE(there.ok() && here.ok());
    EXPECT_EQ(there->sequences[0].tokens, here->sequences[0].tokens);
    EXPECT_EQ(there->sequences[0].scored, here->sequences[0].scored);
  }
}

TEST_F(Encoded, NothingSaidIsTheEndOfADocument) {
  for (const std::string context : {"", "  "}) {
    const auto encoded = Encode(context, "God");
    ASSERT_TRUE(encoded.ok()) << encoded.status();
    std::vector<int32_t> expected = Tokens(context + "God");
    expected.insert(expected.begin(), tokenizer_.eos_id());
    EXPECT_EQ(encoded->sequences[0].tokens, expected);
    EXPECT_EQ(encoded->sequences[0].scored, 1);
  }
}

TEST_F(Encoded, LongContextsLoseTheirBeginning) {
  const std::string context = "In the beginning God created the heaven and the earth.";
  const std::vector<int32_t> whole = Tokens(context + " And");
  const auto own = static_cast<int64_t>(whole.size() - Tokens(context).size());
  for (const int64_t length : {int64_t{5}, own, static_cast<int64_t>(whole.size()) - 1}) {
    const auto encoded = Encode(context, " And", length);
    ASSERT_TRUE(encoded.ok()) << encoded.status();
    const auto& [tokens, scored] = encoded->sequences[0];
    EXPECT_EQ(tokens, std::vector<int32_t>(whole.end() - length - 1, whole.end()));
    EXPECT_EQ(static_cast<int64_t>(tokens.size()) - scored, own);
    EXPECT_EQ(encoded->shortened, length + 1 < static_cast<int64_t>(whole.size()));
  }
  const absl::Status status = Encode(context, " And God said, Let there be light", 3).status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage);
  EXPECT_THAT(std::string(status.message()), StartsWith("file.jsonl, line 3: continuations[0] has "));
  EXPECT_THAT(std::string(status.message()), HasSubstr("--set data.sequence_length="));
}

std::vector<TokenScore> Of(std::vector<float> logprobs, bool last_likeliest) {
  std::vector<TokenScore> scores;
  for (const float logprob : logprobs) scores.push_back({logprob, true});
  scores.back().likeliest = last_likeliest;
  return scores;
}

TEST(Scores, BecomeLinesAndAccuracies) {
  const std::vector<ScoreRequest> requests = {
      {.line = 1, .context = "", .continuations = {"ab", "abcdefgh"}, .answer = 1},
      {.line = 2, .context = "", .continuations = {"a", "b"}, .answer = 0},
      {.line = 3, .context = "", .continuations = {"a", "\u00e4"}, .answer = 1},
      {.line = 4, .context = "", .continuations = {"a", "b"}, .answer = 1},
  };
  const std::vector<std::vector<TokenScore>> scores = {
      Of({-1}, true),  Of({-1.5f, -0.5f}, true),  // longer, and per byte the better
      Of({-1}, true),  Of({-1}, true),            // of equal ones the first
      Of({-1}, false), Of({-0.5f, -0.25f}, true),
      Of({-1}, true),  Of({-2}, true),
  };
  EXPECT_EQ(ScoresLine(requests[0], std::span(scores).subspan(0, 2)),
            "{\"loglikelihoods\":[-1.0,-2.0],\"tokens\":[1,2],\"bytes\":[2,8],\"greedy\":[true,true]}\n");
  EXPECT_EQ(ScoresLine(requests[2], std::span(scores).subspan(4, 2)),
            "{\"loglikelihoods\":[-1.0,-0.75],\"tokens\":[1,2],\"bytes\":[1,2],\"greedy\":[false,true]}\n");
  const TaskResult result = JudgeTask(requests, scores);
  EXPECT_EQ(result.questions, 4);
  EXPECT_EQ(result.accuracy, 0.5);
  EXPECT_EQ(result.normalized, 0.75);
  EXPECT_DOUBLE_EQ(*result.accuracy_error, std::sqrt(0.25 / 3));
  EXPECT_DOUBLE_EQ(*result.normalized_error, std::sqrt(0.1875 / 3));
  EXPECT_EQ(JudgeTask(std::span(requests).first(1), std::span(scores).first(2)).accuracy_error, std::nullopt);
}

}  // namespace
}  // namespace jevons
