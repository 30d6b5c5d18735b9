#include "launch/supervise/agent.h"

#include <future>
#include <optional>
#include <utility>

#include "launch/supervise/agent_messages.h"

namespace jevons {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

// What is copied to disk may take long; the ranks' states go on meanwhile.
struct Copy {
  Json reply;
  std::future<absl::Status> done;
};

Json Answer(Host& host, const Json& question) {
  const std::string what = question.value("do", "");
  Json reply = {{"reply", question.at("ask")}, {"error", ""}};
  if (what == "where") {
    reply["text"] = host.WhereItIs(question.at("pid").get<int64_t>());
  } else if (what == "kill") {
    host.KillRanks();
  } else if (what == "clear") {
    host.Clear();
  } else if (what == "forget") {
    host.ForgetParts();
  } else if (what == "parts") {
    reply["parts"] = Json::array();
    for (const MemoryPart& part : host.Parts()) reply["parts"].push_back(JsonOf(part));
  } else {
    reply["error"] = "this program's agent cannot do \"" + what + "\"; give all hosts the same program";
  }
  return reply;
}

}  // namespace

void ServeAsAgent(Host& host, int in, int out) {
  LineReader reader(in);
  bool listens = WriteLine(out, {{"host", host.name()}, {"heartbeats", host.heartbeats()}});
  std::optional<Copy> copy;
  auto heard = Clock::now(), told = heard;
  for (Clock::time_point now;
       listens && !reader.ended() && (now = Clock::now()) - heard < std::chrono::duration<double>(kAgentPatience);) {
    for (const Json& message : reader.Read(std::chrono::milliseconds(20))) {
      heard = Clock::now();
      if (!message.contains("ask")) continue;
      if (message.value("do", "") == "copy") {
        copy = Copy{{{"reply", message["ask"]}},
                    std::async(std::launch::async,
                               [&host, part = MemoryPartOf(message.at("part")),
                                partial = message.at("partial").get<std::string>()] { return host.CopyPart(part, partial); })};
      } else {
        listens = WriteLine(out, Answer(host, message));
      }
    }
    if (copy && copy->done.wait_for(std::chrono::seconds(0)) == std::future_status::ready) {
      copy->reply["error"] = std::string(copy->done.get().message());
      listens = WriteLine(out, std::exchange(copy, std::nullopt)->reply);
    }
    if (now - told < kAgentBeat) continue;
    told = now;
    Json ranks = Json::array();
    for (const RankState& state : host.Ranks()) ranks.push_back(JsonOf(state));
    listens = listens && WriteLine(out, {{"ranks", ranks}});
  }
  host.KillRanks();
}

}  // namespace jevons
