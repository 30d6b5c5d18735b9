// Rows are short (tens to hundreds of experts) and full of comparisons, so a row runs the scalar form; the
// rows are shared among the threads.
#include "kernels/ref/router.h"

#include <algorithm>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"

namespace jevons::cpu {
namespace {

constexpr int64_t kWorkPerScore = 16;  // a score costs about as much as so many copied elements

ref::RouterShape ShapeOf(const RouterDesc& d) {
  return {d.experts, d.top_k, d.groups, d.kept_groups, d.route_scale, d.normalize};
}

// Buffers for each thread, taken before the team starts: [threads, experts].
struct ThreadBuffers {
  ThreadBuffers(const OpContext& ctx, int64_t experts) {
    const Shape shape{omp_get_max_threads(), experts};
    biased = ctx.scratch->Allocate("router.biased", DType::kF32, shape);
    group_score = ctx.scratch->Allocate("router.group_score", DType::kF32, shape);
    best = ctx.scratch->Allocate("router.best", DType::kI32, shape);
    taken = ctx.scratch->Allocate("router.taken", DType::kU8, shape);
  }
  ref::RouterBuffers<float> OfThread() const {
    const int64_t i = omp_get_thread_num();
    return {biased.row<float>(i), group_score.row<float>(i), best.row<int32_t>(i), taken.row<uint8_t>(i)};
  }
  Tensor biased, group_score, best, taken;
};

}  // namespace

void Router(const OpContext& ctx, const RouterDesc& desc, const RouterForward& f) {
  ArenaScope scope(*ctx.scratch);
  const ThreadBuffers buffers(ctx, desc.experts);
  if (ctx.stream.device == Device::kNone) return;
  const ref::RouterShape shape = ShapeOf(desc);
  const int64_t rows = f.logits.rows(), k = desc.top_k;
  int32_t* indices = f.indices.as<int32_t>();
  ParallelRanges(rows, f.logits.size() * kWorkPerScore, [&](Range range) {
    const ref::RouterBuffers<float> mine = buffers.OfThread();
    for (int64_t t = range.begin; t < range.end; ++t)
      ref::RouteRow(shape, f.logits.row<float>(t), f.bias.as<float>(), f.scores.row<float>(t), indices + t * k,
                    f.weights.as<float>() + t * k, mine);
  });
  int64_t* counts = f.counts.as<int64_t>();
  std::fill_n(counts, desc.experts, int64_t{0});
  for (int64_t p = 0; p < rows * k; ++p) ++counts[indices[p]];
}

void BalanceLoss(const OpContext& ctx, const RouterDesc& desc, const Tensor& scores, int64_t sequence_length,
                 const Tensor& fractions, const Tensor& losses) {
  ArenaScope scope(*ctx.scratch);
  const ThreadBuffers buffers(ctx, desc.experts);
  if (ctx.stream.device == Device::kNone) return;
  const ref::RouterShape shape = ShapeOf(desc);
  ParallelRanges(fractions.rows(), scores.size() * kWorkPerScore, [&](Range range) {
    for (int64_t n = range.begin; n < range.end; ++n)
      losses.as<float>()[n] = ref::SequenceBalanceLoss(shape, sequence_length, scores.row<float>(n * sequence_length),
                                                       scores.pitch, fractions.row<float>(n), buffers.OfThread());
  });
}

void RouterBackward(const OpContext&, const RouterDesc& desc, const RouterGrad& g) {
  const ref::RouterShape shape = ShapeOf(desc);
  const int64_t k = desc.top_k;
  ParallelRanges(g.scores.rows(), g.scores.size() * 4, [&](Range range) {
    for (int64_t t = range.begin; t < range.end; ++t) {
      const float* fractions = g.fractions ? g.fractions.row<float>(t / g.sequence_length) : nullptr;
      ref::RouteRowBackward(shape, g.scores.row<float>(t), g.indices.as<int32_t>() + t * k, g.dweights.as<float>() + t * k,
                            fractions, g.balance_scale / static_cast<float>(std::max<int64_t>(1, g.sequence_length)),
                            g.dlogits.row<float>(t));
    }
  });
}

}  // namespace jevons::cpu
