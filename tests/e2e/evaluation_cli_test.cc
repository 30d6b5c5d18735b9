// eval and score as a user meets them: on any number of ranks the same bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "tests/support/train_cli.h"
#include "trainer/files/safetensors.h"

namespace jevons {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

std::string Contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class EvaluationCli : public TrainCli {
 protected:
  static void SetUpTestSuite() {
    TrainCli::SetUpTestSuite();
    const ProcessResult trained = Train(2, 2, "run");
    ASSERT_EQ(trained.exit_code, 0) << trained.err;
  }
  static ProcessResult Run(int ranks, Arguments arguments, const Arguments& overrides = {}) {
    for (const std::string& text : overrides) arguments.insert(arguments.end(), {"--set", text});
    return RunProcess(OnRanks(ranks, arguments), kTimeout);
  }
  static std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
    return folder_ / name;
  }
  static inline const std::vector<std::pair<int, Arguments>> kLayouts = {
      {2, {}}, {4, {}}, {3, {"parallel.ep=1"}}, {2, {"parallel.pp=2"}}, {4, {"parallel.pp=2", "parallel.schedule=ZB_H1"}}};
};

TEST_F(EvaluationCli, EvalHasTheSameBitsOnEveryLayout) {
  const Arguments eval = {"eval", "--checkpoint", folder_ / "run", "--json"};
  const ProcessResult one = Jevons(eval);
  ASSERT_EQ(one.exit_code, 0) << one.err;
  EXPECT_GT(Json::parse(one.out)["validation_loss"], 1.0);
  for (const auto& [ranks, overrides] : kLayouts) {
    const ProcessResult result = Run(ranks, eval, overrides);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.out, one.out) << ranks;
  }
}

TEST_F(EvaluationCli, TokensHaveTheSameScoresOnEveryLayout) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < 7 * 50; ++i) ids.push_back(6 + i * i % 250);  // 7 sequences, longer than those of training
  const std::string tokens = folder_ / "tokens.safetensors";
  auto writer = SafetensorsWriter::Create(PosixFileSystem(), tokens, {{"input_ids", kStI64, {7, 50}}});
  ASSERT_TRUE(writer.ok() && writer->Append(std::as_bytes(std::span(ids))).ok() && writer->Finish().ok());
  const auto score = [&](const std::string& output) {
    return Arguments{"score", "--checkpoint", folder_ / "run", "--tokens", tokens, "--output", folder_ / output};
  };
  const ProcessResult one = Jevons(score("one"));
  ASSERT_EQ(one.exit_code, 0) << one.err;
  EXPECT_THAT(one.out, HasSubstr("over 7 sequences of 50 tokens"));
  for (const auto& [ranks, overrides] : kLayouts) {
    const ProcessResult result = Run(ranks, score("several"), overrides);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(Contents(folder_ / "several"), Contents(folder_ / "one")) << ranks;
  }
  EXPECT_THAT(Run(4, score("several")).err, HasSubstr("4 ranks of 1 threads, ep 4, pp 1, "));
  EXPECT_THAT(Run(4, score("several"), {"parallel.pp=2"}).err, HasSubstr("ep 2, pp 2, "));
  Arguments logits = score("logits");
  logits.push_back("--logits");
  const ProcessResult refused = Run(2, logits);
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("error: --logits, --gradients and --mtp are computed on one rank"));
  EXPECT_FALSE(fs::exists(folder_ / "logits"));
}

TEST_F(EvaluationCli, TextsHaveTheSameScoresOnEveryLayoutAndInAnyCompany) {
  const Arguments lines = {
      R"({"context": "In the beginning there were ", "continuations": ["7 cats", "cats", "no dogs at all"]})",
      R"({"context": "", "continuations": ["In the beginning"]})",
      R"({"context": "each of them", "continuations": [" sat on a mat.", "\nsat"], "answer": 0})",
      R"({"context": ")" + std::string(300, 'x') + R"(", "continuations": [" cats"]})"};
  const auto score = [&](const std::string& path) {
    return Arguments{"score", "--checkpoint", folder_ / "run", "--jsonl", path};
  };
  const std::string all = Write("all.jsonl", lines[0] + "\n" + lines[1] + "\n" + lines[2] + "\n" + lines[3]);
  const ProcessResult one = Jevons(score(all));
  ASSERT_EQ(one.exit_code, 0) << one.err;
  EXPECT_THAT(one.err, HasSubstr("all.jsonl: 1 of 7 texts are longer than the 32 tokens"));
  for (const auto& [ranks, overrides] : kLayouts) {
    const ProcessResult result = Run(ranks, score(all), overrides);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.out, one.out) << ranks;
  }
  std::string one_by_one;
  for (const std::string& line : lines) one_by_one += Jevons(score(Write("line.jsonl", line + "\n"))).out;
  EXPECT_EQ(one_by_one, one.out);
  Arguments to_file = score(all);
  to_file.insert(to_file.end(), {"--output", folder_ / "scores.jsonl"});
  EXPECT_EQ(Jevons(to_file).out, "");
  EXPECT_EQ(Contents(folder_ / "scores.jsonl"), one.out);

  const Json first = Json::parse(one.out.substr(0, one.out.find('\n')));
  EXPECT_EQ(first["bytes"], Json({6, 4, 14}));
  for (const char* field : {"loglikelihoods", "tokens", "greedy"}) EXPECT_EQ(first[field].size(), 3u);
  for (const double value : first["loglikelihoods"]) EXPECT_LT(value, 0);
}

TEST_F(EvaluationCli, TasksAreJudged) {
  // What the text has, against what it has not: a trained model tells them apart.
  std::string lines;
  for (int i = 0; i < 8; ++i)
    lines += Json{{"context", "In the beginning there were " + std::to_string(i) + " cats, and each"},
                  {"continuations", {" qjxzw vvkq", " of them sat on a mat."}},
                  {"answer", 1}}
                 .dump() +
             "\n";
  const Arguments task = {"score", "--checkpoint", folder_ / "run", "--task", Write("sitting.jsonl", lines)};
  Arguments as_json = task;
  as_json.push_back("--json");
  const ProcessResult result = Jevons(as_json);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json judged = Json::parse(result.out)["tasks"][0];
  EXPECT_EQ(judged["task"], "sitting");
  EXPECT_EQ(judged["questions"], 8);
  EXPECT_EQ(judged["acc_norm"], 1.0);
  EXPECT_EQ(judged["acc_norm_stderr"], 0.0);
  EXPECT_EQ(Run(2, as_json).out, result.out);
  EXPECT_THAT(Jevons(task).out, AllOf(HasSubstr("sitting"), HasSubstr("1.0000 +- 0.0000\n")));
}

TEST_F(EvaluationCli, TasksAreMadeFromTheValidationSet) {
  const std::string tasks = SourcePath("launch/make_tasks.py");
  const auto make = [&](const fs::path& data, const std::string& output) {
    return RunProcess({tasks, "--data", data, "--output", folder_ / output, "--questions", "30", "--jevons", kJevons}, kTimeout);
  };
  const ProcessResult small = make(folder_ / "data", "none");  // documents of one line
  EXPECT_EQ(small.exit_code, 1);
  EXPECT_THAT(small.err, HasSubstr("the validation set is too small"));
  EXPECT_FALSE(fs::exists(folder_ / "none"));

  std::string text;
  for (const char* who : {"cat", "dog", "cow", "hen", "fox", "owl", "bat", "rat", "pig", "ant", "bee", "elk"}) {
    for (int i = 0; i < 16; ++i)
      absl::StrAppend(&text, "Then the ", who, " went to house ", i, " and saw that all of them had left ", i * i,
                      " days ago.\n");
    text += "\n";
  }
  const fs::path data = folder_ / "stories";
  const ProcessResult prepared = Jevons({"prepare", "--input", Write("stories.txt", text), "--output", data, "--tokenizer",
                                         folder_ / "data" / "tokenizer.json", "--validation-fraction", "0.9"});
  ASSERT_EQ(prepared.exit_code, 0) << prepared.err;
  const ProcessResult made = make(data, "tasks");
  ASSERT_EQ(made.exit_code, 0) << made.err << prepared.err;
  ASSERT_EQ(make(data, "again").exit_code, 0);
  Arguments score = {"score", "--checkpoint", folder_ / "run", "--json", "--set", "data.sequence_length=300"};
  for (const char* name : {"next_line.jsonl", "word_order.jsonl", "same_text.jsonl"}) {
    const std::string path = folder_ / "tasks" / name, lines = Contents(path);
    EXPECT_EQ(lines, Contents(folder_ / "again" / name));
    score.insert(score.end(), {"--task", path});
    for (const absl::string_view line : absl::StrSplit(lines, '\n', absl::SkipEmpty())) {
      const Json question = Json::parse(line);
      const std::vector<std::string> continuations = question["continuations"];
      ASSERT_EQ(continuations.size(), 4u);
      const std::string context = question["context"], right = continuations[question["answer"].get<size_t>()];
      for (size_t i = 0; i < continuations.size(); ++i) EXPECT_EQ(continuations[i] == right, i == question["answer"]);
      const std::string who = context.substr(9, 3);
      if (absl::string_view(name) == "same_text.jsonl")
        EXPECT_EQ(right.substr(9, 3), who);
      else
        EXPECT_THAT(text, HasSubstr(context + right));
    }
  }
  const ProcessResult scored = Jevons(score);
  ASSERT_EQ(scored.exit_code, 0) << scored.err;
  EXPECT_EQ(Json::parse(scored.out)["tasks"].size(), 3u);
}

TEST_F(EvaluationCli, ErrorsSayWhere) {
  const Arguments eval = {"eval", "--checkpoint", folder_ / "run"};
  const ProcessResult ranks = Run(3, eval, {"parallel.ep=2"});
  EXPECT_EQ(ranks.exit_code, 2);
  EXPECT_THAT(ranks.err, HasSubstr("parallel.ep = 2: must divide the 3 ranks"));
  const ProcessResult stages = Run(3, eval, {"parallel.pp=2"});
  EXPECT_EQ(stages.exit_code, 2);
  EXPECT_THAT(stages.err, HasSubstr("parallel.pp = 2: must divide the 3 ranks"));

  const auto bad = [&](const std::string& line, const char* flag = "--jsonl") {
    const std::string path =
        Write("bad.jsonl", "{\"context\": \"a\", \"continuations\": [\"b\"], \"answer\": 0}\n" + line + "\n");
    const ProcessResult result = Jevons({"score", "--checkpoint", folder_ / "run", flag, path});
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_THAT(result.err, HasSubstr("error: " + path + ", line 2: "));
    EXPECT_EQ(result.out, "");
    return result.err;
  };
  EXPECT_THAT(bad("{"), HasSubstr("not valid JSON"));
  EXPECT_THAT(bad(R"({"context": 1, "continuations": ["b"]})"), HasSubstr("context = 1: it must be a string"));
  EXPECT_THAT(bad(R"({"context": "a", "continuations": ["b"]})", "--task"), HasSubstr("answer is missing"));

  const fs::path damaged = folder_ / "damaged";
  fs::copy(folder_ / "run", damaged, fs::copy_options::recursive);
  for (const auto& entry : fs::recursive_directory_iterator(damaged / "checkpoints")) {
    if (!entry.is_regular_file() || entry.file_size() < 10'000) continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(entry.file_size() / 2));
    file << "bits that were not here";
  }
  for (const int count : {1, 2}) {
    const ProcessResult result =
        Run(count, {"eval", "--checkpoint", damaged, "--set", absl::StrCat("data.path=", (folder_ / "data").string())});
    EXPECT_EQ(result.exit_code, 3) << result.err;
    EXPECT_THAT(result.err, HasSubstr("error: " + damaged.string()));
  }
}

}  // namespace
}  // namespace jevons
