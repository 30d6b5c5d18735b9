#include "trainer/plan/memory_model.h"

#include <algorithm>
#include <initializer_list>

#include "kernels/tensor/arena.h"
#include "parallel/zero/exchange.h"
#include "trainer/model/gradients.h"
#include "trainer/model/head.h"
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
        type_(ComputeDType(config)),
        local_(mesh.ep == 1),
        load_(local_ ? 1.0 : load),
        exchange_(mesh.dp() > 1 ? kExchangeScratchBytes : 0),
        sequences_(config.train().micro_batch_sequences()),
        S_(config.data().sequence_length()),
        mask_(config.data().document_mask()) {}

  int64_t Saved() const {
    const int64_t T = sequences_ * S_, depth = m_.mtp().depth(), rows = EmbeddedRows();
    int64_t bytes = I32(rows) + Act(rows, H()) + Mask(T);
    for (int64_t layer = 0; layer < m_.layers(); ++layer) bytes += Act(T, H()) + SavedBlock(T, layer < m_.dense_layers());
    bytes += F32(T) + Act(T, H());
    for (int64_t k = 1; k <= depth; ++k) {
      const int64_t t = sequences_ * (S_ - k);
      bytes += Mask(t) + Act(t, H());
      bytes += Act(t, H()) + 3 * F32(t) + Act(t, 2 * H()) + 2 * Act(t, H()) + SavedBlock(t, false);
    }
    return bytes;
  }

  int64_t Scratch() const {
    const int64_t T = sequences_ * S_, depth = m_.mtp().depth();
    int64_t hidden = Act(T, H());  // d_hidden of the modules so far
    int64_t peak = std::max({exchange_, ForwardBlock(T), hidden + Head(T)});
    for (int64_t k = 1; k <= depth; ++k) {
      const int64_t t = sequences_ * (S_ - k);
      peak = std::max(peak, hidden + ForwardBlock(t));
      hidden += Act(t, H());
      peak = std::max(peak, hidden + Head(t));
    }
    hidden += Act(EmbeddedRows(), H());
    if (depth > 0) {
      const int64_t t = sequences_ * (S_ - 1);
      peak = std::max(peak, hidden + 3 * Act(t, H()) + Act(t, 2 * H()) + BackwardBlock(t, false));
    }
    hidden += 2 * Act(T, H());
    for (bool dense : {true, false})
      if (dense ? m_.dense_layers() > 0 : m_.dense_layers() < m_.layers())
        peak = std::max(peak, hidden + BackwardBlock(T, dense));
    return peak;
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
  int64_t EmbeddedRows() const {
    const int64_t depth = m_.mtp().depth();
    return sequences_ * ((depth + 1) * S_ - depth * (depth + 1) / 2);
  }

  int64_t SavedBlock(int64_t T, bool dense) const {
    int64_t bytes = 3 * Act(T, H()) + 2 * F32(T);                        // norms and the residual stream
    bytes += Act(T, QueryWidth()) + Act(T, KvWidth()) + Act(T, ValueWidth()) + F32(T * a_.heads());
    if (a_.query_rank() > 0) bytes += 2 * Act(T, a_.query_rank()) + F32(T);
    bytes += Act(T, a_.kv_rank() + a_.rope_dim()) + F32(T) + Act(T, a_.kv_rank());
    if (dense) return bytes + Act(T, 3 * m_.dense_intermediate_size());
    const int64_t P = Pairs(T), R = Received(T);
    if (type_ != DType::kF32) bytes += F32(T * H());                     // the gate's input
    bytes += F32(T * moe_.routed_experts()) + 4 * I32(P);                // scores; indices, weights, row_of, pair_of
    bytes += F32(sequences_ * moe_.routed_experts());
    if (SharedWidth() > 0) bytes += Act(T, 3 * SharedWidth());
    return bytes + Act(R, H()) + F32(R) + Act(R, 3 * moe_.intermediate_size());
  }

  int64_t ForwardBlock(int64_t T) const {
    if (m_.dense_layers() >= m_.layers() && m_.mtp().depth() == 0) return 0;
    const int64_t P = Pairs(T);
    int64_t bytes = F32(T * moe_.routed_experts()) + F32(sequences_) + Act(Received(T), H());
    if (!local_) bytes += 2 * Act(P, H()) + F32(P);  // what is sent, and what comes back
    return bytes;
  }

  int64_t Head(int64_t rows) const {
    const int64_t chunk = std::min(rows, HeadChunkRows(m_.vocab_size()));
    const int64_t low = type_ == DType::kF32 ? 0 : Act(chunk, m_.vocab_size());
    return I32(rows) + F32(rows) + F32(chunk * m_.vocab_size()) + low;
  }

  int64_t BackwardBlock(int64_t T, bool dense) const {
    int64_t bytes = 2 * Act(T, H());
    bytes += Act(T, ValueWidth()) + Act(T, QueryWidth()) + Act(T, KvWidth()) + Act(T, a_.kv_rank() + a_.rope_dim()) +
             Act(T, a_.kv_rank());
    if (a_.query_rank() > 0) bytes += 2 * Act(T, a_.query_rank());
    if (dense) return bytes + Act(T, 3 * m_.dense_intermediate_size());
    const int64_t P = Pairs(T), R = Received(T);
    if (SharedWidth() > 0) bytes += Act(T, 3 * SharedWidth());
    bytes += Act(P, H()) + Act(R, 3 * moe_.intermediate_size()) + F32(R) + Act(R, H());  // sent, experts', their dx
    if (!local_) bytes += Act(R, H()) + Act(P, H()) + F32(P);                            // received, and what comes back
    return bytes + F32(P) + F32(T * moe_.routed_experts());
  }

  const ModelConfig& m_;
  const AttentionConfig& a_;
  const MoeConfig& moe_;
  DType type_;
  bool local_;
  double load_;
  int64_t exchange_;  // scratch of the gradient exchange
  int64_t sequences_, S_;
  bool mask_;
};

}  // namespace

MemoryUse PlanMemory(const RunConfig& config, const MeshShape& mesh, int world_rank, double load) {
  const MeshRank rank = RankOf(mesh, world_rank);
  const ModelConfig& model = config.model();
  const int64_t experts = BlockOf(model.moe().routed_experts(), mesh.ep, rank.ep).size();
  const GradientLayout layout{.dp = mesh.dp(), .self = rank.dp, .first_source = rank.edp * mesh.ep, .sources = mesh.ep};
  const ActivationModel activations(config, mesh, load);
  return {.weights = WeightStore::PlanBytes(model, experts, ComputeDType(config)),
          .gradients = GradientStore::PlanBytes(model, experts, layout, MicroBatchCounts(config)),
          .optimizer = ZeroOptimizer::PlanBytes(model, config.optimizer(), ComputeDType(config), mesh, world_rank),
          .activations = activations.Saved() + activations.Scratch()};
}

}  // namespace jevons
