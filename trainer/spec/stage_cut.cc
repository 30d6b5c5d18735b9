#include "trainer/spec/stage_cut.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace jevons {
namespace {

constexpr int64_t kMostStages = 4096;

// What a unit that no cut divides costs one token: the layers of the main model, then everything behind them. The products with
// weights are counted; attention's core is every layer's.
std::vector<double> UnitCosts(const ModelConfig& model) {
  std::vector<double> costs(static_cast<size_t>(model.layers()) + 1, 0.0);
  double head = 0;
  for (const ParamSpec& spec : ParameterTable(model)) {
    if (spec.layer < 0) continue;  // looked up, not multiplied
    costs[static_cast<size_t>(std::min<int64_t>(spec.layer, model.layers()))] += static_cast<double>(spec.active);
    if (spec.part == ModelPart::kHead) head = static_cast<double>(spec.active);
  }
  costs.back() += head * static_cast<double>(model.mtp().depth());
  return costs;
}

// Layers of each stage, so that the sum of the eighth powers of their costs is least: the slowest counts first. No stage is empty
// unless there are more stages than units; the last has the last unit.
std::vector<int64_t> EvenCut(const std::vector<double>& costs, int stages) {
  const size_t n = costs.size();
  std::vector<double> before(n + 1, 0);
  for (size_t i = 0; i < n; ++i) before[i + 1] = before[i] + costs[i];
  const auto power = [&](size_t begin, size_t end) {
    const double load = (before[end] - before[begin]) / before[n] * stages, square = load * load, fourth = square * square;
    return fourth * fourth;
  };
  constexpr double kNever = std::numeric_limits<double>::infinity();
  std::vector<double> best(n + 1, kNever);
  best[0] = 0;
  std::vector<std::vector<size_t>> from(static_cast<size_t>(stages), std::vector<size_t>(n + 1, 0));
  const size_t fewest = from.size() > n ? 0 : 1;  // units of a stage
  for (size_t s = 0; s < from.size(); ++s) {
    std::vector<double> next(n + 1, kNever);
    const bool last = s + 1 == from.size();
    for (size_t end = last ? n : fewest; end <= (last ? n : n - 1); ++end) {
      for (size_t begin = 0; begin + (last ? 1 : fewest) <= end; ++begin) {
        if (const double sum = best[begin] + power(begin, end); sum < next[end]) {
          next[end] = sum;
          from[s][end] = begin;
        }
      }
    }
    best = next;
  }
  std::vector<int64_t> layers(static_cast<size_t>(stages));
  for (size_t s = layers.size(), end = n; s-- > 0;) {
    const size_t begin = from[s][end];
    layers[s] = static_cast<int64_t>(std::min(end, n - 1) - std::min(begin, n - 1));  // the last unit is no layer
    end = begin;
  }
  return layers;
}

// One part of the text: letters, perhaps a number of layers, perhaps "*" and how many such stages.
struct PartText {
  bool embedding = false, mtp = false, head = false;
  int64_t layers = 0, copies = 1;
};
std::optional<PartText> ParsePart(absl::string_view text) {
  PartText part;
  std::string digits;
  bool repeats = false;
  const auto number = [](const std::string& of) {
    int64_t value = -1;
    return absl::SimpleAtoi(of, &value) && value <= kMostStages ? value : -1;
  };
  for (const char c : text) {
    if (c >= '0' && c <= '9') {
      digits += c;
    } else if (c == '*' && !repeats && !digits.empty()) {
      part.layers = number(digits);
      digits.clear();
      repeats = true;
    } else if (c == 'E' && digits.empty() && !repeats && !part.embedding) {
      part.embedding = true;
    } else if (c == 'M' && !part.mtp && !part.head) {
      part.mtp = true;
    } else if (c == 'H' && !part.head) {
      part.head = true;
    } else {
      return std::nullopt;
    }
  }
  if (repeats && digits.empty()) return std::nullopt;
  if (!digits.empty()) (repeats ? part.copies : part.layers) = number(digits);
  if (part.layers < 0 || part.copies < 1 || text.empty()) return std::nullopt;
  return part;
}

}  // namespace

absl::StatusOr<std::vector<StagePart>> CutIntoStages(const ModelConfig& model, int stages, const std::string& text) {
  const int64_t L = model.layers();
  std::vector<int64_t> layers = EvenCut(UnitCosts(model), stages);
  if (!text.empty()) {
    const std::string even = absl::StrJoin(layers, "|");
    const auto wrong = [&](const std::string& what) {
      return UsageError(absl::StrFormat(
          "parallel.stages = \"%s\": %s. Write the number of layers of each stage: here %d stages that add up to %d "
          "layers, such as \"%s\"",
          text, what, stages, L, even));
    };
    layers.clear();
    const std::vector<std::string> parts = absl::StrSplit(text, '|');
    for (size_t i = 0; i < parts.size(); ++i) {
      const std::optional<PartText> part = ParsePart(parts[i]);
      if (!part) return wrong(absl::StrCat("\"", parts[i], "\" is no stage"));
      if (part->embedding && i > 0) return wrong("E belongs to the first stage");
      if ((part->mtp || part->head) && i + 1 < parts.size()) return wrong("M and H belong to the last stage");
      if (part->mtp && model.mtp().depth() == 0) return wrong("M, but model.mtp.depth is 0");
      if (part->copies > 1 && (part->embedding || part->head || part->mtp)) return wrong("E, M and H are in one stage each");
      layers.insert(layers.end(), static_cast<size_t>(part->copies), part->layers);
    }
    int64_t sum = 0;
    for (const int64_t count : layers) sum += count;
    if (static_cast<int64_t>(layers.size()) != stages) return wrong(absl::StrCat("that is ", layers.size(), " stages"));
    if (sum != L) return wrong(absl::StrCat("that is ", sum, " layers"));
  }
  std::vector<StagePart> result;
  int64_t begin = 0;
  for (size_t s = 0; s < layers.size(); begin += layers[s], ++s)
    result.push_back({.layers = {begin, begin + layers[s]}, .first = s == 0, .last = s + 1 == layers.size()});
  return result;
}

std::string StagesText(const std::vector<StagePart>& parts) {
  std::vector<std::string> texts;
  for (size_t s = 0, same; s < parts.size(); s += same) {
    for (same = 1; s + same < parts.size() && parts[s + same].layers.size() == parts[s].layers.size(); ++same) continue;
    const std::string layers = absl::StrCat(parts[s].layers.size());
    texts.push_back(same == 1 ? layers : absl::StrCat(layers, "*", same));
  }
  return absl::StrJoin(texts, "|");
}

bool Holds(const StagePart& part, int layer, const ModelConfig& model) {
  if (layer < 0) return part.first || (part.last && model.mtp().depth() > 0);
  if (layer >= model.layers()) return part.last;
  return layer >= part.layers.begin && layer < part.layers.end;
}

std::string StageMapText(const std::vector<StagePart>& parts, const ModelConfig& model) {
  std::string text;
  for (size_t s = 0; s < parts.size(); ++s) {
    const StagePart& part = parts[s];
    std::vector<std::string> content;
    if (part.first) content.push_back("embedding");
    if (part.layers.size() == 1) content.push_back(absl::StrCat("layer ", part.layers.begin));
    if (part.layers.size() > 1) content.push_back(absl::StrCat("layers ", part.layers.begin, " to ", part.layers.end - 1));
    if (part.last && model.mtp().depth() > 0)
      content.push_back(model.mtp().depth() == 1 ? "MTP module" : absl::StrCat(model.mtp().depth(), " MTP modules"));
    if (part.last) content.push_back("head");
    if (content.empty()) content.push_back("nothing");
    absl::StrAppend(&text, "stage ", s, ": ", absl::StrJoin(content, ", "), "\n");
  }
  return text;
}

}  // namespace jevons
