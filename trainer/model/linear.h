// Linear (no bias): y[T,N] = x[T,K] W[N,K]^T. Its three verbs are three matrix products, in FP8 where the weight's plan says so.
#ifndef JEVONS_TRAINER_MODEL_LINEAR_H_
#define JEVONS_TRAINER_MODEL_LINEAR_H_

#include <span>

#include "kernels/base/partition.h"
#include "trainer/model/context.h"

namespace jevons {

// y (=|+=) x W^T
void LinearForward(const LayerContext& ctx, const Tensor& x, const Weight& w, const Tensor& y,
                   WriteMode mode = WriteMode::kOverwrite);

// dx (=|+=) dy W; the weight gradient dy^T x is queued: dy and x must live until the queue has run.
void LinearBackwardInput(const LayerContext& ctx, const Tensor& dy, const Tensor& x, const Weight& w, const Tensor& dx,
                         WriteMode mode = WriteMode::kOverwrite);

// The same for the experts of one rank: rows `rows` of x and y belong to expert `expert`. List an expert's segments next to
// each other.
struct ExpertSegment {
  int64_t expert = 0;
  Range rows;
};
void ExpertsForward(const LayerContext& ctx, std::span<const ExpertSegment> segments, const Tensor& x, const ExpertWeight& w,
                    const Tensor& y);
void ExpertsBackwardInput(const LayerContext& ctx, std::span<const ExpertSegment> segments, const Tensor& dy,
                          const ExpertWeight& w, const Tensor& dx);

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_LINEAR_H_
