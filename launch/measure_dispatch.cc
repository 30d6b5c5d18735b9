#include "launch/measure_dispatch.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <vector>

#include "parallel/comm/bandwidth.h"
#include "parallel/ep/forward_plan.h"
#include "trainer/spec/model_shape.h"
#include "trainer/step/train_step.h"

namespace jevons {
namespace {

constexpr int64_t kSmall = 1024;
constexpr int kRepeats = 50;

// To each other rank of a dispatch: straight, and of the tokens that have an expert on a node, most of them.
struct MessageBytes {
  int64_t flat = int64_t{1} << 20, rail = int64_t{1} << 20;
};
MessageBytes MessagesOf(const RunConfig& config) {
  const ModelShape model = ShapeOf(config.model());
  const int64_t tokens = config.train().micro_batch_sequences() * config.data().sequence_length();
  const int64_t row = model.hidden * SizeOf(ComputeDType(config));
  return {.flat = std::max(kSmall, tokens * model.top_k / config.parallel().ep() * row), .rail = std::max(kSmall, tokens * row)};
}

// Bytes per second beyond what a small exchange takes.
double Rate(const AllToAllResult& large, const AllToAllResult& small) {
  const double sent = large.gigabytes_per_second * large.seconds;
  return sent / std::max(large.seconds - small.seconds, 0.1 * large.seconds);
}

// Seconds of the host for each pair of a token and its expert, at one rank of `map`.
double PlanSeconds(const ForwardMap& map, int64_t tokens, int64_t slots) {
  std::mt19937 random(1);
  std::vector<int32_t> indices;
  for (int64_t t = 0; t < tokens; ++t) {
    const auto first = static_cast<int64_t>(random() % static_cast<uint32_t>(map.experts));
    const int64_t step = std::max<int64_t>(1, map.experts / slots);  // so that no expert comes twice
    for (int64_t k = 0; k < slots; ++k) indices.push_back(static_cast<int32_t>((first + k * step) % map.experts));
  }
  std::vector<int64_t> numbers;
  std::vector<int32_t> lists;
  for (int r = 0; r < map.ranks(); ++r) {
    const ForwardSource source(map, r, indices, slots);
    for (const int64_t number : source.NumbersFor(0)) numbers.push_back(number);
    const std::vector<int32_t> list = source.ListFor(0);
    lists.insert(lists.end(), list.begin(), list.end());
  }
  using Clock = std::chrono::steady_clock;
  std::vector<double> seconds;
  for (int i = 0; i < kRepeats; ++i) {
    const Clock::time_point begin = Clock::now();
    const ForwardSource source(map, 0, indices, slots);
    for (int r = 0; r < map.ranks(); ++r) source.ListFor(r);
    source.Plan(numbers, lists);
    seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
  }
  std::nth_element(seconds.begin(), seconds.begin() + kRepeats / 2, seconds.end());
  return seconds[kRepeats / 2] / static_cast<double>(tokens * slots);
}

}  // namespace

void MeasureDispatch(const RunConfig* config, Communicator& world, Measurements& m) {
  if (world.size() == 1) return;
  const MessageBytes bytes = config == nullptr ? MessageBytes() : MessagesOf(*config);
  m.exchange_seconds = MeasureAllToAll(world, kSmall, kRepeats).seconds;
  if (m.ranks_per_node > 1) {
    const AllToAllResult small = MeasureAllToAll(world, kSmall, kRepeats, Peers::kSameNode);
    m.node_exchange_seconds = small.seconds;
    m.exchange_gbs = Rate(MeasureAllToAll(world, bytes.flat, kRepeats, Peers::kSameNode), small);
  }
  if (m.ranks == m.ranks_per_node) return;
  const AllToAllResult rail = MeasureAllToAll(world, kSmall, kRepeats, Peers::kRail);
  m.rail_exchange_seconds = rail.seconds;
  m.rail_gbs = Rate(MeasureAllToAll(world, bytes.rail, kRepeats, Peers::kRail), rail);
  m.network_gbs = Rate(MeasureAllToAll(world, bytes.flat, kRepeats, Peers::kOtherNodes),
                       MeasureAllToAll(world, kSmall, kRepeats, Peers::kOtherNodes));
  if (config == nullptr || config->parallel().ep() < m.ranks) return;
  const MoeConfig& moe = config->model().moe();
  const ForwardMap map{
      .experts = moe.routed_experts(), .groups = moe.groups(), .nodes = m.ranks / m.ranks_per_node, .locals = m.ranks_per_node};
  if (map.NodesHaveWholeGroups())
    m.forward_plan_seconds =
        PlanSeconds(map, config->train().micro_batch_sequences() * config->data().sequence_length(), moe.top_k());
}

}  // namespace jevons
