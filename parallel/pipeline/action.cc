#include "parallel/pipeline/action.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace jevons {
namespace {

constexpr std::array<const char*, 10> kNames = {"F", "B", "I", "W", "R", "G", "SF", "RF", "SB", "RB"};

absl::Status NotAnAction(absl::string_view text) {
  return UsageError(
      absl::StrFormat("'%s' is no action: write stage, kind (F, B, I, W, R, G, SF, RF, SB, RB) and micro-batch, as in 2F0; "
                      "or a forward and a backward overlapped, as in 2F0&5B1",
                      text));
}

bool TakeNumber(absl::string_view& text, int& number) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  if (digits == 0 || !absl::SimpleAtoi(text.substr(0, digits), &number)) return false;
  text.remove_prefix(digits);
  return true;
}

bool ParseTask(absl::string_view text, Task& task) {
  if (!TakeNumber(text, task.stage)) return false;
  const size_t letters = std::min(text.find_first_of("0123456789"), text.size());
  const auto name = std::find(kNames.begin(), kNames.end(), text.substr(0, letters));
  if (name == kNames.end()) return false;
  task.kind = static_cast<TaskKind>(name - kNames.begin());
  text.remove_prefix(letters);
  return TakeNumber(text, task.micro_batch) && text.empty();
}

using Words = std::vector<absl::string_view>;

absl::Status ParseHeader(const Words& words, Schedule& schedule) {
  if (!schedule.name.empty()) return UsageError("a second schedule: write one in a file");
  schedule.forward_only = words.size() == 7 && words[6] == "forward_only";
  const bool shaped = words.size() == (schedule.forward_only ? 7 : 6) && words[2] == "stages" && words[4] == "micro_batches";
  if (!shaped || !absl::SimpleAtoi(words[3], &schedule.stages) || !absl::SimpleAtoi(words[5], &schedule.micro_batches)) {
    return UsageError(absl::StrFormat("'%s': write 'schedule NAME stages N micro_batches N', and forward_only where it is",
                                      absl::StrJoin(words, " ")));
  }
  schedule.name = std::string(words[1]);
  return absl::OkStatus();
}

absl::Status ParseRoute(const Words& words, Schedule& schedule) {
  std::vector<int>& route = schedule.routes.emplace_back();
  for (size_t i = 1; i < words.size(); ++i) {
    int rank;
    if (!absl::SimpleAtoi(words[i], &rank)) {
      return UsageError(absl::StrFormat("'%s' in a route is no rank: write a number", words[i]));
    }
    route.push_back(rank);
  }
  return absl::OkStatus();
}

absl::Status ParseRank(const Words& words, Schedule& schedule) {
  std::vector<Action>& actions = schedule.actions.emplace_back();
  for (size_t i = 1; i < words.size(); ++i) {
    JEVONS_ASSIGN_OR_RETURN(Action action, ParseAction(words[i]));
    actions.push_back(action);
  }
  return absl::OkStatus();
}

absl::Status ParseLine(const Words& words, Schedule& schedule) {
  if (words[0] == "schedule") return ParseHeader(words, schedule);
  if (words[0] == "route") return ParseRoute(words, schedule);
  if (words[0] == "rank") return ParseRank(words, schedule);
  return UsageError(absl::StrFormat("'%s': a line begins with schedule, route, rank or #", words[0]));
}

template <typename Predicate>
bool AnyAction(const Schedule& schedule, Predicate predicate) {
  return std::any_of(schedule.actions.begin(), schedule.actions.end(),
                     [&](const std::vector<Action>& list) { return std::any_of(list.begin(), list.end(), predicate); });
}

}  // namespace

absl::string_view Name(TaskKind kind) { return kNames[static_cast<size_t>(kind)]; }

Action Action::Overlap(const Task& forward, const Task& backward) {
  Action action;
  action.tasks_ = {forward, backward};
  action.count_ = 2;
  return action;
}

std::string ToString(const Task& task) { return absl::StrCat(task.stage, Name(task.kind), task.micro_batch); }

std::string ToString(const Action& action) {
  return absl::StrJoin(action.tasks(), "&", [](std::string* out, const Task& task) { absl::StrAppend(out, ToString(task)); });
}

absl::StatusOr<Action> ParseAction(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> halves = absl::StrSplit(text, absl::MaxSplits('&', 1));
  Task first, second;
  if (!ParseTask(halves.first, first)) return NotAnAction(text);
  if (halves.first.size() == text.size()) return Action(first);
  if (!ParseTask(halves.second, second) || first.kind != TaskKind::kForward || !MakesInputGradient(second.kind)) {
    return NotAnAction(text);
  }
  return Action::Overlap(first, second);
}

std::vector<int> Schedule::StagesOf(int rank) const {
  std::vector<int> held;
  for (int stage = 0; stage < stages; ++stage) {
    if (std::any_of(routes.begin(), routes.end(), [&](const auto& route) { return route[stage] == rank; })) {
      held.push_back(stage);
    }
  }
  return held;
}

int Schedule::FirstOf(int stage, int rank) const {
  size_t route = 0;
  while (routes[route][stage] != rank) ++route;
  return static_cast<int>(static_cast<int64_t>(route) * micro_batches / static_cast<int64_t>(routes.size()));
}

int64_t Schedule::action_count() const {
  int64_t count = 0;
  for (const auto& list : actions) count += static_cast<int64_t>(list.size());
  return count;
}

bool Schedule::has_pairs(int rank) const {
  return std::any_of(actions[rank].begin(), actions[rank].end(), [](const Action& action) { return action.overlapped(); });
}

bool Schedule::communicates() const {
  return AnyAction(*this, [](const Action& action) { return action.communicates(); });
}

bool Schedule::reduces() const {
  return AnyAction(*this, [](const Action& action) { return action.first().kind == TaskKind::kReduce; });
}

std::string ToString(const Schedule& schedule) {
  std::string text = absl::StrFormat("schedule %s stages %d micro_batches %d%s\n", schedule.name, schedule.stages,
                                     schedule.micro_batches, schedule.forward_only ? " forward_only" : "");
  for (const auto& route : schedule.routes) absl::StrAppend(&text, "route ", absl::StrJoin(route, " "), "\n");
  for (const auto& list : schedule.actions) {
    absl::StrAppend(&text, "rank");
    for (const Action& action : list) absl::StrAppend(&text, " ", ToString(action));
    absl::StrAppend(&text, "\n");
  }
  return text;
}

absl::StatusOr<Schedule> ParseSchedule(absl::string_view text) {
  Schedule schedule;
  int line_number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    const Words words = absl::StrSplit(line.substr(0, line.find('#')), absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.empty()) continue;
    if (absl::Status status = ParseLine(words, schedule); !status.ok()) {
      return Annotate(status, absl::StrFormat("line %d", line_number));
    }
  }
  if (schedule.name.empty()) return UsageError("no schedule: write 'schedule NAME stages N micro_batches N' first");
  return schedule;
}

}  // namespace jevons
