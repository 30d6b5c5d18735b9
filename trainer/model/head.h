// The output head and the cross-entropy, in chunks of rows: never more than kLogitBytes of logits exist, kLogitBytesOnDevice where
// a product must be large to be fast (report 2.2; eq. 24).
// Where a loss is wanted for training its gradient is known at once (the loss enters the total with a constant factor), so
// forward and backward of a chunk are one visit and no logit is computed twice.
#ifndef JEVONS_TRAINER_MODEL_HEAD_H_
#define JEVONS_TRAINER_MODEL_HEAD_H_

#include <functional>
#include <span>
#include <vector>

#include "trainer/model/context.h"

namespace jevons {

inline constexpr int64_t kLogitBytes = int64_t{8} << 20;
inline constexpr int64_t kLogitBytesOnDevice = int64_t{2} << 30;  // 4,096 rows of DeepSeek-V3: W and its gradient pass once

// Rows of a chunk: as many as the bytes hold, at least 16. A function of V and the device alone, for the sums depend on it.
int64_t HeadChunkRows(int64_t vocab, Device backend);

// Calls visit(first row, logits [rows,V] FP32) for each chunk of x [T,H], in order; head: [V,H]. The logits are scratch, gone
// after the visit.
void VisitLogits(const LayerContext& ctx, const Tensor& head, const Tensor& x,
                 const std::function<void(int64_t begin, const Tensor& logits)>& visit);

// *sum, which lies where the stream works: of the rows' cross-entropies. x: [T,H]; labels: [T] I32, -1 = ignored.
void HeadLoss(const LayerContext& ctx, const Tensor& head, const Tensor& x, const Tensor& labels, double* sum);

// What the model makes of a token as the next one.
struct TokenScore {
  float logprob = 0;
  bool likeliest = false;  // no logit is larger, and none of a token before it as large
  bool operator==(const TokenScore&) const = default;
};
// Of the rows of x [T,H] that have a label, in order; labels: [T], negative = none. The host waits for them.
std::vector<TokenScore> HeadScores(const LayerContext& ctx, const Tensor& head, const Tensor& x, std::span<const int32_t> labels);

// As HeadLoss, with dx [T,H] (overwritten) and the weight gradient of scale * sum: the chunks, added in order, are one contribution.
void HeadLossAndGradient(const LayerContext& ctx, const Weight& head, const Tensor& x, const Tensor& labels, float scale,
                         const Tensor& dx, double* sum);

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_HEAD_H_
