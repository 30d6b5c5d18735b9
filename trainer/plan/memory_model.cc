#include "trainer/plan/memory_model.h"

#include <algorithm>
#include <initializer_list>

#include "kernels/fp8/quantize.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/gemm.h"
#include "kernels/tensor/arena.h"
#include "parallel/pipeline/simulate.h"
#include "parallel/zero/exchange.h"
#include "trainer/model/gradients.h"
#include "trainer/model/head.h"
#include "trainer/model/model.h"
#include "trainer/model/partition.h"
#include "trainer/model/weights.h"
#include "trainer/optim/zero1.h"
#include "trainer/train_step.h"

namespace jevons {
namespace {

class ActivationModel {
 public:
  ActivationModel(const RunConfig& config, const MeshShape& mesh, double load)
      : m_(config.model()),
        a_(m_.attention()),
        moe_(m_.moe()),
        precision_(config.precision()),
        recompute_(config.train().recompute_up_projections()),
        device_(DeviceOf(config)),
        type_(ComputeDType(config)),
        local_(mesh.ep == 1),
        sources_(mesh.ep),
        experts_((m_.moe().routed_experts() + mesh.ep - 1) / mesh.ep),
        exact_(SumsOf(config) == EXACT),
        load_(local_ ? 1.0 : load),
        exchange_(mesh.dp() > 1 ? device_ == Device::kCuda ? kExchangeScratchBytesOnDevice : kExchangeScratchBytes : 0),
        sequences_(config.train().micro_batch_sequences()),
        S_(config.data().sequence_length()),
        mask_(config.data().document_mask()) {}

  // What one micro-batch keeps at a stage: forward for backward, messages included.
  int64_t Saved(const StagePart& part) const {
    const int64_t T = sequences_ * S_;
    int64_t bytes = Mask(T) + Act(T, H());
    if (part.first) bytes += I32(T);
    for (int64_t layer = part.layers.begin; layer < part.layers.end; ++layer) bytes += Act(T, H()) + SavedBlock(T, layer < m_.dense_layers());
    if (!part.last) return bytes;
    bytes += F32(T) + 2 * Act(T, H());
    for (int64_t k = 1; k <= m_.mtp().depth(); ++k) {
      const int64_t t = sequences_ * (S_ - k);
      bytes += Mask(t) + I32(t) + 3 * Act(t, H());
      bytes += 3 * Act(t, H()) + F32(t) + SavedBlock(t, false);
    }
    return bytes;
  }

  // The largest temporaries of one action, the operands of weight gradients among them, which are run block by block.
  int64_t Scratch(const StagePart& part) const {
    const int64_t T = sequences_ * S_, dense_layers = std::min(m_.dense_layers(), m_.layers());
    int64_t peak = exchange_;
    const int64_t streams = 2 * Act(T, H());
    const auto block = [&](int64_t rows, bool dense) {
      peak = std::max({peak, ForwardBlock(rows, dense), streams + BackwardBlock(rows, dense)});
    };
    if (part.layers.begin < std::min(part.layers.end, dense_layers)) block(T, true);
    if (part.layers.end > std::max(part.layers.begin, dense_layers)) block(T, false);
    if (!part.last) return peak;
    peak = std::max(peak, Head(T) + Workspace());
    if (m_.mtp().depth() == 0) return peak;
    const int64_t t = sequences_ * (S_ - 1);
    return std::max({peak, ForwardBlock(t, false), Act(t, 2 * H()) + 2 * F32(t), streams + 3 * Act(t, H()) + BackwardBlock(t, false) + 5 * Act(t, H()) + 2 * F32(t)});
  }

 private:
  int64_t H() const { return m_.hidden_size(); }
  int64_t Act(int64_t rows, int64_t cols) const { return Arena::SliceBytes(type_, {rows, cols}); }
  static int64_t F32(int64_t n) { return Arena::SliceBytes(DType::kF32, {n}); }
  static int64_t I32(int64_t n) { return Arena::SliceBytes(DType::kI32, {n}); }
  int64_t Mask(int64_t rows) const { return mask_ ? I32(rows) : 0; }
  int64_t Pairs(int64_t T) const { return T * moe_.top_k(); }
  int64_t Received(int64_t T) const { return static_cast<int64_t>(static_cast<double>(Pairs(T)) * load_); }
  int64_t QueryWidth() const { return a_.heads() * (a_.nope_dim() + a_.rope_dim()); }
  int64_t KvWidth() const { return a_.heads() * (a_.nope_dim() + a_.value_dim()); }
  int64_t ValueWidth() const { return a_.heads() * a_.value_dim(); }
  int64_t SharedWidth() const { return moe_.shared_experts() * moe_.intermediate_size(); }
  bool Fp8(ModelPart part) const { return InFp8(part, precision_); }
  static int64_t Codes(int64_t rows, int64_t cols, NumberFormat format = NumberFormat::kE4M3) {
    return Arena::SliceBytes(DType::kU8, CodesShape(rows, cols, Tiling::kRows1x128, format)) +
           Arena::SliceBytes(DType::kF32, ScalesShape(rows, cols, Tiling::kRows1x128));
  }
  int64_t Cached(ModelPart part, int64_t rows, int64_t cols, NumberFormat format = NumberFormat::kE4M3) const {
    return Fp8(part) ? Codes(rows, cols, format) : Act(rows, cols);
  }
  int64_t If(ModelPart part, int64_t bytes) const { return Fp8(part) ? bytes : 0; }

  int64_t SavedBlock(int64_t T, bool dense) const {
    int64_t bytes = Act(T, H());  // the residual stream
    if (a_.query_rank() > 0) bytes += Act(T, a_.query_rank());
    bytes += Act(T, a_.kv_rank() + a_.rope_dim());
    if (!recompute_) bytes += Act(T, QueryWidth()) + Act(T, KvWidth());
    bytes += Cached(ModelPart::kAttention, T, ValueWidth(), NumberFormat::kE5M6) + F32(T * a_.heads());
    if (dense) return bytes + Cached(ModelPart::kDenseFfn, T, 2 * m_.dense_intermediate_size());
    const int64_t P = Pairs(T), R = Received(T);
    bytes += F32(T * moe_.routed_experts()) + 4 * I32(P);  // scores; indices, weights, row_of, pair_of
    bytes += F32(sequences_ * moe_.routed_experts());
    if (SharedWidth() > 0) bytes += Cached(ModelPart::kSharedExperts, T, 2 * SharedWidth());
    return bytes + Cached(ModelPart::kRoutedExperts, R, H()) + F32(R) +
           Cached(ModelPart::kRoutedExperts, R, 2 * moe_.intermediate_size());
  }

  int64_t NormedLatents(int64_t T) const {
    return Act(T, a_.kv_rank()) + F32(T) + (a_.query_rank() > 0 ? Act(T, a_.query_rank()) + F32(T) : 0);
  }
  int64_t UpProjected(int64_t T) const { return recompute_ ? Act(T, QueryWidth()) + Act(T, KvWidth()) : 0; }

  // SwiGLU's output as the down projection reads it.
  int64_t Activated(ModelPart part, int64_t rows, int64_t width) const { return Cached(part, rows, width); }

  // In forward an FFN keeps nothing on scratch.
  int64_t ForwardFfn(ModelPart part, int64_t T, int64_t width) const {
    return Fp8(part) ? Act(T, 2 * width) + std::max(Codes(T, H()), Activated(part, T, width)) : Activated(part, T, width);
  }

  int64_t ForwardBlock(int64_t T, bool dense) const {
    const int64_t base = Act(T, H()) + F32(T) + OperatorRoom(T, dense, false);
    const int64_t attention = NormedLatents(T) + UpProjected(T) +
                              If(ModelPart::kAttention, Act(T, ValueWidth()) + Codes(T, H()) + Codes(T, ValueWidth()));
    if (dense) return base + std::max(attention, ForwardFfn(ModelPart::kDenseFfn, T, m_.dense_intermediate_size()));
    const int64_t P = Pairs(T), R = Received(T), width = moe_.intermediate_size();
    const bool fp8 = Fp8(ModelPart::kRoutedExperts);
    int64_t dispatch = GateInput(T) + F32(T * moe_.routed_experts()) + F32(sequences_);
    if (fp8) dispatch += Codes(T, H());
    if (!local_) dispatch += F32(P) + (fp8 ? Codes(P, H()) : Act(P, H()));
    if (Arranged()) dispatch += F32(R) + (fp8 ? Codes(R, H()) : Act(R, H()));
    const int64_t shared = SharedWidth() > 0 ? ForwardFfn(ModelPart::kSharedExperts, T, SharedWidth()) : 0;
    const int64_t experts = Activated(ModelPart::kRoutedExperts, R, width) + (fp8 ? Act(R, 2 * width) : 0);
    const int64_t returned = local_ ? 0 : Act(P, H()) + (Arranged() ? Act(R, H()) : 0);
    return base + std::max(attention, dispatch + std::max(shared, Act(R, H()) + std::max(experts, returned)));
  }

  // Whether rows do not arrive in the order of experts.
  bool Arranged() const { return sources_ > 1 && experts_ > 1; }

  int64_t GateInput(int64_t T) const { return type_ == DType::kF32 ? 0 : F32(T * H()); }

  int64_t Head(int64_t rows) const {
    const int64_t chunk = std::min(rows, HeadChunkRows(m_.vocab_size(), device_));
    const int64_t low = type_ == DType::kF32 ? 0 : Act(chunk, m_.vocab_size());
    const int64_t contribution = exact_ ? F32(m_.vocab_size() * H()) : 0;
    return I32(rows) + F32(rows) + F32(chunk * m_.vocab_size()) + low + contribution;
  }

  // What stays on scratch until the weight gradients have run.
  int64_t BackwardFfn(ModelPart part, int64_t T, int64_t width) const {
    return Activated(part, T, width) + Act(T, width) + Act(T, 2 * width) + If(part, Act(T, 2 * width) + Codes(T, H()) + Codes(T, 2 * width));
  }
  int64_t BackwardAttention(int64_t T) const {
    int64_t bytes = NormedLatents(T) + UpProjected(T) + Act(T, ValueWidth()) + Act(T, QueryWidth()) + Act(T, KvWidth()) +
                    Act(T, a_.kv_rank() + a_.rope_dim()) + Act(T, a_.kv_rank());
    if (a_.query_rank() > 0) bytes += 2 * Act(T, a_.query_rank()) + If(ModelPart::kAttention, Codes(T, a_.query_rank()));
    return bytes + If(ModelPart::kAttention, Act(T, ValueWidth()) + Codes(T, H()) + Codes(T, KvWidth()) +
                                                 Codes(T, a_.kv_rank() + a_.rope_dim()) + Codes(T, QueryWidth()));
  }
  int64_t BackwardMoe(int64_t T) const {
    const int64_t P = Pairs(T), R = Received(T), width = moe_.intermediate_size();
    const auto rows = [&](int64_t n) { return Fp8(ModelPart::kRoutedExperts) ? Codes(n, H()) : Act(n, H()); };
    int64_t bytes = rows(R) + If(ModelPart::kRoutedExperts, Codes(T, H()));
    if (!local_) bytes += rows(P) + Act(P, H()) + F32(P);                      // sent, and what comes back
    if (Arranged()) bytes += rows(R) + Act(R, H()) + F32(R);                   // as it arrives, and as it leaves
    bytes += BackwardFfn(ModelPart::kRoutedExperts, R, width) - If(ModelPart::kRoutedExperts, Codes(R, H())) + F32(R) + Act(R, H());
    if (SharedWidth() > 0) bytes += BackwardFfn(ModelPart::kSharedExperts, T, SharedWidth());
    return bytes + F32(P) + F32(T * moe_.routed_experts()) + GateInput(T);
  }
  int64_t BackwardBlock(int64_t T, bool dense) const {
    const int64_t ffn = dense ? BackwardFfn(ModelPart::kDenseFfn, T, m_.dense_intermediate_size()) : BackwardMoe(T);
    return 4 * Act(T, H()) + F32(T) + ffn + BackwardAttention(T) + OperatorRoom(T, dense, true);
  }

  // What the operators of a device take from scratch for themselves, at most. Those of the CPU take little.
  int64_t Workspace() const { return ProductScratchBytes(device_); }
  int64_t OperatorRoom(int64_t T, bool dense, bool backward) const {
    const int64_t wgrad = backward ? WgradRoom(T, dense) : 0;
    return device_ == Device::kCpu ? wgrad : Workspace() + std::max(AttentionRoom(T, backward), wgrad);
  }
  int64_t AttentionRoom(int64_t T, bool backward) const {
    AttentionDesc desc;
    desc.heads = a_.heads();
    desc.nope_dim = a_.nope_dim();
    desc.rope_dim = a_.rope_dim();
    desc.value_dim = a_.value_dim();
    desc.sequence_length = T / sequences_;
    desc.q = Tensor(nullptr, type_, {T, QueryWidth()});
    if (mask_) {  // nobody knows yet how many documents there are: as many as there is room for
      desc.document_start = Tensor(&desc, DType::kI32, {T});
      desc.documents = T;
      desc.longest_document = desc.sequence_length;
    }
    return AttentionScratchBytes(desc, backward, device_);
  }
  // What the block's weight gradients need, as far as it is there together: transposed FP8 operands, contributions to exact sums.
  int64_t WgradRoom(int64_t T, bool dense) const {
    int64_t all = 0, largest = 0;
    const auto count = [&](ModelPart part, int64_t rows, int64_t in, int64_t out, int64_t products = 1) {
      const int64_t bytes = If(part, Codes(in, rows) + Codes(out, rows)) + (exact_ ? F32(in * out) : 0);
      all += products * bytes;
      largest = std::max(largest, bytes);
    };
    const auto ffn = [&](ModelPart part, int64_t rows, int64_t width, int64_t products = 1) {
      count(part, rows, H(), 2 * width, products);
      count(part, rows, width, H(), products);
    };
    const int64_t query_in = a_.query_rank() > 0 ? a_.query_rank() : H();
    if (a_.query_rank() > 0) count(ModelPart::kAttention, T, H(), a_.query_rank());
    count(ModelPart::kAttention, T, query_in, QueryWidth());
    count(ModelPart::kAttention, T, H(), a_.kv_rank() + a_.rope_dim());
    count(ModelPart::kAttention, T, a_.kv_rank(), KvWidth());
    count(ModelPart::kAttention, T, ValueWidth(), H());
    if (dense) {
      ffn(ModelPart::kDenseFfn, T, m_.dense_intermediate_size());
    } else {
      if (SharedWidth() > 0) ffn(ModelPart::kSharedExperts, T, SharedWidth());
      const int64_t products = experts_ * (exact_ ? sources_ : 1);
      ffn(ModelPart::kRoutedExperts, (Received(T) + products - 1) / products, moe_.intermediate_size(), products);
    }
    return std::min(all, (device_ == Device::kCuda ? kWgradBytesOnDevice : kWgradBytes) + largest);
  }

  const ModelConfig& m_;
  const AttentionConfig& a_;
  const MoeConfig& moe_;
  const PrecisionConfig& precision_;
  bool recompute_;
  Device device_;
  DType type_;
  bool local_;
  int64_t sources_, experts_;  // whose rows arrive here; that live here
  bool exact_;
  double load_;
  int64_t exchange_;  // scratch of the gradient exchange
  int64_t sequences_, S_;
  bool mask_;
};

// The most micro-batches that a rank holds at once, at all of its stages together.
int64_t MostHeld(const RunConfig& config, const Partition& partition, const MeshShape& mesh, int pp_rank) {
  if (partition.ranks() == 1) return 1;
  int64_t rounds = 1;
  for (const int64_t count : MicroBatchCounts(config)) rounds = std::max(rounds, Rounds(mesh, count));
  const absl::StatusOr<Schedule> schedule = MakeSchedule(partition.Shape(rounds));
  if (!schedule.ok()) return rounds;  // refused elsewhere
  const Timeline timeline = Simulate(*schedule, PipelineCosts::Uniform(schedule->stages, {})).value();
  return timeline.ranks[static_cast<size_t>(pp_rank)].peak_held;
}

}  // namespace

MemoryUse PlanMemory(const RunConfig& config, const MeshShape& mesh, int world_rank, double load) {
  const MeshRank rank = RankOf(mesh, world_rank);
  const ModelConfig& model = config.model();
  const int64_t experts = BlockOf(model.moe().routed_experts(), mesh.ep, rank.ep).size();
  const Partition partition = Partition::Of(config).value();
  const HeldLayers held = partition.HeldBy(rank.pp);
  const ActivationModel activations(config, mesh, load);
  int64_t saved = 0, scratch = 0;
  for (const int stage : partition.StagesOf(rank.pp)) {
    saved = std::max(saved, activations.Saved(partition.parts()[static_cast<size_t>(stage)]));
    scratch = std::max(scratch, activations.Scratch(partition.parts()[static_cast<size_t>(stage)]));
  }
  return {.weights = WeightStore::PlanBytes(model, experts, ComputeDType(config), held) +
                     WeightBinding::PlanBytes(model, experts, config.precision(), DeviceOf(config), held),
          .gradients = GradientStore::PlanBytes(model, experts, SumsOf(config), held),
          .optimizer = ZeroOptimizer::PlanBytes(model, config.optimizer(), ComputeDType(config), partition, mesh, world_rank),
          .activations = MostHeld(config, partition, mesh, rank.pp) * saved + scratch};
}

}  // namespace jevons
