#include "trainer/plan/search.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/base/status.h"
#include "trainer/plan/layout_fields.h"

namespace jevons {
namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;

// In how many of the fields that a search varies.
int Differences(const Layout& a, const Layout& b) {
  return (a.pp != b.pp) + (a.ep != b.ep) + (a.schedule != b.schedule) + (a.virtual_stages != b.virtual_stages) +
         (a.micro_batch != b.micro_batch) + (a.recompute != b.recompute);
}

std::vector<Layout> Layouts(const ModelShape& model, const Layout& base) {
  std::vector<Layout> layouts;
  const int64_t experts = model.moe() ? model.experts : 1;
  for (int64_t pp = 1; pp <= std::min<int64_t>(base.gpus, model.layers); pp *= 2) {
    for (int64_t ep = 1; ep <= std::min(experts, base.gpus / pp); ++ep) {
      if (experts % ep != 0) continue;
      for (const ScheduleKind schedule : kAllScheduleKinds) {
        if (pp == 1 && schedule != ScheduleKind::k1F1B) continue;
        for (const int64_t stages : {1, 2, 4}) {
          if ((schedule == ScheduleKind::kInterleaved) != (stages > 1)) continue;
          for (const int64_t micro_batch : {1, 2, 4}) {
            for (const Recompute recompute : {Recompute::kElementwise, Recompute::kSelective, Recompute::kFull}) {
              Layout layout = base;
              layout.pp = pp;
              layout.ep = ep;
              layout.schedule = schedule;
              layout.virtual_stages = stages;
              layout.micro_batch = micro_batch;
              layout.recompute = recompute;
              if (Differences(layout, base) > 0) layout.cut.clear();
              layouts.push_back(layout);
            }
          }
        }
      }
    }
  }
  return layouts;
}

// The constraint without its numbers, so that equal reasons count together.
std::string Kind(const absl::Status& status) {
  const std::string message(status.message());
  const size_t end = message.find(" = ");
  return "illegal: " + message.substr(0, end);
}

// Bytes that parameters alone need at least, without simulating anything.
double LeastState(const ModelShape& model, const Layout& layout) {
  const int copies = layout.schedule == ScheduleKind::kDualPipe || layout.schedule == ScheduleKind::kDualPipeV ? 2 : 1;
  const bool twice = layout.schedule == ScheduleKind::kDualPipe;
  StageParameters p = ParametersOf(
      {.dense_blocks = model.dense_layers, .moe_blocks = model.layers - model.dense_layers, .embedding = true, .tail = true},
      model, layout);
  const double share = (twice ? 2.0 : 1.0) / static_cast<double>(layout.pp);
  p.dense *= share;
  p.experts *= share;
  p.coded *= share;
  return StateMemory(p, layout, copies).total();
}

void Reject(const std::string& reason, const std::string& example, double excess, SearchResult& result) {
  Rejection& rejection = result.rejected[reason];
  if (rejection.count++ == 0 || excess < rejection.excess) {
    rejection.example = example;
    rejection.excess = excess;
  }
}

}  // namespace

SearchResult SearchLayouts(const RunConfig& config, const ClusterConfig& cluster, const Constants& constants) {
  SearchResult result;
  const ModelShape model = ShapeOf(config.model());
  // A cut that does not fit is the config's fault alone: no other layout has it.
  const Layout base = CutLayoutOf(config, cluster.gpus()).value_or(LayoutOf(config, cluster.gpus()));
  const double limit = (cluster.gpu().hbm_gib() - cluster.gpu().reserved_gib()) * kGiB;
  for (Layout& layout : Layouts(model, base)) {
    ++result.tried;
    const absl::Status legal = CheckLayout(layout, model, cluster);
    if (!legal.ok()) {
      Reject(Kind(legal), absl::StrCat(layout.ToString(), ": ", legal.message()), 0, result);
      continue;
    }
    const double least = LeastState(model, layout);
    if (least > limit) {
      Reject("memory: weights, gradients and optimizer state alone", layout.ToString(), least - limit, result);
      continue;
    }
    const absl::StatusOr<Plan> plan = MakePlan(model, layout, cluster, constants);
    if (!plan.ok()) {
      Reject(Kind(plan.status()), absl::StrCat(layout.ToString(), ": ", plan.status().message()), 0, result);
      continue;
    }
    layout.cut = plan->step.cut;
    const double memory = plan->memory[plan->fullest].total();
    std::vector<int> ranks(plan->memory.size());
    std::iota(ranks.begin(), ranks.end(), 0);
    std::stable_sort(ranks.begin(), ranks.end(), [&](int a, int b) { return plan->memory[a].total() > plan->memory[b].total(); });
    if (memory > limit) {
      Reject("memory: with activations", layout.ToString(), memory - limit, result);
      continue;
    }
    result.fitting.push_back({.layout = layout,
                              .step_seconds = plan->step_seconds,
                              .dollars_per_million_tokens = plan->dollars(1e6),
                              .mfu = plan->mfu(true),
                              .memory = memory,
                              .fullest_first = std::move(ranks),
                              .counted = {},
                              .refusal = TrainRefusal(config, layout),
                              .assignments = LayoutAssignments(config, layout)});
  }
  std::stable_sort(result.fitting.begin(), result.fitting.end(), [](const Candidate& a, const Candidate& b) {
    return std::pair(!a.refusal.empty(), a.step_seconds) < std::pair(!b.refusal.empty(), b.step_seconds);
  });
  return result;
}

std::vector<Candidate*> ByNearness(SearchResult& result, const Layout& base) {
  std::vector<Candidate*> candidates;
  for (Candidate& c : result.fitting)
    if (Differences(c.layout, base) > 0) candidates.push_back(&c);
  std::stable_sort(candidates.begin(), candidates.end(), [&](const Candidate* a, const Candidate* b) {
    return std::pair(!a->refusal.empty(), Differences(a->layout, base)) <
           std::pair(!b->refusal.empty(), Differences(b->layout, base));
  });
  return candidates;
}

absl::Status FitStatus(const SearchResult& result) {
  const Candidate* least = nullptr;
  for (const Candidate& c : result.fitting) {
    if (!c.overfull()) return absl::OkStatus();
    if (least == nullptr || c.counted->bytes < least->counted->bytes) least = &c;
  }
  if (least != nullptr)
    return UsageError(absl::StrFormat(
        "no layout fits once its memory is counted: %s comes nearest with %.1f GiB on a GPU; more GPUs, or more memory on each",
        least->layout.ToString(), least->counted->bytes / kGiB));
  const Rejection* nearest = nullptr;
  for (const auto& [reason, rejection] : result.rejected)
    if (rejection.excess > 0 && (nearest == nullptr || rejection.excess < nearest->excess)) nearest = &rejection;
  if (nearest == nullptr)
    return UsageError("no layout is legal for this model, batch and number of GPUs; --search lists the reasons");
  return UsageError(absl::StrFormat(
      "no layout fits: %s comes nearest, at least %.1f GiB too much on its fullest GPU; more GPUs, or more memory on each",
      nearest->example, nearest->excess / kGiB));
}

std::string SetText(const Candidate& candidate) {
  return absl::StrJoin(candidate.assignments, " ", [](std::string* out, const std::string& assignment) {
    const bool pipes = absl::StrContains(assignment, '|');  // which a shell would read
    absl::StrAppend(out, "--set ", pipes ? absl::StrCat("'", assignment, "'") : assignment);
  });
}

std::string SearchText(const SearchResult& result, const Layout& base, const ClusterConfig& cluster, int shown) {
  std::string text = absl::StrFormat(
      "%d layouts tried on %d %s, %d fit by formulas\n\nrank   $/M tokens  step s    MFU    GiB  counted  train  layout\n",
      result.tried, base.gpus, cluster.name(), result.fitting.size());
  std::string lines, refusal;
  int overfull = 0;
  for (size_t i = 0; i < result.fitting.size(); ++i) {
    const Candidate& c = result.fitting[i];
    const bool is_base = Differences(c.layout, base) == 0;
    overfull += c.overfull();
    if (static_cast<int>(i) >= shown && !is_base) continue;
    const std::string counted = c.counted ? absl::StrFormat("%.1f%s", c.counted->bytes / kGiB, c.counted->fits ? "" : "!") : "-";
    absl::StrAppendFormat(&text, "%4d   %10.4f %7.3f %5.1f%% %6.1f %8s  %-5s  %s%s\n", i + 1, c.dollars_per_million_tokens,
                          c.step_seconds, 100 * c.mfu, c.memory / kGiB, counted, c.refusal.empty() ? "yes" : "no",
                          c.layout.ToString(), is_base ? "   <- the config's" : "");
    if (refusal.empty() && !c.refusal.empty()) refusal = absl::StrFormat("%d is refused: %s", i + 1, c.refusal);
    absl::StrAppendFormat(&lines, "%4d   %s\n", i + 1, is_base ? "as the config is" : SetText(c));
  }
  if (!refusal.empty()) absl::StrAppend(&text, "train: no = `jevons train` refuses the layout; ", refusal, "\n");
  text += "GiB: of the fullest rank, by formulas; counted: by the run's own step, as `jevons plan` of one layout does\n";
  if (overfull > 0)
    absl::StrAppendFormat(
        &text, "!: does not fit once counted (of the first rank that does not), behind those that do: %d layouts\n", overfull);
  if (!lines.empty()) absl::StrAppend(&text, "\nwhat makes these layouts, for the command lines of plan and train\n", lines);
  if (!result.rejected.empty()) text += "\nout    reason; the nearest\n";
  for (const auto& [reason, r] : result.rejected) {
    absl::StrAppendFormat(&text, "%5d  %s; %s%s\n", r.count, reason, r.example,
                          r.excess > 0 ? absl::StrFormat(", %.1f GiB too much", r.excess / kGiB) : "");
  }
  return text;
}

}  // namespace jevons
