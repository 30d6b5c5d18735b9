#include "trainer/model/gradients.h"

#include <algorithm>

#include "kernels/ops/elementwise.h"

namespace jevons {
namespace {

constexpr int64_t kAlignment = 16;  // elements: each parameter's gradient starts on a cache line

int64_t Aligned(int64_t elements) { return (elements + kAlignment - 1) / kAlignment * kAlignment; }

int64_t LocalSize(const ParamSpec& spec, int64_t local_experts) {
  return spec.expert ? spec.shape.size() / spec.shape[0] * local_experts : spec.shape.size();
}

// What the buffers must hold; the one source of the allocation and of its plan.
struct Needs {
  std::vector<int64_t> offsets;
  int64_t dense_size = 0, expert_size = 0;  // elements of a slot
  int dense_slots = 0;
  std::vector<int> source_slots;
  Shape head_scratch = {0, 0};
};

Needs NeedsOf(const std::vector<ParamSpec>& specs, int64_t local_experts, const GradientLayout& layout,
              const std::vector<int64_t>& counts) {
  Needs needs;
  for (const ParamSpec& spec : specs) {
    int64_t& size = spec.expert ? needs.expert_size : needs.dense_size;
    needs.offsets.push_back(size);
    size += Aligned(LocalSize(spec, local_experts));
  }
  needs.source_slots.assign(static_cast<size_t>(layout.sources), 0);
  bool adds = false;
  for (int64_t count : counts) {
    auto slots = [&](int rank) { return PlanBlock(layout.Block(count, rank), count).slots; };
    needs.dense_slots = std::max(needs.dense_slots, slots(layout.self));
    for (int s = 0; s < layout.sources; ++s) {
      int& most = needs.source_slots[static_cast<size_t>(s)];
      most = std::max(most, slots(layout.first_source + s));
    }
    for (const LeafPlan& leaf : PlanBlock(layout.Block(count, layout.self), count).leaves) adds |= leaf.add;
  }
  for (const ParamSpec& spec : specs)
    if (spec.part == ModelPart::kHead && adds) needs.head_scratch = spec.shape;
  return needs;
}

int64_t BytesOf(const Needs& needs) {
  int64_t bytes = needs.dense_slots * Arena::SliceBytes(DType::kF32, {needs.dense_size});
  for (int slots : needs.source_slots) bytes += slots * Arena::SliceBytes(DType::kF32, {needs.expert_size});
  return bytes + Arena::SliceBytes(DType::kF32, needs.head_scratch);
}

}  // namespace

int64_t GradientStore::PlanBytes(const ModelConfig& model, int64_t local_experts, const GradientLayout& layout,
                                 const std::vector<int64_t>& counts) {
  return BytesOf(NeedsOf(ParameterTable(model), local_experts, layout, counts));
}

GradientStore::GradientStore(const WeightStore& weights, const GradientLayout& layout, const std::vector<int64_t>& counts,
                             Device device)
    : weights_(weights),
      layout_(layout),
      arena_("gradients", std::max<int64_t>(
                              1, BytesOf(NeedsOf(weights.specs(), weights.experts().size(), layout, counts))),
             device) {
  const Needs needs = NeedsOf(weights.specs(), weights.experts().size(), layout, counts);
  offsets_ = needs.offsets;
  auto allocate = [&](Walk& walk, int slots, const char* name, int64_t size) {
    for (int i = 0; i < slots; ++i) walk.slots.push_back(arena_.Allocate(name, DType::kF32, {size}));
  };
  allocate(dense_, needs.dense_slots, "dense gradients", needs.dense_size);
  sources_.resize(static_cast<size_t>(layout.sources));
  for (size_t s = 0; s < sources_.size(); ++s)
    allocate(sources_[s], needs.source_slots[s], "expert gradients", needs.expert_size);
  if (needs.head_scratch.size() > 0) head_scratch_ = arena_.Allocate("head gradient", DType::kF32, needs.head_scratch);
}

void GradientStore::Begin(int64_t count) {
  count_ = count;
  auto begin = [&](Walk& walk, int rank) {
    walk.block = layout_.Block(count, rank);
    walk.plan = PlanBlock(walk.block, count);
    JEVONS_CHECK(walk.plan.slots <= static_cast<int>(walk.slots.size()), "a step of %lld micro-batches was not planned",
                 static_cast<long long>(count));
  };
  begin(dense_, layout_.self);
  for (size_t s = 0; s < sources_.size(); ++s) begin(sources_[s], layout_.first_source + static_cast<int>(s));
}

GradTarget GradientStore::Target(const Walk& walk, size_t param, int64_t round) const {
  if (round >= walk.block.size()) return {};
  const LeafPlan& leaf = walk.plan.leaves[static_cast<size_t>(round)];
  float* slot = walk.slots[static_cast<size_t>(leaf.slot)].as<float>();
  return {Tensor::Of(slot + offsets_[param], weights_.value(param).shape),
          leaf.add ? WriteMode::kAdd : WriteMode::kOverwrite};
}

GradTarget GradientStore::Dense(size_t param, int64_t round) const { return Target(dense_, param, round); }

GradTarget GradientStore::Expert(size_t param, int source, int64_t round) const {
  return Target(sources_[static_cast<size_t>(source)], param, round);
}

void GradientStore::EndRound(const OpContext& ops, int64_t round) {
  auto join = [&](const Walk& walk) {
    if (round >= walk.block.size()) return;
    for (const auto& [a, b] : walk.plan.leaves[static_cast<size_t>(round)].merges) {
      const Tensor& sum = walk.slots[static_cast<size_t>(a)];
      Add(ops, sum, walk.slots[static_cast<size_t>(b)], sum);
    }
  };
  join(dense_);
  for (const Walk& walk : sources_) join(walk);
}

std::vector<Range> GradientStore::DenseNodes() const { return NodesOf(dense_.block, count_); }

std::vector<Range> GradientStore::ExpertNodes() const {
  std::vector<Range> nodes;
  for (const Walk& walk : sources_)
    for (const Range& node : NodesOf(walk.block, count_)) nodes.push_back(node);
  return nodes;
}

float* GradientStore::DenseNode(size_t node, size_t param) const {
  return dense_.slots[static_cast<size_t>(dense_.plan.node_slots[node])].as<float>() + offsets_[param];
}

float* GradientStore::ExpertNode(size_t node, size_t param, int64_t local_expert) const {
  const int64_t expert_size = weights_.specs()[param].shape.size() / weights_.specs()[param].shape[0];
  for (const Walk& walk : sources_) {
    if (node < walk.plan.node_slots.size())
      return walk.slots[static_cast<size_t>(walk.plan.node_slots[node])].as<float>() + offsets_[param] +
             local_expert * expert_size;
    node -= walk.plan.node_slots.size();
  }
  JEVONS_CHECK(false, "no such node");
  return nullptr;
}

}  // namespace jevons
