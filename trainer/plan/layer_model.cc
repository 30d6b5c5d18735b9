#include "trainer/plan/layer_model.h"

#include <algorithm>

namespace jevons {
namespace {

// Bytes that kernels without products move, per element, summed over their passes; BF16 values.
constexpr double kNormForward = 10;  // two norms of the residual stream read and write, two sums of it read twice and write
constexpr double kNormBackward = 16;
constexpr double kNormAgain = 4;        // the second run of both norms
constexpr double kRope = 4;             // per query element: rotate and join, in one pass
constexpr double kSwiGluForward = 6;    // per element of the inner width: reads two, writes one
constexpr double kSwiGluBackward = 12;  // reads two and the gradient, writes two and the activation
constexpr double kQuantise = 3;         // reads BF16, writes FP8
constexpr double kTranspose = 2;        // FP8 to FP8 the other way
constexpr double kLossPasses = 12;      // per logit: FP32 logits written, read twice, gradient in BF16

}  // namespace

double Work::sum() const {
  double sum = 0;
  for (const double s : seconds) sum += s;
  return sum;
}

Work& Work::operator+=(const Work& other) {
  for (size_t i = 0; i < kCosts; ++i) seconds[i] += other.seconds[i];
  return *this;
}
Work& Work::operator*=(double factor) {
  for (double& s : seconds) s *= factor;
  return *this;
}
Work operator+(Work a, const Work& b) { return a += b; }
Work operator*(Work a, double factor) { return a *= factor; }

Work BlockTimes::forward() const {
  Work work = attention_f + shared_f + experts_f;
  work[Cost::kDispatch] += dispatch_f.sum();
  work[Cost::kCombine] += combine_f.sum();
  return work;
}
Work BlockTimes::input() const {
  Work work = attention_i + shared_i + experts_i + recompute;
  work[Cost::kDispatch] += dispatch_b.sum();
  work[Cost::kCombine] += combine_b.sum();
  return work;
}

LayerModel::LayerModel(const ModelShape& model, const Layout& layout, const KernelModel& kernels)
    : model_(model),
      layout_(layout),
      kernels_(kernels),
      precision_(layout.precision),
      tp_(static_cast<double>(layout.tp)),
      tokens_(static_cast<double>(layout.micro_batch_tokens()) / tp_),
      group_tokens_(static_cast<double>(layout.micro_batch_tokens())) {}

double LayerModel::Moved(double bytes) const { return kernels_.Elementwise(bytes * layout_.value_bytes / 2); }

double LayerModel::rows() const {
  const double imbalance = layout_.ep > 1 ? kernels_.constants().expert_imbalance : 1;
  return tokens_ * static_cast<double>(model_.top_k) * imbalance;
}

// Tensor parallelism gathers rows before and scatters them after each of attention and dense FFN; half of it hides.
double LayerModel::TensorParallel() const {
  const double bytes = layout_.value_bytes * group_tokens_ * static_cast<double>(model_.hidden);
  return 2 * kernels_.constants().tensor_exposed *
         kernels_.Ring(bytes, layout_.tp, std::min(layout_.tp, kernels_.cluster().node().gpus()));
}

void LayerModel::AddProduct(const Projection& p, Cost cost, Work& f, Work& i, Work& w) const {
  const double T = group_tokens_, n = static_cast<double>(p.n) / tp_, k = static_cast<double>(p.k);
  const bool fp8 = IsFp8(precision_);
  const bool again = p.up_projection && layout_.recompute == Recompute::kSelective;
  const double forward = kernels_.Gemm({T, n, k}, precision_);
  f[cost] += forward;
  i[cost] += kernels_.Gemm({T, k, n}, precision_) + (again ? forward : 0);
  w[cost] += kernels_.WeightGradient({T, n, k}, precision_);
  if (!fp8) return;
  const double transposes = precision_ == Precision::kFp8Block ? kTranspose : 0;  // a scale per tensor turns with it
  f[Cost::kCasts] += kernels_.Cast(kQuantise * T * k);
  i[Cost::kCasts] += kernels_.Cast(kQuantise * T * n);
  w[Cost::kCasts] += kernels_.Cast(transposes * T * k + (transposes > 0 ? kQuantise : 0) * T * n);
}

void LayerModel::AddAttention(BlockTimes& t) const {
  for (const Projection& product : model_.attention)
    AddProduct(product, Cost::kProducts, t.attention_f, t.attention_i, t.attention_w);
  const double T = group_tokens_, S = static_cast<double>(layout_.sequence);
  const double width = static_cast<double>(model_.heads * (model_.qk_dim + model_.v_dim)) / tp_;
  t.attention_f[Cost::kAttention] += kernels_.AttentionForward(T * S * layout_.context_imbalance, width, S);
  t.attention_i[Cost::kAttention] += kernels_.AttentionBackward(T * S * layout_.context_imbalance, width, S);
  const bool norms = layout_.recompute == Recompute::kElementwise || layout_.recompute == Recompute::kSelective;
  const double H = static_cast<double>(model_.hidden) * tokens_, Q = static_cast<double>(model_.query_width) / tp_ * T;
  const double latents = static_cast<double>(model_.latent_width) * T;
  t.attention_f[Cost::kElementwise] += Moved(2 * kNormForward * H + kRope * Q + kNormAgain * latents);
  t.attention_i[Cost::kElementwise] +=
      Moved(kNormBackward * H + kRope * Q + kNormBackward / 2 * latents + (norms ? 2 * kNormAgain * H : 0) +
            (layout_.recompute == Recompute::kSelective ? kRope * Q : 0));
  if (layout_.tp > 1) {
    t.attention_f[Cost::kTensorParallel] += TensorParallel();
    t.attention_i[Cost::kTensorParallel] += TensorParallel() * 1.5;  // rows are gathered again for the weight gradient
  }
}

void LayerModel::AddFfn(double width, double rows, double groups, Cost cost, BlockTimes& t) const {
  const double H = static_cast<double>(model_.hidden);
  t.experts_f[cost] +=
      kernels_.Gemm({rows, 2 * width, H, groups}, precision_) + kernels_.Gemm({rows, H, width, groups}, precision_);
  t.experts_i[cost] +=
      kernels_.Gemm({rows, H, 2 * width, groups}, precision_) + kernels_.Gemm({rows, width, H, groups}, precision_);
  t.experts_w[cost] += kernels_.WeightGradient({rows, 2 * width, H, groups}, precision_) +
                       kernels_.WeightGradient({rows, H, width, groups}, precision_);
  const bool again = layout_.recompute == Recompute::kElementwise || layout_.recompute == Recompute::kSelective;
  t.experts_f[Cost::kElementwise] += Moved(kSwiGluForward * rows * width);
  t.experts_i[Cost::kElementwise] += Moved((kSwiGluBackward + (again ? kSwiGluForward / 2 : 0)) * rows * width);
  if (!IsFp8(precision_)) return;
  t.experts_f[Cost::kCasts] += kernels_.Cast(rows * width);  // the rest of it inside SwiGLU
  t.experts_i[Cost::kCasts] += kernels_.Cast(kQuantise * rows * 2 * width);
  if (precision_ == Precision::kFp8Block) t.experts_w[Cost::kCasts] += kernels_.Cast(kTranspose * rows * (2 * H + 3 * width));
}

// Gate, dispatch, the rows' way to their experts and back.
void LayerModel::AddRouting(BlockTimes& t) const {
  const double H = static_cast<double>(model_.hidden), T = tokens_, received = rows();
  const bool fp8 = precision_ == Precision::kFp8Block;
  const double wire = fp8 ? 1 : layout_.value_bytes, imbalance = layout_.ep > 1 ? kernels_.constants().expert_imbalance : 1;
  const GemmSize gate{T, static_cast<double>(model_.experts), H};
  t.attention_f[Cost::kElementwise] += kernels_.Gemm(gate, layout_.plain());
  t.attention_i[Cost::kElementwise] += kernels_.Gemm({T, H, gate.n}, layout_.plain());
  t.attention_w[Cost::kElementwise] += kernels_.WeightGradient(gate, layout_.plain());
  t.experts_f[Cost::kElementwise] += kernels_.Elementwise((2 * wire + layout_.value_bytes) * H * received);
  t.experts_i[Cost::kElementwise] += kernels_.Elementwise((2 * wire + layout_.value_bytes) * H * received);
  if (fp8) {
    t.attention_f[Cost::kCasts] += kernels_.Cast(kQuantise * H * T);
    t.attention_i[Cost::kCasts] += kernels_.Cast(kQuantise * H * T);
  }
  t.dispatch_f = t.dispatch_b = kernels_.ToExperts(imbalance * T, wire * H, model_, layout_);
  t.combine_f = t.combine_b = kernels_.FromExperts(imbalance * T, layout_.value_bytes * H, model_, layout_);
  t.dispatch_f.network += kernels_.PlanDispatch(T, model_, layout_);
  if (layout_.dispatch != Dispatch::kTwoHops) return;
  // The forwarder's own: rows picked for each GPU of the node, and units read and summed for each group.
  const int64_t node = kernels_.cluster().node().gpus();
  const double picked = RowsOfToken(model_, layout_, node).links, units = SumsOfToken(model_, layout_, node).links;
  const double own = kernels_.Elementwise((2 * wire * picked + 2 * layout_.value_bytes * units) * H * imbalance * T);
  t.experts_f[Cost::kElementwise] += own;
  t.experts_i[Cost::kElementwise] += own;
}

// The whole block once more, but for its end, which nothing in backward reads: down-projections and combine.
Work LayerModel::Again(const BlockTimes& t, bool dense) const {
  Work work = t.forward();
  const double H = static_cast<double>(model_.hidden);
  if (dense) {
    work[Cost::kProducts] -= kernels_.Gemm({group_tokens_, H, static_cast<double>(model_.dense_width) / tp_}, precision_);
    return work;
  }
  work[Cost::kCombine] = 0;
  work[Cost::kExperts] -= kernels_.Gemm(
      {rows(), H, static_cast<double>(model_.expert_width), static_cast<double>(model_.experts / layout_.ep)}, precision_);
  return work;
}

BlockTimes LayerModel::Block(bool dense) const {
  BlockTimes t;
  AddAttention(t);
  if (dense) {
    AddFfn(static_cast<double>(model_.dense_width) / tp_, group_tokens_, 1, Cost::kProducts, t);
    if (layout_.tp > 1) {
      t.experts_f[Cost::kTensorParallel] += TensorParallel();
      t.experts_i[Cost::kTensorParallel] += TensorParallel() * 1.5;
    }
  } else {
    AddRouting(t);
    AddFfn(static_cast<double>(model_.expert_width), rows(), static_cast<double>(model_.experts / layout_.ep), Cost::kExperts, t);
    if (model_.shared_width > 0) {
      BlockTimes shared;
      AddFfn(static_cast<double>(model_.shared_width), tokens_, 1, Cost::kProducts, shared);
      t.shared_f = shared.experts_f;
      t.shared_i = shared.experts_i;
      t.experts_w += shared.experts_w;
    }
  }
  if (layout_.recompute == Recompute::kFull) t.recompute = Again(t, dense);
  return t;
}

BlockTimes LayerModel::Embedding() const {
  BlockTimes t;
  const double bytes = 4 * tokens_ * static_cast<double>(model_.hidden);
  t.attention_f[Cost::kHead] = Moved(bytes);
  t.attention_w[Cost::kHead] = Moved(2 * bytes);
  return t;
}

BlockTimes LayerModel::Head() const {
  BlockTimes t;
  const double H = static_cast<double>(model_.hidden), V = static_cast<double>(model_.vocab) / tp_, T = group_tokens_;
  t.experts_f[Cost::kHead] = kernels_.Gemm({T, V, H}, layout_.plain()) + kernels_.Elementwise(kLossPasses * T * V);
  t.experts_i[Cost::kHead] = kernels_.Gemm({T, H, V}, layout_.plain());
  t.experts_w[Cost::kHead] = kernels_.WeightGradient({T, V, H}, layout_.plain());
  return t;
}

BlockTimes LayerModel::MtpProjection() const {
  BlockTimes t;
  AddProduct({.n = model_.hidden, .k = 2 * model_.hidden}, Cost::kProducts, t.attention_f, t.attention_i, t.attention_w);
  return t;
}

Work LayerModel::Beside(const Work& work) const {
  Work beside = work * kernels_.constants().overlap_slowdown;
  for (const Cost cost : {Cost::kProducts, Cost::kExperts, Cost::kHead}) beside[cost] /= kernels_.lent_share();
  return beside;
}

namespace {

// A pair's time, and that until which each link is busy: it carries one message after the other.
class PairClock {
 public:
  double now() const { return now_; }
  void Compute(double seconds) { now_ += seconds; }

  // A transfer over one link and then the other, or over the one that it needs.
  struct Transfer {
    double end = 0;   // of the hop that has begun
    double then = 0;  // seconds of the next one
    double* link_then = nullptr;
  };
  Transfer ToExperts(const Hops& hops) { return Begin(hops.network, network_, hops.node, node_); }
  Transfer FromExperts(const Hops& hops) { return Begin(hops.node, node_, hops.network, network_); }
  void Advance(Transfer& transfer) {
    if (transfer.then == 0) return;
    now_ = std::max(now_, transfer.end);
    transfer = {.end = Occupy(*transfer.link_then, transfer.then)};
  }
  void Finish(Transfer& transfer) {
    Advance(transfer);
    now_ = std::max(now_, transfer.end);
  }

 private:
  double Occupy(double& link, double seconds) { return seconds == 0 ? now_ : link = std::max(now_, link) + seconds; }
  Transfer Begin(double first, double& link, double second, double& link_then) {
    if (first == 0) return {.end = Occupy(link_then, second)};
    return {.end = Occupy(link, first), .then = second, .link_then = &link_then};
  }

  double now_ = 0, network_ = 0, node_ = 0;
};

}  // namespace

double LayerModel::Overlapped(const BlockTimes& f, const BlockTimes& b) const {
  constexpr double kDown = 1.0 / 3;  // of an FFN's weight gradients: the others are gate's and up's
  PairClock clock;
  const auto compute = [&](const Work& work, const Hops& beside) {
    clock.Compute(beside.sum() > 0 ? Beside(work).sum() : work.sum());
  };
  auto dispatch_b = clock.ToExperts(b.dispatch_b);
  compute(f.attention_f + b.shared_i, b.dispatch_b);
  clock.Advance(dispatch_b);
  auto dispatch_f = clock.ToExperts(f.dispatch_f);
  compute(f.shared_f, f.dispatch_f);
  clock.Finish(dispatch_b);
  compute(b.experts_i, f.dispatch_f);
  auto combine_b = clock.FromExperts(b.combine_b);
  compute(b.experts_w * kDown, b.combine_b);
  clock.Advance(dispatch_f);
  clock.Advance(combine_b);
  compute(b.experts_w * (1 - kDown), b.combine_b);
  clock.Finish(dispatch_f);
  compute(f.experts_f, b.combine_b);
  auto combine_f = clock.FromExperts(f.combine_f);
  clock.Finish(combine_b);
  clock.Advance(combine_f);
  compute(b.attention_i + b.attention_w, f.combine_f);
  clock.Finish(combine_f);
  // A block that runs again sends its rows again: nothing is left to hide that.
  return clock.now() + (layout_.recompute == Recompute::kFull ? b.recompute.sum() : 0);
}

}  // namespace jevons
