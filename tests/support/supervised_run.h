// Runs under `jevons supervise`, seen from outside: what it is doing, what its journal says, which processes it has.
#ifndef JEVONS_TESTS_SUPPORT_SUPERVISED_RUN_H_
#define JEVONS_TESTS_SUPPORT_SUPERVISED_RUN_H_

#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/support/train_cli.h"

namespace jevons {

using Json = nlohmann::json;

class Supervise : public TrainCli {
 protected:
  static constexpr int kRanks = 2;

  static std::vector<std::string> Supervised(const std::string& output, const std::vector<std::string>& options,
                                             std::vector<std::string> overrides, int ranks = kRanks, int ep = kRanks) {
    overrides.push_back("checkpoint.interval=2");
    const std::vector<std::string> train = Command(ranks, ep, output, overrides);
    const auto program = std::find(train.begin(), train.end(), kJevons);
    std::vector<std::string> command = {kJevons, "supervise", "--launcher", absl::StrJoin(train.begin(), program, " ")};
    command.insert(command.end(), options.begin(), options.end());
    command.push_back("--");
    command.insert(command.end(), program + 1, train.end());
    return command;
  }

  static Json Status(const std::string& output) {
    const Json status = Json::parse(Jevons({"status", folder_ / output, "--json"}).out, nullptr, /*allow_exceptions=*/false);
    return status.is_object() ? status : Json{{"step", nullptr}, {"ranks", Json::array()}};
  }
  // Once all ranks train, and have made `step` steps.
  static Json WaitForStep(const std::string& output, int64_t step, size_t ranks = kRanks) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    Json status = Status(output);
    const auto trains = [&](const Json& rank) { return rank["alive"] && rank["step"] >= step; };
    while (std::chrono::steady_clock::now() < deadline &&
           !(status["ranks"].size() == ranks && std::all_of(status["ranks"].begin(), status["ranks"].end(), trains))) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      status = Status(output);
    }
    EXPECT_EQ(status["ranks"].size(), ranks) << status;
    return status;
  }

  static std::vector<Json> Events(const std::string& output, const std::string& name) {
    std::ifstream file(folder_ / output / "supervise.jsonl");
    std::vector<Json> events;
    for (std::string line; std::getline(file, line);)
      if (Json event = Json::parse(line); event["event"] == name) events.push_back(std::move(event));
    return events;
  }

  // Processes that train into `output`. Those that have just been killed get a moment.
  static int ProcessesOf(const std::string& output) {
    int count = 0;
    for (int i = 0; i < 200; ++i) {
      count = 0;
      for (const auto& entry : fs::directory_iterator("/proc")) {
        std::ifstream file(entry.path() / "cmdline");
        const std::string command{std::istreambuf_iterator<char>(file), {}};
        count += absl::StrContains(command, (folder_ / output).string() + std::string(1, '\0'));
      }
      if (count == 0) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return count;
  }
};

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_SUPERVISED_RUN_H_
