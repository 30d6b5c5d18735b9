#include "launch/supervise/agent_messages.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace jevons {

using Json = nlohmann::json;

namespace {

// Throws where it is no integer: not every number with a fraction has one.
template <typename T>
void Take(const Json& json, const char* name, T& value) {
  value = static_cast<T>(json.at(name).get_ref<const Json::number_integer_t&>());
}

}  // namespace

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
          {"stopped", s.stopped},
          {"silent", s.silent},
          {"host", s.host}};
}

RankState RankStateOf(const Json& json) {
  RankState s;
  Take(json, "rank", s.rank);
  Take(json, "pid", s.pid);
  Take(json, "start", s.process_start);
  Take(json, "changed", s.changed);
  Take(json, "alive", s.alive);
  Take(json, "step", s.step);
  Take(json, "steps", s.steps);
  Take(json, "stage", s.stage);
  int64_t phase = 0;
  Take(json, "phase", phase);
  s.phase = PhaseNumbered(phase);
  json.at("action").get_to(s.action);
  Take(json, "exit", s.exit_code);
  json.at("fault").get_to(s.at_fault);
  json.at("silence").get_to(s.longest_silence);
  json.at("wait").get_to(s.longest_wait);
  json.at("lives").get_to(s.lives);
  json.at("stopped").get_to(s.stopped);
  json.at("silent").get_to(s.silent);
  Take(json, "host", s.host);
  return s;
}

Json JsonOf(const MemoryPart& p) {
  return {{"step", p.step}, {"epoch", p.epoch}, {"rank", p.rank}, {"ranks", p.ranks}, {"path", p.path}};
}

MemoryPart MemoryPartOf(const Json& json) {
  MemoryPart p;
  Take(json, "step", p.step);
  Take(json, "epoch", p.epoch);
  Take(json, "rank", p.rank);
  Take(json, "ranks", p.ranks);
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
