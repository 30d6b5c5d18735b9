#include "trainer/run/step_judge.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/base/machine.h"
#include "parallel/comm/heartbeat.h"
#include "parallel/comm/places.h"
#include "trainer/checkpoint/agreement.h"

namespace jevons {
namespace {

using Figures = google::protobuf::RepeatedField<double>;

// Why `value` is a spike after those before it, or nothing.
std::string Spike(const char* name, double value, const Figures& before, double sigmas) {
  const auto count = static_cast<double>(before.size());
  double sum = 0, squares = 0;
  for (const double x : before) sum += x;
  const double mean = sum / count;
  for (const double x : before) squares += (x - mean) * (x - mean);
  const double deviation = std::sqrt(squares / (count - 1));
  if (value <= mean + sigmas * deviation) return "";
  return absl::StrFormat("the %s %.6g is %.3g standard deviations above the last %d steps' mean of %.6g", name, value,
                         (value - mean) / deviation, before.size(), mean);
}

// To the last `most`.
void Shorten(Figures& figures, int64_t most) {
  if (const int64_t excess = figures.size() - most; excess > 0) figures.erase(figures.begin(), figures.begin() + excess);
}

// Everything that the ranks have agreed on, to the bit.
std::array<uint64_t, 4> BitsOf(const StepResult& result) {
  const StepStats& stats = result.stats;
  return {std::bit_cast<uint64_t>(stats.loss), std::bit_cast<uint64_t>(stats.mtp_loss),
          std::bit_cast<uint64_t>(stats.balance_loss), std::bit_cast<uint64_t>(stats.gradient_norm)};
}

}  // namespace

std::string StepJudge::Reason(const StepResult& result) const {
  if (!result.non_finite.empty()) return result.non_finite;
  const BadStepConfig& bad = config_.bad_step();
  if (bad.spike_sigmas() == 0 || history_.losses_size() < bad.spike_window()) return "";
  const std::string loss = Spike("loss", result.stats.loss, history_.losses(), bad.spike_sigmas());
  return !loss.empty() ? loss : Spike("gradient norm", result.stats.gradient_norm, history_.gradient_norms(), bad.spike_sigmas());
}

JudgedStep StepJudge::Run(const StepPlan& plan, const SampleBatch& batch) {
  const BadStepPolicy policy = config_.bad_step().policy();
  const int64_t interval = config_.verify_replicas();
  if (!verified_) verified_ = plan.step;  // whoever starts has the weights from the masters
  JudgedStep judged;
  StepResult result = step_.Compute(plan, batch);
  const std::string reason = Reason(result);
  const int64_t again = config_.verify_products();
  judged.status = CheckState(plan.step);
  if (!judged.status.ok()) return judged;
  if ((interval > 0 && (plan.step + 1) % interval == 0) || (!reason.empty() && policy == REPLAY)) {
    judged.status = Annotate(CheckReplicas(plan.step), absl::StrFormat("step %d was not applied", plan.step + 1));
    if (!judged.status.ok()) return judged;
  }
  if (reason.empty()) {
    if (again > 0 && (plan.step + 1) % again == 0) judged.status = ComputeAgain(plan, batch, result, reason);
    if (!judged.status.ok()) return judged;
    judged.stats = step_.Apply(plan, std::move(result));
    Remember(judged.stats);
    if (config_.verify_state()) state_ = step_.StateHashes();
    return judged;
  }
  judged.bad = BadStep{.reason = reason, .gradient_hash = step_.GradientHash(), .in_a_row = history_.skipped_in_a_row() + 1};
  judged.stats = result.stats;
  suspect_ = plan.step - history_.skipped_in_a_row();
  const int64_t most = config_.bad_step().most_in_a_row();
  if (policy == REPLAY) judged.status = ComputeAgain(plan, batch, result, reason);
  if (policy == STOP) judged.status = NotApplied(plan, reason);
  if (judged.status.ok() && judged.bad->in_a_row > most)
    judged.status = Annotate(NotApplied(plan, reason),
                             absl::StrFormat("more bad steps in a row than train.bad_step.most_in_a_row = %d", most));
  if (judged.status.ok()) history_.set_skipped_in_a_row(judged.bad->in_a_row);
  judged.stats.seconds = step_.timer().Take();
  return judged;
}

// A difference may be as old as the last time that there was none.
absl::Status StepJudge::CheckReplicas(int64_t steps) {
  const absl::Status same = AgreeOnStatus(world_, step_.CompareReplicas());
  if (same.ok()) {
    verified_ = steps;
    return same;
  }
  suspect_ = *verified_ + 1;
  return Annotate(same, "ranks do not have the same weights");
}

// Each rank of what it alone holds: so the one that differs is the one at fault. A copy or a checkpoint made since may have the wrong bit too.
absl::Status StepJudge::CheckState(int64_t steps) {
  if (state_.empty()) return absl::OkStatus();
  const std::vector<uint64_t> now = step_.StateHashes();
  absl::Status mine;
  if (const auto [was, is] = std::mismatch(state_.begin(), state_.end(), now.begin()); was != state_.end()) {
    HeartbeatFault();
    mine = PeerLostError(absl::StrFormat(
        "rank %d (%s): %s has other bits than step %d left: memory there has lost some; start without that machine",
        world_.rank(), HostName(), step_.State()[static_cast<size_t>(was - state_.begin())].name, steps));
  }
  const absl::Status all = AgreeOnStatus(world_, mine);
  if (!all.ok()) suspect_ = steps;
  return all;
}

absl::Status StepJudge::CheckBeforeSave(int64_t steps) {
  const auto after = [&](const absl::Status& status) {
    return Annotate(status, absl::StrFormat("after step %d, of which nothing is saved", steps));
  };
  JEVONS_RETURN_IF_ERROR(after(CheckState(steps)));
  if (config_.verify_replicas() == 0 && config_.bad_step().policy() != REPLAY) return absl::OkStatus();
  return after(CheckReplicas(steps));
}

// Ok where the bits are the same: then it was not chance. `result`: of the first time, then of the second; `reason`: why it is bad, or empty.
absl::Status StepJudge::ComputeAgain(const StepPlan& plan, const SampleBatch& batch, StepResult& result,
                                     const std::string& reason) {
  const uint64_t first_hash = step_.GradientHash();
  const StepResult first = std::exchange(result, step_.Compute(plan, batch));
  if (BitsOf(first) == BitsOf(result) && step_.GradientHash() == first_hash) return absl::OkStatus();
  suspect_ = plan.step + 1;  // the weights are not at fault
  const std::array<uint64_t, 2> mine = {first.contributed, result.contributed};
  std::vector<std::array<uint64_t, 2>> all(static_cast<size_t>(world_.size()));
  world_.AllGather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)));
  const std::vector<std::string> places = PlacesOf(world_, world_.rank());
  std::vector<std::string> others;
  std::set<int> machines;
  for (size_t r = 0; r < all.size(); ++r) {
    if (all[r][0] == all[r][1]) continue;
    others.push_back(places[r]);
    machines.insert(world_.NodeOf(static_cast<int>(r)));
  }
  std::string who =
      "no rank's own contributions differ, but their sum does: what travels between ranks was damaged, or memory under it";
  if (!others.empty()) {
    const bool one = machines.size() == 1;
    if (one && mine[0] != mine[1]) HeartbeatFault();
    who = absl::StrFormat("%s contributed other bits; %s", absl::StrJoin(others, ", "),
                          one ? "examine that machine, or start without it"
                              : "one of them gave the others what was wrong, and which cannot be told: examine these machines");
  }
  world_.Barrier();  // before anyone ends the job all have told their heartbeats
  return PeerLostError(absl::StrFormat(
      "step %d was not applied: %sother bits when it was computed again from the same weights and samples. A machine is at "
      "fault, not the data: %s",
      plan.step + 1, reason.empty() ? "" : reason + ", and ", who));
}

void StepJudge::Remember(const StepStats& stats) {
  history_.set_skipped_in_a_row(0);
  const BadStepConfig& bad = config_.bad_step();
  if (bad.spike_sigmas() == 0) return;
  history_.add_losses(stats.loss);
  history_.add_gradient_norms(stats.gradient_norm);
  for (Figures* figures : {history_.mutable_losses(), history_.mutable_gradient_norms()}) Shorten(*figures, bad.spike_window());
}

std::string StepJudge::Serialize() const {
  StepHistory kept = history_;
  if (kept.skipped_in_a_row() == 0) kept.clear_skipped_in_a_row();
  return kept.SerializeAsString();
}

bool StepJudge::Parse(const std::string& bytes) {
  if (!history_.ParseFromString(bytes) || history_.losses_size() != history_.gradient_norms_size()) return false;
  const int64_t most = config_.bad_step().spike_sigmas() == 0 ? 0 : config_.bad_step().spike_window();  // may have been changed
  for (Figures* figures : {history_.mutable_losses(), history_.mutable_gradient_norms()}) Shorten(*figures, most);
  return true;
}

}  // namespace jevons
