// Linear (no bias): y[T,N] = x[T,K] W[N,K]^T. Its three verbs are three matrix products, in FP8 where the weight's plan says so.
#ifndef JEVONS_TRAINER_MODEL_LINEAR_H_
#define JEVONS_TRAINER_MODEL_LINEAR_H_

#include <span>

#include "kernels/base/partition.h"
#include "trainer/model/context.h"

namespace jevons {

// x (or dy) as the products of this plan read it: itself, or its codes, made on ctx.ops.scratch unless they are there. For those
// that feed several products.
Activation AsInput(const LayerContext& ctx, const Activation& x, const ProductPlan& plan);
Activation AsGradient(const LayerContext& ctx, const Activation& dy, const ProductPlan& plan);

// What a queued weight gradient reads of x (or dy): its codes, on the stash, or where there are none, the value itself. Made once, where
// several products have the same.
Activation KeptInput(const LayerContext& ctx, const Activation& x, const ProductPlan& plan);
Activation KeptGradient(const LayerContext& ctx, const Activation& dy, const ProductPlan& plan);
// Whether it reads the value.
bool KeepsInput(const LayerContext& ctx, const ProductPlan& plan);
bool KeepsGradient(const LayerContext& ctx, const ProductPlan& plan);
// A context whose temporaries live as long as that: on the stash if the value is read, else on scratch.
LayerContext ForInput(const LayerContext& ctx, const ProductPlan& plan);
LayerContext ForGradient(const LayerContext& ctx, const ProductPlan& plan);

// y (=|+=) x W^T
void LinearForward(const LayerContext& ctx, const Activation& x, const Weight& w, const Tensor& y,
                   WriteMode mode = WriteMode::kOverwrite);

// dx (=|+=) dy W; the weight gradient dy^T x is queued with KeptGradient(dy) and KeptInput(x): see there how long these must live.
void LinearBackwardInput(const LayerContext& ctx, const Activation& dy, const Activation& x, const Weight& w, const Tensor& dx,
                         WriteMode mode = WriteMode::kOverwrite);

// The same for the experts of one rank: rows `rows` of x and y belong to expert `expert`. List an expert's segments next to
// each other.
struct ExpertSegment {
  int64_t expert = 0;
  Range rows;
};
void ExpertsForward(const LayerContext& ctx, std::span<const ExpertSegment> segments, const Activation& x, const ExpertWeight& w,
                    const Tensor& y);
void ExpertsBackwardInput(const LayerContext& ctx, std::span<const ExpertSegment> segments, const Activation& dy,
                          const ExpertWeight& w, const Tensor& dx);

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_LINEAR_H_
