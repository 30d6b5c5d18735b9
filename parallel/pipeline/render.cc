#include "parallel/pipeline/render.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace jevons {
namespace {

constexpr int kAround = 3;  // cells left and right of a mark; ranks above and below

const Position* MarkOf(const std::vector<Position>& marks, int rank) {
  const auto mark = std::find_if(marks.begin(), marks.end(), [&](const Position& m) { return m.rank == rank; });
  return mark == marks.end() ? nullptr : &*mark;
}

std::string Cell(const std::vector<Action>& list, int index, bool marked) {
  const bool past = index >= static_cast<int>(list.size());
  if (!marked) return past ? "" : ToString(list[index]);
  return absl::StrCat(">>", past ? "end" : ToString(list[index]), "<<");
}

std::string Label(const Action& action, bool with_stage) {
  if (with_stage) return ToString(action);
  std::string label;
  for (const Task& task : action.tasks()) {
    absl::StrAppend(&label, label.empty() ? "" : "&", Name(task.kind), task.micro_batch);
  }
  return label;
}

// Writes `action` over the columns [begin, end) of `line`, with the longest label that fits; the last column
// parts it from the next.
void Draw(const Action& action, bool with_stage, size_t begin, size_t end, std::string& line) {
  if (end <= begin) return;
  const size_t cells = end - begin;
  std::string text = Label(action, with_stage);
  if (text.size() >= cells) text = Label(action, false);
  if (text.size() >= cells) text = action.overlapped() ? "X" : std::string(Name(action.first().kind));
  if (cells > 1) {
    text.resize(cells - 1, '-');
    text.push_back(' ');
  }
  line.replace(begin, cells, text);
}

}  // namespace

std::string RenderGrid(const Schedule& schedule, const std::vector<Position>& marks) {
  std::string text;
  for (int rank = 0; rank < schedule.ranks(); ++rank) {
    const Position* mark = MarkOf(marks, rank);
    const bool near =
        std::any_of(marks.begin(), marks.end(), [&](const Position& m) { return std::abs(m.rank - rank) <= kAround; });
    if (!near) continue;
    const auto& list = schedule.actions[rank];
    const int focus = mark != nullptr ? mark->index : marks[0].index;
    const int begin = std::max(focus - kAround, 0);
    const int end = std::min<int>(focus + kAround + 1, list.size() + (mark != nullptr));
    absl::StrAppendFormat(&text, "  rank %2d |%s", rank, begin > 0 ? " ..." : "");
    for (int i = begin; i < end; ++i) {
      absl::StrAppendFormat(&text, " %-8s", Cell(list, i, mark != nullptr && i == focus));
    }
    absl::StrAppend(&text, end < static_cast<int>(list.size()) ? " ...\n" : "\n");
  }
  return text;
}

std::string RenderTimeline(const Schedule& schedule, const Timeline& timeline, int width) {
  std::string text;
  const double scale = timeline.makespan > 0 ? width / timeline.makespan : 0;
  const bool with_stage = schedule.routes.size() > 1 || schedule.stages > schedule.ranks();
  for (int rank = 0; rank < schedule.ranks(); ++rank) {
    std::string line(width, '.');
    for (size_t i = 0; i < schedule.actions[rank].size(); ++i) {
      const Action& action = schedule.actions[rank][i];
      const TimeSpan& interval = timeline.ranks[rank].actions[i];
      if (action.communicates()) continue;
      Draw(action, with_stage, std::llround(interval.begin * scale), std::llround(interval.end * scale), line);
    }
    absl::StrAppendFormat(&text, "rank %2d |%s\n", rank, line);
  }
  return text;
}

}  // namespace jevons
