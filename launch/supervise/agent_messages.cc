#include "launch/supervise/agent_messages.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace jevons {

using Json = nlohmann::json;

Json JsonOf(const RankState& s) {
  return {{"rank", s.rank},
          {"pid", s.pid},
          {"start", s.process_start},
          {"changed", s.changed},
          {"alive", s.alive},
          {"step", s.step},
          {"steps", s.steps},
          {"stage", static_cast<int>(s.stage)},
          {"phase", static_cast<int>(s.phase)},
          {"action", s.action},
          {"exit", s.exit_code},
          {"fault", s.at_fault},
          {"silence", s.longest_silence},
          {"wait", s.longest_wait},
          {"lives", s.lives},
          {"stopped", s.stopped}};
}

RankState RankStateOf(const Json& json) {
  RankState s;
  json.at("rank").get_to(s.rank);
  json.at("pid").get_to(s.pid);
  json.at("start").get_to(s.process_start);
  json.at("changed").get_to(s.changed);
  json.at("alive").get_to(s.alive);
  json.at("step").get_to(s.step);
  json.at("steps").get_to(s.steps);
  s.stage = static_cast<HeartbeatStage>(json.at("stage").get<int>());
  s.phase = PhaseNumbered(json.at("phase").get<int>());
  json.at("action").get_to(s.action);
  json.at("exit").get_to(s.exit_code);
  json.at("fault").get_to(s.at_fault);
  json.at("silence").get_to(s.longest_silence);
  json.at("wait").get_to(s.longest_wait);
  json.at("lives").get_to(s.lives);
  json.at("stopped").get_to(s.stopped);
  return s;
}

Json JsonOf(const MemoryPart& p) {
  return {{"step", p.step}, {"epoch", p.epoch}, {"rank", p.rank}, {"ranks", p.ranks}, {"path", p.path}};
}

MemoryPart MemoryPartOf(const Json& json) {
  MemoryPart p;
  json.at("step").get_to(p.step);
  json.at("epoch").get_to(p.epoch);
  json.at("rank").get_to(p.rank);
  json.at("ranks").get_to(p.ranks);
  json.at("path").get_to(p.path);
  return p;
}

std::vector<Json> LineReader::Read(std::chrono::milliseconds wait) {
  pollfd stream{fd_, POLLIN, 0};
  while (!ended_ && poll(&stream, 1, static_cast<int>(wait.count())) > 0) {
    char buffer[1 << 16];
    const ssize_t bytes = read(fd_, buffer, sizeof buffer);
    if (bytes == 0 || (bytes < 0 && errno != EINTR)) ended_ = true;
    if (bytes > 0) rest_.append(buffer, static_cast<size_t>(bytes));
    wait = {};  // what else is there now
  }
  std::vector<Json> objects;
  size_t begin = 0;
  for (size_t end; (end = rest_.find('\n', begin)) != std::string::npos; begin = end + 1)
    if (Json json = Json::parse(rest_.substr(begin, end - begin), nullptr, /*allow_exceptions=*/false); json.is_object())
      objects.push_back(std::move(json));
  rest_.erase(0, begin);
  return objects;
}

bool WriteLine(int fd, const Json& json) {
  const std::string line = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  for (size_t done = 0; done < line.size();) {
    const ssize_t bytes = write(fd, line.data() + done, line.size() - done);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) return false;
    done += static_cast<size_t>(bytes);
  }
  return true;
}

}  // namespace jevons
