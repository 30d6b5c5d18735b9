// Training as a user meets it: real processes under mpirun, signals, kills, and what the other commands make of the run.
#include "tests/support/train_cli.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "data/tokenizer/unicode.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// Told before anything is taken, and nothing is left behind.
TEST_F(TrainCli, RefusesWhatMemoryCannotHold) {
  const ProcessResult result = Train(2, 1, "huge", {"train.batch_sequences=1000000", "train.micro_batch_sequences=500000"});
  EXPECT_EQ(result.exit_code, 2) << result.err;
  EXPECT_THAT(result.err, HasSubstr("for 2 ranks: lower train.micro_batch_sequences = 500000"));
  EXPECT_FALSE(fs::exists(folder_ / "huge"));
}

TEST_F(TrainCli, EveryLayoutEndsInTheSameState) {
  const ProcessResult four = Train(4, 4, "four");
  ASSERT_EQ(four.exit_code, 0) << four.err;
  EXPECT_THAT(four.out, HasSubstr("validation loss"));
  EXPECT_THAT(four.out, HasSubstr("price not set"));
  ASSERT_EQ(Train(3, 1, "three").exit_code, 0);
  ASSERT_EQ(Train(1, 1, "one").exit_code, 0);
  EXPECT_EQ(Hash("four"), Hash("three"));
  EXPECT_EQ(Hash("four"), Hash("one"));
  EXPECT_THAT(Jevons({"inspect", folder_ / "four"}).out, HasSubstr(" CPU core hours (")) << "in the words of the run's summary";
  const ProcessResult diff = Jevons({"inspect", folder_ / "four", "--diff", folder_ / "three"});
  EXPECT_EQ(diff.exit_code, 0);
  EXPECT_EQ(diff.out, "identical\n");
  ASSERT_EQ(Train(1, 1, "other", {"train.seed=2"}).exit_code, 0);
  EXPECT_NE(Hash("four"), Hash("other"));
}

TEST_F(TrainCli, SignalToTheRanksSavesAndExits75) {
  for (const int signal_number : {SIGTERM, SIGUSR1}) {
    const std::string output = absl::StrCat("stopped", signal_number);
    Process process = StartLongRun(output, 3);
    for (pid_t rank : ChildrenOf(process.pid())) kill(rank, signal_number);
    const ProcessResult stopped = process.Wait(kTimeout);
    EXPECT_EQ(stopped.exit_code, 75) << stopped.err;
    EXPECT_THAT(stopped.err, HasSubstr("committed"));
    EXPECT_THAT(Hash(output).size(), testing::Gt(30u));
  }
}

// Launchers repeat themselves, and in other words: before the checkpoint, and while it is written.
TEST_F(TrainCli, MoreSignalsLoseNothing) {
  Process process = StartLongRun("repeated", 3);
  const std::vector<pid_t> ranks = ChildrenOf(process.pid());
  for (const int signal_number : {SIGTERM, SIGTERM, SIGUSR1, SIGINT, SIGINT})
    for (pid_t rank : ranks) kill(rank, signal_number);
  for (int i = 0; i < 200; ++i) {
    for (pid_t rank : ranks) kill(rank, SIGTERM);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const ProcessResult stopped = process.Wait(kTimeout);
  EXPECT_EQ(stopped.exit_code, 75) << stopped.err;
  EXPECT_THAT(stopped.err, HasSubstr("committed"));
  EXPECT_THAT(Hash("repeated").size(), testing::Gt(30u));
}

// Two hosts with different copies of a file: told at once, by rank and host, instead of training a mixture or waiting for the watchdog.
TEST_F(TrainCli, RanksThatWereNotStartedAlikeAreRefused) {
  // The second rank has another value of one option.
  const auto train_both = [&](const std::string& option, const std::string& value) {
    std::vector<std::string> both = Command(1, 1, "mixture");
    std::vector<std::string> second(std::find(both.begin(), both.end(), "-np"), both.end());
    if (option == "--set") {
      second.insert(second.end(), {option, value});
    } else {
      *(std::find(second.begin(), second.end(), option) + 1) = value;
    }
    both.push_back(":");
    both.insert(both.end(), second.begin(), second.end());
    return RunProcess(both, kTimeout);
  };
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  const std::string second = absl::StrCat("error: rank 1 (", host, ")");
  const auto begin = std::chrono::steady_clock::now();
  const ProcessResult rate = train_both("--set", "optimizer.learning_rate.peak=1e-1");
  EXPECT_EQ(rate.exit_code, 2) << rate.err;
  EXPECT_THAT(rate.err,
              StartsWith(absl::StrCat(second, " has another config than rank 0: modified: optimizer.learning_rate.peak: ")));
  const ProcessResult output = train_both("--output", folder_ / "elsewhere");
  EXPECT_EQ(output.exit_code, 2) << output.err;
  EXPECT_THAT(output.err, StartsWith(absl::StrCat(second, " has another --output than rank 0")));
  const ProcessResult data = train_both("--set", "data.path=/nonexistent");
  EXPECT_EQ(data.exit_code, 3) << data.err;
  EXPECT_THAT(data.err, StartsWith(absl::StrCat(second, ": there is no /nonexistent/tokenizer.json")));
  const ProcessResult missing = train_both("--config", "no_such.textproto");
  EXPECT_EQ(missing.exit_code, 2) << missing.err;
  EXPECT_THAT(missing.err, StartsWith(absl::StrCat(second, ": no_such.textproto: cannot open")));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60));
  EXPECT_FALSE(fs::exists(folder_ / "mixture"));
}

// As many threads as the cores that a rank may use, unless somebody says how many.
TEST_F(TrainCli, ThreadsFollowAffinityAndEnvironment) {
  const auto err = [&](std::vector<std::string> prefix, const std::string& threads) {
    const std::vector<std::string> command = Command(1, 1, "threads", {"train.steps=1", "parallel.threads=" + threads});
    prefix.insert(prefix.end(), std::find(command.begin(), command.end(), kJevons), command.end());
    fs::remove_all(folder_ / "threads");
    const ProcessResult result = RunProcess(std::move(prefix), kTimeout);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.err;
  };
  EXPECT_THAT(err({"env", "-u", "OMP_NUM_THREADS", "taskset", "-c", "0"}, "0"), HasSubstr("1 ranks of 1 threads"));
  EXPECT_THAT(err({"env", "OMP_NUM_THREADS=3,1"}, "0"), HasSubstr("1 ranks of 3 threads"));
  const std::string crowded = err({"env", "OMP_NUM_THREADS=3", "taskset", "-c", "0"}, "2");
  EXPECT_THAT(crowded, HasSubstr("1 ranks of 2 threads"));
  EXPECT_THAT(crowded, HasSubstr("parallel.threads = 2, but this rank may use 1 core(s)"));
  EXPECT_THAT(crowded, HasSubstr("price not set"));
}

// A launcher that dies leaves its ranks behind for a moment.
TEST_F(TrainCli, ASecondStartWaitsForTheRanksOfTheFirst) {
  {
    Process process = StartLongRun("again", 3);
    kill(process.pid(), SIGKILL);  // mpirun alone
    const ProcessResult again = Train(2, 2, "again", {absl::StrCat("train.steps=", NewestStep("again") + 4)});
    EXPECT_EQ(again.exit_code, 0) << again.err;
    EXPECT_THAT(again.err, HasSubstr("resumed after step"));
  }
}

// However a run dies, the same command goes on from its newest checkpoint and ends where an undisturbed run ends.
TEST_F(TrainCli, KillNineLosesNothingThatWasCommitted) {
  {
    Process process = StartLongRun("killed", 9, Command(2, 2, "killed", {"optimizer.ema_decay=0.9"}));
    const std::vector<pid_t> ranks = ChildrenOf(process.pid());
    ASSERT_FALSE(ranks.empty());
    kill(ranks.front(), SIGKILL);
    EXPECT_NE(process.Wait(kTimeout).exit_code, 0);
  }
  const ProcessResult before = Jevons({"inspect", folder_ / "killed"});
  ASSERT_EQ(before.exit_code, 0) << before.err;
  const std::string steps = absl::StrCat("train.steps=", NewestStep("killed") + 6);
  const ProcessResult resumed = Train(3, 3, "killed", {steps, "optimizer.ema_decay=0.9"});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("resumed after step"));
  EXPECT_THAT(resumed.out, HasSubstr("1 restart"));
  ASSERT_EQ(Train(1, 1, "undisturbed", {steps, "optimizer.ema_decay=0.9"}).exit_code, 0);
  EXPECT_EQ(Hash("killed"), Hash("undisturbed"));
}

TEST_F(TrainCli, BadConfigsAreOneClearError) {
  const ProcessResult experts = Train(2, 1, "bad", {"model.moe.routed_experts=7"});
  EXPECT_EQ(experts.exit_code, 2);
  EXPECT_THAT(experts.err, StartsWith("error: "));
  EXPECT_THAT(experts.err,
              HasSubstr("model.moe.routed_experts = 7: must be divisible by model.moe.groups = 4; nearest legal: 8"));
  const ProcessResult ep = Train(2, 3, "bad");
  EXPECT_EQ(ep.exit_code, 2);
  EXPECT_THAT(ep.err, HasSubstr("parallel.ep = 3"));
  const ProcessResult missing = Train(1, 1, "bad", {"data.path=/nonexistent"});
  EXPECT_EQ(missing.exit_code, 3);
  EXPECT_THAT(missing.err, HasSubstr("/nonexistent"));
  EXPECT_FALSE(fs::exists(folder_ / "bad"));
}

TEST_F(TrainCli, EvalAndGenerateUseTheRun) {
  ASSERT_EQ(Train(2, 2, "used").exit_code, 0);
  const ProcessResult eval = Jevons({"eval", "--checkpoint", folder_ / "used"});
  EXPECT_EQ(eval.exit_code, 0) << eval.err;
  EXPECT_THAT(eval.out, HasSubstr("validation loss"));
  EXPECT_THAT(eval.out, HasSubstr("bits per byte"));
  const std::vector<std::string> generate = {"generate", "--checkpoint", folder_ / "used", "--prompt", "In the",
                                             "--tokens", "20",           "--seed",         "5"};
  const ProcessResult text = Jevons(generate);
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, StartsWith("In the"));
  EXPECT_EQ(text.out, Jevons(generate).out);
  const auto evaluated = nlohmann::json::parse(Jevons({"eval", "--checkpoint", folder_ / "used", "--json"}).out, nullptr, false);
  ASSERT_TRUE(evaluated.is_object());
  EXPECT_EQ(evaluated["step"], 12);
  EXPECT_GT(evaluated["validation_loss"], 0);
  EXPECT_EQ(Jevons({"eval", "--checkpoint", folder_ / "nothing"}).exit_code, 3);
  EXPECT_EQ(Jevons({"generate", "--checkpoint", folder_ / "nothing"}).exit_code, 3);
}

// A tokenizer that is not the data's is damage to the data, whatever its size; and of another model nothing is told as if it were trained.
TEST_F(TrainCli, ATokenizerOfOtherDataIsNoticedFirst) {
  ASSERT_EQ(Train(1, 1, "tokenized", {"train.steps=1"}).exit_code, 0);
  const std::string other = folder_ / "other_data";
  std::ofstream text(folder_ / "other.txt");
  for (int i = 0; i < 900; ++i) text << "number " << i * i * 7919 % 100003 << " of " << i * 31 % 977 << "\n\n";
  text.close();
  const ProcessResult prepared = Jevons({"prepare", "--input", folder_ / "other.txt", "--output", other, "--vocab-size", "400"});
  ASSERT_EQ(prepared.exit_code, 0) << prepared.err;
  const std::string tokenizer = absl::StrCat("data.tokenizer=", other, "/tokenizer.json");
  const ProcessResult eval = Jevons({"eval", "--checkpoint", folder_ / "tokenized", "--set", tokenizer});
  EXPECT_EQ(eval.exit_code, 3) << eval.err;
  EXPECT_THAT(eval.err, HasSubstr("the checkpoint was trained with a tokenizer of hash"));
  const ProcessResult train = Train(1, 1, "tokenized_otherwise", {tokenizer, "model.vocab_size=320"});
  EXPECT_EQ(train.exit_code, 3) << train.err;
  EXPECT_THAT(train.err, HasSubstr("was made with a tokenizer of hash"));
  const ProcessResult resumed = Train(1, 1, "tokenized", {"train.steps=2", "data.path=" + other});
  EXPECT_EQ(resumed.exit_code, 3) << resumed.err;
  EXPECT_THAT(resumed.err, Not(HasSubstr("parameters (")));
  EXPECT_THAT(Train(1, 1, "tokenized", {"train.steps=2"}).err, HasSubstr("parameters ("));
}

// The average in place of the weights, wherever a checkpoint is used; a run without one says so.
TEST_F(TrainCli, TheAverageOfTheWeightsIsUsedWhereItIsAskedFor) {
  const ProcessResult averaged = Train(2, 2, "averaged", {"optimizer.ema_decay=0.9"});
  ASSERT_EQ(averaged.exit_code, 0) << averaged.err;
  EXPECT_THAT(averaged.out, testing::ContainsRegex("on the host +average of the weights [0-9.]+"));
  ASSERT_EQ(Train(1, 1, "plain").exit_code, 0);
  const auto loss = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"eval", "--json", "--checkpoint"});
    const ProcessResult result = Jevons(more);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return nlohmann::json::parse(result.out, nullptr, false)["validation_loss"].get<double>();
  };
  EXPECT_EQ(loss({folder_ / "averaged"}), loss({folder_ / "plain"})) << "an average changes nothing else";
  EXPECT_NE(loss({folder_ / "averaged", "--ema"}), loss({folder_ / "averaged"}));
  const std::vector<std::string> generate = {"generate", "--checkpoint", folder_ / "averaged", "--prompt", "In the", "--tokens",
                                             "5",        "--ema"};
  EXPECT_EQ(Jevons(generate).exit_code, 0);

  // What is exported of it, and comes back, is what was evaluated.
  const std::string model = folder_ / "averaged_model", back = folder_ / "averaged_back";
  ASSERT_EQ(Jevons({"export", "--checkpoint", folder_ / "averaged", "--output", model, "--precision", "fp32", "--ema"}).exit_code,
            0);
  EXPECT_EQ(Jevons({"verify-export", folder_ / "averaged", model, "--ema"}).exit_code, 0);
  EXPECT_EQ(Jevons({"verify-export", folder_ / "averaged", model}).exit_code, 3);
  ASSERT_EQ(Jevons({"import", "--input", model, "--output", back}).exit_code, 0);
  EXPECT_EQ(loss({back, "--set", absl::StrCat("data.path=", (folder_ / "data").string()), "--set", "data.sequence_length=32"}),
            loss({folder_ / "averaged", "--ema"}));

  for (const std::vector<std::string>& command :
       std::vector<std::vector<std::string>>{{"eval", "--checkpoint", folder_ / "plain"},
                                             {"generate", "--checkpoint", folder_ / "plain", "--prompt", "A"},
                                             {"export", "--checkpoint", folder_ / "plain", "--output", folder_ / "no_model"}}) {
    std::vector<std::string> asks = command;
    asks.push_back("--ema");
    const ProcessResult refused = Jevons(asks);
    EXPECT_EQ(refused.exit_code, 2);
    EXPECT_EQ(refused.out, "");
    EXPECT_THAT(refused.err, HasSubstr("plain/checkpoints/step-00000012 holds no average of the weights: its run had "
                                       "optimizer.ema_decay = 0; leave --ema out"))
        << refused.err;
  }
  EXPECT_FALSE(fs::exists(folder_ / "no_model"));
}

// A run has its tokenizer: once the data is gone, what needs no data works.
TEST_F(TrainCli, ARunIsUsableWithoutItsData) {
  fs::copy(folder_ / "data", folder_ / "lent", fs::copy_options::recursive);
  ASSERT_EQ(Train(2, 2, "alone", {absl::StrCat("data.path=", (folder_ / "lent").string()), "train.steps=1"}).exit_code, 0);
  const auto generate = [&](const std::vector<std::string>& more = {}) {
    std::vector<std::string> command = {"generate", "--checkpoint", folder_ / "alone", "--prompt", "In the", "--tokens", "8"};
    command.insert(command.end(), more.begin(), more.end());
    return Jevons(command);
  };
  const ProcessResult with_data = generate();
  EXPECT_EQ(with_data.exit_code, 0) << with_data.err;
  fs::rename(folder_ / "lent", folder_ / "elsewhere");
  const ProcessResult without = generate();
  EXPECT_EQ(without.exit_code, 0) << without.err;
  EXPECT_EQ(without.out, with_data.out);
  const ProcessResult exported = Jevons({"export", "--checkpoint", folder_ / "alone", "--output", folder_ / "model"});
  EXPECT_EQ(exported.exit_code, 0) << exported.err;
  const auto text = [](const fs::path& path) {
    std::ifstream file(path);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  EXPECT_EQ(text(folder_ / "model/tokenizer.json"), text(folder_ / "elsewhere/tokenizer.json"));
  EXPECT_TRUE(fs::exists(folder_ / "model/tokenizer_config.json"));
  const ProcessResult eval = Jevons({"eval", "--checkpoint", folder_ / "alone"});
  EXPECT_EQ(eval.exit_code, 3) << "the validation set is data";
  EXPECT_THAT(eval.err, HasSubstr(absl::StrCat("data.path = \"", (folder_ / "lent").string(), "\": there is no validation set")));

  std::ofstream(folder_ / "alone/tokenizer.json", std::ios::app) << " ";
  const ProcessResult damaged = generate();
  EXPECT_EQ(damaged.exit_code, 3);
  EXPECT_THAT(damaged.err, HasSubstr((folder_ / "alone/tokenizer.json").string()));
  const std::vector<std::string> there = {"--set",
                                          absl::StrCat("data.tokenizer=", (folder_ / "elsewhere/tokenizer.json").string())};
  EXPECT_EQ(generate(there).out, with_data.out);
  // As a run from before there was one: by the data's path.
  fs::remove(folder_ / "alone/tokenizer.json");
  EXPECT_EQ(generate().exit_code, 3);
  fs::rename(folder_ / "elsewhere", folder_ / "lent");
  EXPECT_EQ(generate().out, with_data.out);
}

TEST_F(TrainCli, ABatchFromOneDocumentIsSaidOnce) {
  std::ofstream text(folder_ / "book.txt");
  for (int i = 0; i < 200; ++i) text << "In the beginning there were " << i << " cats, and each of them sat on a mat.\n";
  text.close();
  const ProcessResult prepared =
      Jevons({"prepare", "--input", folder_ / "book.txt", "--output", folder_ / "book", "--vocab-size", "300"});
  ASSERT_EQ(prepared.exit_code, 0) << prepared.err;
  const std::string path = absl::StrCat("data.path=", (folder_ / "book").string());
  const std::string warning = "whole batches come from one document; a new run with data.shuffle_samples=true mixes them";
  const ProcessResult in_order = Train(2, 1, "book_in_order", {path, "train.steps=3", "data.shuffle_samples=false"});
  ASSERT_EQ(in_order.exit_code, 0) << in_order.err;
  const std::vector<std::string> parts = absl::StrSplit(in_order.err, warning);
  EXPECT_EQ(parts.size(), 2u) << in_order.err;
  const ProcessResult mixed = Train(2, 1, "book_mixed", {path, "train.steps=3"});
  ASSERT_EQ(mixed.exit_code, 0) << mixed.err;
  EXPECT_THAT(mixed.err, testing::Not(HasSubstr("one document")));
}

std::string Between(const std::string& text, const std::string& from, const std::string& to) {
  const size_t begin = text.find(from), end = text.find(to, begin);
  return begin == std::string::npos ? "" : text.substr(begin + from.size(), end - begin - from.size());
}

TEST_F(TrainCli, GenerateTakesPromptsStopsAndCounts) {
  ASSERT_EQ(Train(1, 1, "talks").exit_code, 0);
  const auto generate = [&](std::vector<std::string> more) {
    more.insert(more.begin(),
                {"generate", "--checkpoint", folder_ / "talks", "--tokens", "25", "--seed", "7", "--temperature", "2"});
    return Jevons(std::move(more));
  };
  const ProcessResult text = generate({"--prompt", "In the beginning"});
  ASSERT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.err,
              testing::ContainsRegex("I prompt [0-9]+ tokens, [0-9.]+ tokens/s; generated [0-9]+ tokens, [0-9.]+ tokens/s\n"));
  EXPECT_EQ(text.out, ReplaceInvalidUtf8(text.out));
  const std::string made = text.out.substr(16, text.out.size() - 17);
  std::ofstream(folder_ / "prompt.txt") << "In the beginning\n";
  EXPECT_EQ(generate({"--prompt-file", folder_ / "prompt.txt"}).out, text.out);
  // The first of several samples is the only one of one; another seed, another text.
  const ProcessResult three = generate({"--prompt", "In the beginning", "--count", "3"});
  EXPECT_THAT(three.out, StartsWith("--- sample 1 of 3 ---\n" + text.out + "--- sample 2 of 3 ---\nIn the beginning"));
  EXPECT_NE(Between(three.out, "2 of 3 ---\n", "---"), Between(three.out, "3 of 3 ---\n", "---"));
  EXPECT_NE(generate({"--prompt", "In the beginning", "--seed", "8"}).exit_code, 0) << "--seed is given twice";
  ASSERT_GT(made.size(), 12u);
  for (size_t begin : {0, 3, 9}) {
    const std::string stop = made.substr(begin, 3);
    if (FirstInvalidUtf8(stop) < stop.size()) continue;
    const ProcessResult stopped = generate({"--prompt", "In the beginning", "--stop", stop, "--stop", "not in it"});
    EXPECT_EQ(stopped.out, "In the beginning" + made.substr(0, made.find(stop)) + "\n");
  }
  const ProcessResult greedy = generate({"--prompt", "In the", "--top-k", "1"});
  const ProcessResult likeliest =
      Jevons({"generate", "--checkpoint", folder_ / "talks", "--tokens", "25", "--temperature", "0", "--prompt", "In the"});
  EXPECT_EQ(greedy.out, likeliest.out);
}

TEST_F(TrainCli, GenerateRefusesWhatMakesNoSense) {
  ASSERT_EQ(Train(1, 1, "refuses").exit_code, 0);
  const auto refused = [&](std::vector<std::string> more, int exit_code) {
    more.insert(more.begin(), {"generate", "--checkpoint", folder_ / "refuses"});
    const ProcessResult result = Jevons(std::move(more));
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_THAT(result.err, StartsWith("error: "));
    EXPECT_EQ(result.out, "");
    return result.err;
  };
  std::string words;
  for (int i = 0; i < 40; ++i) words += "the ";
  EXPECT_THAT(refused({"--prompt", words}, 2), HasSubstr("the model was trained on 32 at a time (data.sequence_length)"));
  EXPECT_THAT(refused({"--prompt", "a", "--count", "2", "--temperature", "0"}, 2), HasSubstr("--count 2 with --temperature 0"));
  EXPECT_THAT(refused({"--prompt", "a", "--prompt-file", "b"}, 2), HasSubstr("excludes"));
  EXPECT_THAT(refused({"--prompt-file", folder_}, 2), HasSubstr("is it a folder?"));
  EXPECT_THAT(refused({"--prompt-file", folder_ / "none.txt"}, 2), HasSubstr("none.txt: cannot open"));
  EXPECT_THAT(refused({"--stop", ""}, 2), HasSubstr("--stop is empty"));
  EXPECT_THAT(refused({"--temperature", "nan"}, 2), HasSubstr("--temperature"));
  EXPECT_THAT(refused({"--top-k", "-1"}, 2), HasSubstr("--top-k"));
  EXPECT_THAT(refused({"--set", "parallel.ep=2"}, 2), HasSubstr("parallel.ep = 2"));
}

// Where nobody is at standard input there is no prompt; while somebody is awaited there, Ctrl-C ends the wait.
TEST_F(TrainCli, GenerateDoesNotWaitForAPromptThatCannotCome) {
  ASSERT_EQ(Train(1, 1, "listens").exit_code, 0);
  const auto start = [&](const std::string& redirection) {
    return Process::Start({"sh", "-c", "exec \"$@\" " + redirection, "sh", kJevons, "generate", "--checkpoint",
                           folder_ / "listens", "--prompt-file", "-", "--tokens", "3"});
  };
  auto closed = start("<&-");
  ASSERT_TRUE(closed.ok());
  const ProcessResult without = closed->Wait(kTimeout);
  EXPECT_EQ(without.exit_code, 0) << without.err;

  const std::string fifo = folder_ / "nobody_writes";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  auto waits = start("0<>" + fifo);
  ASSERT_TRUE(waits.ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  kill(waits->pid(), SIGINT);
  EXPECT_EQ(waits->Wait(kTimeout).exit_code, 130);
}

// Text is there while it is made, and Ctrl-C ends it with all of it.
TEST_F(TrainCli, GenerateStreamsUntilItIsInterrupted) {
  ASSERT_EQ(Train(1, 1, "streams").exit_code, 0);
  const std::string out = folder_ / "streamed.txt";
  auto process = Process::Start({"sh", "-c", "exec \"$@\" > " + out, "sh", kJevons, "generate", "--checkpoint",
                                 folder_ / "streams", "--prompt", "In the", "--tokens", "25", "--count", "1000000"});
  ASSERT_TRUE(process.ok());
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  const auto shown = [&] { return fs::exists(out) ? fs::file_size(out) : 0; };
  while (shown() < 40 && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_GE(shown(), 40u);
  kill(process->pid(), SIGINT);
  const ProcessResult result = process->Wait(kTimeout);
  EXPECT_EQ(result.exit_code, 130) << result.err;
  EXPECT_THAT(result.err, HasSubstr("; interrupted\n"));
  std::ifstream file(out);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(text.back(), '\n');
  EXPECT_EQ(text, ReplaceInvalidUtf8(text));
}

// Two runs, their curves, and how far they are apart; the same command finds them done.
TEST_F(TrainCli, Fp8GapComparesTwoRuns) {
  std::vector<std::string> command = {"bench",    "fp8-gap",      "--config", SourcePath("configs/presets/fp8_gap_cpu.textproto"),
                                      "--output", folder_ / "gap"};
  for (const std::string& override_text :
       {absl::StrCat("data.path=", (folder_ / "data").string()), std::string("parallel.threads=1"), std::string("model.layers=2"),
        std::string("data.sequence_length=32"), std::string("train.batch_sequences=2"),
        std::string("train.micro_batch_sequences=2"), std::string("train.steps=6"), std::string("cost.peak_tflops=1")})
    command.insert(command.end(), {"--set", override_text});
  const ProcessResult first = Jevons(command);
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_THAT(first.out, HasSubstr("fp8 (FP8) against without FP8: "));
  std::ifstream csv(folder_ / "gap/fp8_gap.csv");
  std::vector<std::string> lines;
  for (std::string line; std::getline(csv, line);) lines.push_back(line);
  ASSERT_EQ(lines.size(), 7u);
  const std::vector<std::string> last = absl::StrSplit(lines.back(), ',');
  ASSERT_EQ(last.size(), 5u);
  EXPECT_NE(last[1], last[3]) << "FP8 has changed nothing";
  EXPECT_TRUE(fs::exists(folder_ / "gap/fp8_gap.svg"));
  const ProcessResult again = Jevons(command);
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(again.out, first.out);
  command.push_back("--ablations");
  const ProcessResult ablations = Jevons(command);
  EXPECT_EQ(ablations.exit_code, 0) << ablations.err;
  for (const char* name : {"fp8 (", "blocks (", "unpromoted (", "fp32 ("})
    EXPECT_THAT(ablations.out, HasSubstr(absl::StrCat("\n", name)));
}

}  // namespace
}  // namespace jevons
