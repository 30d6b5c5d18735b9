#include "trainer/optim/zero1.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/ops/adamw.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/reduce.h"
#include "kernels/tensor/device.h"
#include "parallel/hash.h"
#include "parallel/zero/exchange.h"

namespace jevons {
namespace {

DType MomentDType(const OptimizerConfig& config) { return config.moments() == MOMENTS_BF16 ? DType::kBF16 : DType::kF32; }

Tensor Part(const Tensor& flat, Range elements) {
  return Tensor(static_cast<char*>(flat.data) + elements.begin * SizeOf(flat.dtype), flat.dtype, {elements.size()});
}

int64_t ChunksOfModel(const std::vector<ParamSpec>& specs) {
  int64_t chunks = 0;
  for (const ParamSpec& spec : specs)
    chunks += spec.expert ? spec.shape[0] * ChunksOf(spec.shape.size() / spec.shape[0]) : ChunksOf(spec.shape.size());
  return chunks;
}

constexpr int64_t kMinimumArena = 64;  // bytes: a rank may own nothing

}  // namespace

std::vector<ZeroOptimizer::Group> ZeroOptimizer::MakeGroups(const WeightStore& weights, const Partition& partition, int pp_rank) {
  const std::vector<ParamSpec>& specs = weights.specs();
  const Range experts = weights.experts();
  std::vector<Group> groups;
  auto group_of = [&](bool expert, DType type, const std::vector<int>& holders, std::optional<int> passing,
                      std::optional<int> stage) -> Group& {
    for (Group& group : groups)
      if (group.expert == expert && group.type == type && group.holders == holders && group.passing == passing &&
          group.stage == stage)
        return group;
    groups.push_back({.ranks = nullptr,
                      .expert = expert,
                      .type = type,
                      .holders = holders,
                      .passing = passing,
                      .stage = stage,
                      .entries = {},
                      .sizes = {},
                      .slices = {}});
    return groups.back();
  };
  int64_t chunk = 0;
  for (size_t p = 0; p < specs.size(); ++p) {
    const ParamSpec& spec = specs[p];
    const int64_t copies = spec.expert ? spec.shape[0] : 1;
    const int64_t size = spec.shape.size() / copies, chunks = ChunksOf(size);
    const std::vector<int> holders = partition.HoldersOf(spec.layer);
    if (std::find(holders.begin(), holders.end(), pp_rank) == holders.end()) {
      chunk += copies * chunks;
      continue;
    }
    Group& group = group_of(spec.expert, weights.value(p).dtype, holders,
                            weights.passing(p) ? std::optional(spec.layer) : std::nullopt, partition.OnlyStageOf(spec.layer));
    for (int64_t e = 0; e < copies; ++e, chunk += chunks) {
      if (spec.expert && (e < experts.begin || e >= experts.end)) continue;
      group.entries.push_back({.param = p,
                               .local_expert = spec.expert ? e - experts.begin : -1,
                               .size = size,
                               .first_chunk = chunk,
                               .global = {e * size, (e + 1) * size},
                               .value = {}});
      group.sizes.push_back(size);
    }
  }
  return groups;
}

int64_t ZeroOptimizer::SliceBytes(const OptimizerConfig& config, const Group& group, int ranks, int rank) {
  int64_t bytes = 0;
  for (const OwnedSlice& owned : OwnedSlices(group.sizes, ranks, rank)) {
    const Shape shape = {owned.elements.size()};
    bytes += 2 * Arena::SliceBytes(MomentDType(config), shape);
    if (group.type != DType::kF32) bytes += Arena::SliceBytes(DType::kF32, shape);
  }
  return bytes;
}

ZeroOptimizer::ZeroOptimizer(const OptimizerConfig& config, WeightStore& weights, const Partition& partition, Mesh& mesh,
                             TakeWeights take)
    : config_(config),
      weights_(weights),
      mesh_(mesh),
      take_(std::move(take)),
      groups_(MakeGroups(weights, partition, mesh.rank().pp)),
      arena_(
          "optimizer",
          [&] {
            mesh.MakeHolderGroups(partition.HolderSets());
            int64_t bytes = kMinimumArena;
            for (Group& group : groups_) {
              group.ranks = group.expert ? &mesh.edp_of(group.holders) : &mesh.dp_of(group.holders);
              bytes += SliceBytes(config, group, group.ranks->size(), group.ranks->rank());
            }
            return bytes;
          }(),
          weights.device()),
      reduction_({.device = weights.device(), .counted = weights.backend()}, mesh.world().size()),
      chunks_(ChunksOfModel(weights.specs())) {
  for (Group& group : groups_) {
    for (Entry& entry : group.entries) {
      const Tensor& value = weights.value(entry.param);
      if (value) entry.value = (entry.local_expert < 0 ? value : value.Index(entry.local_expert)).Reshape({entry.size});
    }
    for (const OwnedSlice& owned : OwnedSlices(group.sizes, group.ranks->size(), group.ranks->rank())) {
      const Shape shape = {owned.elements.size()};
      Slice slice;
      slice.entry = static_cast<size_t>(owned.param);
      slice.elements = owned.elements;
      slice.master = group.type == DType::kF32 ? Part(group.entries[slice.entry].value, owned.elements)
                                               : arena_.Allocate("master", DType::kF32, shape);
      slice.m = arena_.Allocate("first moment", MomentDType(config), shape);
      slice.v = arena_.Allocate("second moment", MomentDType(config), shape);
      group.slices.push_back(slice);
    }
  }
  if (config.ema_decay() == 0) return;
  std::vector<Tensor> masters;
  for (const Group& group : groups_)
    for (const Slice& slice : group.slices) masters.push_back(slice.master);
  average_ = std::make_unique<WeightAverage>(config.ema_decay(), std::move(masters),
                                             Stream{.device = weights.device(), .counted = weights.backend()});
}

void ZeroOptimizer::Initialize(const OpContext& ops, double init_std, uint64_t seed) {
  for (Group& group : groups_) {
    for (Slice& slice : group.slices) {
      const Entry& entry = group.entries[slice.entry];
      InitialValues(ops, weights_.specs()[entry.param], entry.param, init_std, seed, entry.global.begin + slice.elements.begin,
                    slice.master);
      Zero(ops.stream, slice.m);
      Zero(ops.stream, slice.v);
    }
  }
  if (average_ != nullptr) average_->Reset(ops.stream);
  RestoreWeights(ops);
}

void ZeroOptimizer::RestoreWeights(const OpContext& ops) {
  for (Group& group : groups_) {
    if (group.type != DType::kF32 && !group.passing)
      for (Slice& slice : group.slices) Copy(ops, slice.master, Part(group.entries[slice.entry].value, slice.elements));
    GatherWeights(group, ops);
  }
}

void ZeroOptimizer::PassWeights(Group& group, const OpContext& ops) {
  const ArenaScope scope(*ops.scratch);
  std::vector<PassingWeight> weights;
  std::vector<void*> values;
  for (const Entry& entry : group.entries) {
    weights.push_back({entry.param, entry.local_expert, ops.scratch->Allocate("passing weight", group.type, {entry.size})});
    values.push_back(weights.back().value.data);
  }
  for (const Slice& slice : group.slices) Copy(ops, slice.master, Part(weights[slice.entry].value, slice.elements));
  AllGatherOwned(*group.ranks, values, group.sizes, SizeOf(group.type), ops);
  take_(ops, weights);
}

void ZeroOptimizer::GatherWeights(Group& group, const OpContext& ops) {
  if (group.passing) return PassWeights(group, ops);
  if (group.ranks->size() == 1) return;
  std::vector<void*> values;
  for (Entry& entry : group.entries) values.push_back(entry.value.data);
  AllGatherOwned(*group.ranks, values, group.sizes, SizeOf(group.type), ops);
}

template <typename Wanted>
void ZeroOptimizer::Begin(const OpContext& ops, const GradientStore& gradients, Wanted wanted) {
  std::vector<BackgroundReduction::Part> parts;
  for (Group& group : groups_) {
    if (group.reduces || !wanted(group)) continue;
    group.reduces = true;
    BackgroundReduction::Part& part = parts.emplace_back(BackgroundReduction::Part{group.ranks, {}});
    for (const Entry& entry : group.entries) {
      if (entry.local_expert <= 0) gradients.Finish(ops, entry.param);
      part.sums.push_back(group.expert ? gradients.ExpertTotal(entry.param, entry.local_expert) : gradients.Whole(entry.param));
    }
    if (hashes_)
      for (const Tensor& sum : part.sums) hashing_ = HashOf(ops.stream, sum, hashing_);
    for (Slice& slice : group.slices) slice.gradient = Part(part.sums[slice.entry], slice.elements);
  }
  reduction_.Begin(ops.stream, std::move(parts));
}

void ZeroOptimizer::BeginReduce(const OpContext& ops, const GradientStore& gradients, int stage) {
  Begin(ops, gradients, [stage](const Group& group) { return group.stage == stage; });
}

// What several stages compute with comes last: the first of them, which has the embedding, is the last to end in any pipeline.
GradientSummary ZeroOptimizer::Reduce(const OpContext& ops, const GradientStore& gradients, double scale) {
  gradient_unit_ = gradients.unit();
  Begin(ops, gradients, [](const Group&) { return true; });
  reduction_.Finish(ops.stream);
  for (Group& group : groups_) group.reduces = false;
  contributions_ = std::exchange(hashing_, 0);
  GradientSummary summary = Summarize(ops, gradients);
  summary.norm /= scale;
  summary.scale = scale;
  return summary;
}

// A chunk has one owner in the world; everybody else adds the integer 0 to the bits of its sum: exact in any order. Flags are
// counts.
std::vector<int64_t> ZeroOptimizer::ChunkSums(const OpContext& ops, const GradientStore& gradients) const {
  const int64_t own_flags = gradients.flags().size();
  std::vector<int64_t> mine;
  {
    ArenaScope scope(*ops.scratch);
    const Tensor sums = ops.scratch->Allocate("gradient.squares", DType::kI64, {chunks_ + own_flags});
    Zero(ops.stream, sums);
    std::vector<SquaresSlice> slices;
    for (const Group& group : groups_)
      for (const Slice& slice : group.slices)
        slices.push_back({slice.gradient, static_cast<double*>(sums.data) + FirstChunk(group, slice), gradient_unit_});
    SumsOfSquares(ops, slices, kChunk);
    CopyBytes(ops.stream, gradients.flags().data, sums.as<int64_t>() + chunks_, gradients.flags().bytes());
    if (ops.stream.device == Device::kNone) return {};  // nothing to add; a large model has millions of chunks
    mine.resize(static_cast<size_t>(sums.size()));
    Fetch(ops.stream, sums.data, mine.data(), sums.bytes());
  }
  // The flags of this rank's experts among those of all.
  const Range experts = weights_.experts();
  std::vector<int64_t> all(mine.begin(), mine.begin() + chunks_);
  auto flag = mine.cbegin() + chunks_;
  for (size_t p = 0; p < weights_.specs().size(); ++p) {
    const ParamSpec& spec = weights_.specs()[p];
    const size_t first = all.size();
    all.resize(first + static_cast<size_t>(spec.expert ? spec.shape[0] : 1), 0);
    const Range here = !weights_.holds(p) ? Range{} : spec.expert ? experts : Range{0, 1};
    for (int64_t e = here.begin; e < here.end; ++e) all[first + static_cast<size_t>(e)] = *flag++;
  }
  mesh_.world().AllReduceSum(all);
  return all;
}

GradientSummary ZeroOptimizer::Summarize(const OpContext& ops, const GradientStore& gradients) const {
  const std::vector<int64_t> sums = ChunkSums(ops, gradients);
  if (sums.empty()) return {};
  std::vector<double> squares;
  squares.reserve(static_cast<size_t>(chunks_));
  for (int64_t i = 0; i < chunks_; ++i) squares.push_back(std::bit_cast<double>(sums[static_cast<size_t>(i)]));
  GradientSummary summary{.norm = std::sqrt(TreeSum(squares)), .refused = {}};
  const bool flagged = std::any_of(sums.begin() + chunks_, sums.end(), [](int64_t flag) { return flag != 0; });
  if (std::isfinite(summary.norm) && !flagged) return summary;
  const std::vector<ParameterGradient> parameters = ParametersOf(sums);
  const auto first =
      std::find_if(parameters.begin(), parameters.end(), [](const ParameterGradient& parameter) { return parameter.refused; });
  summary.refused =
      first == parameters.end()
          ? "all parameters together has an infinite norm"
          : absl::StrCat(first->name, gradients.exact() ? " is NaN, Inf or too large to be summed exactly" : " is NaN or Inf");
  return summary;
}

void ZeroOptimizer::Update(const OpContext& ops, double learning_rate, const GradientSummary& gradient, int64_t t) {
  const double clip = config_.clip_norm();
  const double clipping = clip > 0 && gradient.norm > clip ? clip / (gradient.norm + 1e-6) : 1.0;
  if (average_ != nullptr) average_->Finish();
  std::vector<AdamWSlice> slices;
  for (const Group& group : groups_) {
    for (const Slice& slice : group.slices) {
      const Entry& entry = group.entries[slice.entry];
      slices.push_back({.master = slice.master,
                        .grad = slice.gradient,
                        .m = slice.m,
                        .v = slice.v,
                        .compute = group.type == DType::kF32 || group.passing ? Tensor() : Part(entry.value, slice.elements),
                        .decay = weights_.specs()[entry.param].decay ? static_cast<float>(config_.weight_decay()) : 0.0f});
    }
  }
  AdamW(ops,
        {.learning_rate = static_cast<float>(learning_rate),
         .beta1 = static_cast<float>(config_.beta1()),
         .beta2 = static_cast<float>(config_.beta2()),
         .eps = static_cast<float>(config_.eps()),
         .grad_scale = static_cast<float>(clipping / gradient.scale),
         .grad_unit = gradient_unit_,
         .step = t},
        slices);
  if (average_ != nullptr) average_->Begin(ops.stream);
  for (Group& group : groups_) GatherWeights(group, ops);
}

std::vector<StateSlice> ZeroOptimizer::State() const {
  if (average_ != nullptr) average_->Finish();
  std::vector<StateSlice> state;
  size_t place = 0;  // among the slices of all groups
  for (const Group& group : groups_) {
    for (const Slice& slice : group.slices) {
      const Entry& entry = group.entries[slice.entry];
      const ParamSpec& spec = weights_.specs()[entry.param];
      const Range elements = {entry.global.begin + slice.elements.begin, entry.global.begin + slice.elements.end};
      state.push_back({"weight/" + spec.name, spec.shape, elements, slice.master});
      state.push_back({"m/" + spec.name, spec.shape, elements, slice.m});
      state.push_back({"v/" + spec.name, spec.shape, elements, slice.v});
      if (average_ != nullptr) state.push_back({"ema/" + spec.name, spec.shape, elements, average_->of(place++)});
    }
  }
  return state;
}

}  // namespace jevons
