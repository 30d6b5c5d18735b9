#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "configs/cluster.h"
#include "configs/load.h"
#include "configs/validate.h"
#include "kernels/base/check.h"
#include "parallel/pipeline/action.h"
#include "parallel/pipeline/validate.h"
#include "tests/fuzz/targets.h"
#include "tests/support/tiny_model.h"
#include "trainer/spec/stage_cut.h"

namespace jevons {
namespace {

// A config, then, each after a line of "--", overrides.
bool Run(const std::string& input) {
  std::vector<std::string> parts = absl::StrSplit(input, "\n--\n");
  const std::string text = parts.front();
  parts.erase(parts.begin());
  const auto config = ParseRunConfig(text, "run.textproto", parts);
  if (!config.ok()) return false;
  constexpr int kRanks = 8;
  (void)Validate(*config, kRanks);
  const std::string resolved = ResolvedText(*config);
  const auto again = ParseRunConfig(resolved, "resolved", {});
  JEVONS_CHECK(again.ok(), "%s\n%s", std::string(again.status().message()).c_str(), resolved.c_str());
  JEVONS_CHECK(ResolvedText(*again) == resolved, "%s", resolved.c_str());
  return true;
}

bool Cluster(const std::string& input) { return ParseCluster(input, "cluster.textproto").ok(); }

// u8 layers, u8 stages, text.
bool Stages(const std::string& input) {
  if (input.size() < 2) return false;
  ModelConfig model = TinyModel();
  model.set_layers(std::max<int>(1, static_cast<uint8_t>(input[0])));
  const int stages = std::max<int>(1, static_cast<uint8_t>(input[1]));
  const auto parts = CutIntoStages(model, stages, input.substr(2));
  if (!parts.ok()) return false;
  JEVONS_CHECK(static_cast<int>(parts->size()) == stages);
  int64_t layers = 0;
  for (const StagePart& part : *parts) {
    JEVONS_CHECK(part.layers.begin == layers && part.layers.end >= layers, "%s", input.c_str() + 2);
    layers = part.layers.end;
  }
  JEVONS_CHECK(layers == model.layers(), "%s", input.c_str() + 2);
  (void)StageMapText(*parts, model);
  return true;
}

bool ActionText(const std::string& input) {
  const auto action = ParseAction(input);
  if (!action.ok()) return false;
  const auto again = ParseAction(ToString(*action));
  JEVONS_CHECK(again.ok() && *again == *action, "%s", input.c_str());
  return true;
}

bool ScheduleText(const std::string& input) {
  const auto schedule = ParseSchedule(input);
  if (!schedule.ok()) return false;
  const auto again = ParseSchedule(ToString(*schedule));
  JEVONS_CHECK(again.ok() && *again == *schedule, "%s", input.c_str());
  return Validate(*schedule).ok();
}

constexpr FuzzTarget kTargets[] = {
    {"run", Run}, {"cluster", Cluster}, {"stages", Stages}, {"action", ActionText}, {"schedule", ScheduleText}};

}  // namespace

std::span<const FuzzTarget> ConfigTargets() { return kTargets; }

}  // namespace jevons
