#include "trainer/optim/zero1.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "kernels/ops/adamw.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/reduce.h"
#include "kernels/tensor/device.h"
#include "parallel/zero/exchange.h"

namespace jevons {
namespace {

DType MomentDType(const OptimizerConfig& config) {
  return config.moments() == MOMENTS_BF16 ? DType::kBF16 : DType::kF32;
}

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

std::vector<ZeroOptimizer::Group> ZeroOptimizer::MakeGroups(const std::vector<ParamSpec>& specs, Range experts,
                                                            DType compute) {
  std::vector<Group> groups;
  auto group_of = [&](bool expert, DType type) -> Group& {
    for (Group& group : groups)
      if (group.expert == expert && group.type == type) return group;
    groups.push_back({.ranks = nullptr, .expert = expert, .type = type, .entries = {}, .sizes = {}, .slices = {}});
    return groups.back();
  };
  int64_t chunk = 0;
  for (size_t p = 0; p < specs.size(); ++p) {
    const ParamSpec& spec = specs[p];
    const int64_t copies = spec.expert ? spec.shape[0] : 1;
    const int64_t size = spec.shape.size() / copies, chunks = ChunksOf(size);
    Group& group = group_of(spec.expert, spec.low_precision ? compute : DType::kF32);
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
    if (ranks > 1) bytes += Arena::SliceBytes(DType::kF32, shape);
  }
  return bytes;
}

int64_t ZeroOptimizer::PlanBytes(const ModelConfig& model, const OptimizerConfig& config, DType compute,
                                 const MeshShape& mesh, int world_rank) {
  const MeshRank rank = RankOf(mesh, world_rank);
  const Range experts = BlockOf(model.moe().routed_experts(), mesh.ep, rank.ep);
  int64_t bytes = 0;
  for (const Group& group : MakeGroups(ParameterTable(model), experts, compute))
    bytes += SliceBytes(config, group, group.expert ? mesh.edp() : mesh.dp(), group.expert ? rank.edp : rank.dp);
  return bytes;
}

ZeroOptimizer::ZeroOptimizer(const OptimizerConfig& config, WeightStore& weights, Mesh& mesh)
    : config_(config),
      weights_(weights),
      mesh_(mesh),
      arena_("optimizer",
             [&] {
               int64_t bytes = kMinimumArena;
               for (const Group& group : MakeGroups(weights.specs(), weights.experts(), weights.compute())) {
                 Communicator& ranks = group.expert ? mesh.edp() : mesh.dp();
                 bytes += SliceBytes(config, group, ranks.size(), ranks.rank());
               }
               return bytes;
             }(),
             weights.device()),
      groups_(MakeGroups(weights.specs(), weights.experts(), weights.compute())),
      chunks_(ChunksOfModel(weights.specs())) {
  for (Group& group : groups_) {
    group.ranks = group.expert ? &mesh.edp() : &mesh.dp();
    for (Entry& entry : group.entries) {
      const Tensor& value = weights.value(entry.param);
      entry.value = (entry.local_expert < 0 ? value : value.Index(entry.local_expert)).Reshape({entry.size});
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
      if (group.ranks->size() > 1) slice.gradient_buffer = arena_.Allocate("reduced gradient", DType::kF32, shape);
      group.slices.push_back(slice);
    }
  }
}

void ZeroOptimizer::Initialize(const OpContext& ops, double init_std, uint64_t seed) {
  for (Group& group : groups_) {
    for (Slice& slice : group.slices) {
      const Entry& entry = group.entries[slice.entry];
      InitialValues(ops, weights_.specs()[entry.param], entry.param, init_std, seed,
                    entry.global.begin + slice.elements.begin, slice.master);
      Zero(ops.stream, slice.m);
      Zero(ops.stream, slice.v);
    }
  }
  RestoreWeights(ops);
}

void ZeroOptimizer::RestoreWeights(const OpContext& ops) {
  for (Group& group : groups_) {
    if (group.type != DType::kF32)
      for (Slice& slice : group.slices)
        Copy(ops, slice.master, Part(group.entries[slice.entry].value, slice.elements));
    GatherWeights(group, ops);
  }
}

void ZeroOptimizer::GatherWeights(Group& group, const OpContext& ops) {
  if (group.ranks->size() == 1) return;
  std::vector<void*> values;
  for (Entry& entry : group.entries) values.push_back(entry.value.data);
  AllGatherOwned(*group.ranks, values, group.sizes, SizeOf(group.type), ops);
}

void ZeroOptimizer::ReduceGroup(Group& group, const OpContext& ops, const GradientStore& gradients,
                                const GradientLayout& layout, int64_t count) {
  TreeReduceDesc desc{.count = count, .nodes_of_rank = {}, .local = {}, .sizes = group.sizes};
  for (int r = 0; r < group.ranks->size(); ++r) {
    // A dense group's rank holds its own block's nodes, an expert group's rank those of its whole ep group, source by source.
    std::vector<Range> nodes;
    const int first = group.expert ? r * layout.sources : r;
    for (int source = first; source < first + (group.expert ? layout.sources : 1); ++source)
      for (const Range& node : NodesOf(layout.Block(count, source), count)) nodes.push_back(node);
    desc.nodes_of_rank.push_back(std::move(nodes));
  }
  const size_t nodes = desc.nodes_of_rank[static_cast<size_t>(group.ranks->rank())].size();
  for (size_t n = 0; n < nodes; ++n) {
    desc.local.emplace_back();
    for (const Entry& entry : group.entries)
      desc.local.back().push_back(group.expert ? gradients.ExpertNode(n, entry.param, entry.local_expert)
                                               : gradients.DenseNode(n, entry.param));
  }
  std::vector<float*> out;
  for (Slice& slice : group.slices) {
    slice.gradient = slice.gradient_buffer
                         ? slice.gradient_buffer
                         : Tensor::Of(desc.local[0][slice.entry] + slice.elements.begin, {slice.elements.size()});
    out.push_back(slice.gradient.as<float>());
  }
  TreeReduceScatter(*group.ranks, desc, out, ops);
}

GradientSummary ZeroOptimizer::Reduce(const OpContext& ops, const GradientStore& gradients, const GradientLayout& layout,
                                      int64_t count, double scale) {
  for (Group& group : groups_) ReduceGroup(group, ops, gradients, layout, count);
  GradientSummary summary = Summarize(ops);
  summary.norm /= scale;
  summary.scale = scale;
  return summary;
}

GradientSummary ZeroOptimizer::Summarize(const OpContext& ops) const {
  // A chunk has one owner in the world; everybody else adds the integer 0 to the bits of its sum: exact in any order.
  std::vector<int64_t> bits(static_cast<size_t>(chunks_), 0);
  {
    ArenaScope scope(*ops.scratch);
    const Tensor sums = ops.scratch->Allocate("gradient.squares", DType::kI64, {chunks_});
    Zero(ops.stream, sums);
    std::vector<SquaresSlice> slices;
    for (const Group& group : groups_) {
      for (const Slice& slice : group.slices) {
        const int64_t first = group.entries[slice.entry].first_chunk + slice.elements.begin / kChunk;
        slices.push_back({slice.gradient, static_cast<double*>(sums.data) + first});
      }
    }
    SumsOfSquares(ops, slices, kChunk);
    Fetch(ops.stream, sums.data, bits.data(), sums.bytes());
  }
  mesh_.world().AllReduceSum(bits);
  std::vector<double> squares;
  squares.reserve(bits.size());
  for (int64_t b : bits) squares.push_back(std::bit_cast<double>(b));
  GradientSummary summary{.norm = std::sqrt(TreeSum(squares)), .non_finite = {}};
  if (std::isfinite(summary.norm)) return summary;
  int64_t chunk = 0;
  for (const ParamSpec& spec : weights_.specs()) {
    const int64_t copies = spec.expert ? spec.shape[0] : 1;
    const int64_t chunks = ChunksOf(spec.shape.size() / copies);
    for (const int64_t end = chunk + copies * chunks; chunk < end; ++chunk) {
      if (std::isfinite(squares[static_cast<size_t>(chunk)])) continue;
      summary.non_finite = spec.expert
                               ? absl::StrCat(spec.name, ", expert ", copies - (end - chunk + chunks - 1) / chunks)
                               : spec.name;
      return summary;
    }
  }
  summary.non_finite = "the sum over all parameters";
  return summary;
}

void ZeroOptimizer::Update(const OpContext& ops, double learning_rate, const GradientSummary& gradient, int64_t t) {
  const double clip = config_.clip_norm();
  const double clipping = clip > 0 && gradient.norm > clip ? clip / (gradient.norm + 1e-6) : 1.0;
  std::vector<AdamWSlice> slices;
  for (const Group& group : groups_) {
    for (const Slice& slice : group.slices) {
      const Entry& entry = group.entries[slice.entry];
      slices.push_back({.master = slice.master,
                        .grad = slice.gradient,
                        .m = slice.m,
                        .v = slice.v,
                        .compute = group.type == DType::kF32 ? Tensor() : Part(entry.value, slice.elements),
                        .decay = weights_.specs()[entry.param].decay ? static_cast<float>(config_.weight_decay()) : 0.0f});
    }
  }
  AdamW(ops,
        {.learning_rate = static_cast<float>(learning_rate),
         .beta1 = static_cast<float>(config_.beta1()),
         .beta2 = static_cast<float>(config_.beta2()),
         .eps = static_cast<float>(config_.eps()),
         .grad_scale = static_cast<float>(clipping / gradient.scale),
         .step = t},
        slices);
  for (Group& group : groups_) GatherWeights(group, ops);
}

std::vector<StateSlice> ZeroOptimizer::State() const {
  std::vector<StateSlice> state;
  for (const Group& group : groups_) {
    for (const Slice& slice : group.slices) {
      const Entry& entry = group.entries[slice.entry];
      const ParamSpec& spec = weights_.specs()[entry.param];
      const Range elements = {entry.global.begin + slice.elements.begin, entry.global.begin + slice.elements.end};
      state.push_back({"weight/" + spec.name, spec.shape, elements, slice.master});
      state.push_back({"m/" + spec.name, spec.shape, elements, slice.m});
      state.push_back({"v/" + spec.name, spec.shape, elements, slice.v});
    }
  }
  return state;
}

}  // namespace jevons
