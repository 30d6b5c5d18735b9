// The threaded, vectorised operators behind the table "cpu". A file X.cc of this folder holds one operator:
// its loops over a range of rows, compiled once per instruction set, and below them the function that shares
// the rows among threads.
//
// Those that take scratch also serve streams of kNone: there they return when they have taken it, so that what is counted is what is used.
#ifndef JEVONS_KERNELS_CPU_CPU_OPS_H_
#define JEVONS_KERNELS_CPU_CPU_OPS_H_

#include <span>
#include <string>

#include "kernels/ops/op_table.h"

namespace jevons {

extern const OpTable kCpuOps;         // threaded, vectorised
extern const OpTable kCountedCpuOps;  // for kNone

namespace cpu {

void AdamW(const OpContext& ctx, const AdamWDesc& desc, std::span<const AdamWSlice> slices);
void Attention(const OpContext& ctx, const AttentionDesc& desc);
void AttentionBackward(const OpContext& ctx, const AttentionDesc& desc, const AttentionGrad& grad);
void Copy(const OpContext& ctx, const Tensor& src, const Tensor& dst);
void CopyParts(const OpContext& ctx, std::span<const CopiedPart> parts);
void Add(const OpContext& ctx, const Tensor& a, const Tensor& b, const Tensor& out);
void AddFixedPoint(const OpContext& ctx, const FixedPoint& format, std::span<const FixedPointSum> sums);
void FillNormal(const OpContext& ctx, uint64_t seed, uint64_t purpose, int64_t offset, float std, const Tensor& dst);
void Fill(const OpContext& ctx, float value, const Tensor& dst);
void Embedding(const OpContext& ctx, const Tensor& table, const Tensor& ids, const Tensor& y);
void EmbeddingBackward(const OpContext& ctx, const Tensor& dy, const Tensor& ids, const Tensor& dtable, WriteMode mode);
void EmbeddingBackward(const OpContext& ctx, const Tensor& dy, const Tensor& ids, const FixedPoint& format, const Tensor& dtable,
                       WriteMode mode, int64_t* flag);
void SortByExpert(const OpContext& ctx, const Tensor& indices, const Tensor& counts, const Tensor& row_of, const Tensor& pair_of);
void GatherRows(const OpContext& ctx, const Tensor& x, const Tensor& pair_of, int64_t slots, const Tensor& y);
void SumRows(const OpContext& ctx, const Tensor& y, const Tensor& row_of, int64_t slots, const Tensor& out, WriteMode mode);
void SumRowsByGroup(const OpContext& ctx, const Tensor& y, const Tensor& row_of, const Tensor& indices, int64_t experts_per_group,
                    const Tensor& out, WriteMode mode);
void SumSegments(const OpContext& ctx, const Tensor& y, const Tensor& rows, const Tensor& offsets, const Tensor& out,
                 WriteMode mode);
void SumsOfSquares(const OpContext& ctx, std::span<const SquaresSlice> slices, int64_t chunk);
void JoinSums(const OpContext& ctx, std::span<const PartialSums> vectors, std::span<const std::pair<int, int>> order);
void Sum(const OpContext& ctx, const Tensor& x, double* sum);
void RmsNorm(const OpContext& ctx, const Tensor& x, const Tensor& gamma, float eps, const Tensor& y, const Tensor& rstd);
void RmsNormBackward(const OpContext& ctx, const RmsNormGrad& grad);
void Rope(const OpContext& ctx, const RopeDesc& desc);
void RopeBackward(const OpContext& ctx, const RopeDesc& desc);
void Router(const OpContext& ctx, const RouterDesc& desc, const RouterForward& forward);
void BalanceLoss(const OpContext& ctx, const RouterDesc& desc, const Tensor& scores, int64_t sequence_length,
                 const Tensor& fractions, const Tensor& losses);
void RouterBackward(const OpContext& ctx, const RouterDesc& desc, const RouterGrad& grad);
void CrossEntropy(const OpContext& ctx, const Tensor& logits, const Tensor& labels, const Tensor& losses);
void CrossEntropyWithGrad(const OpContext& ctx, const Tensor& logits, const Tensor& labels, float scale, const Tensor& losses,
                          const Tensor& dlogits);
void SwiGlu(const OpContext& ctx, const Tensor& gate_up, const Tensor& weight, const Tensor& y);
void SwiGluBackward(const OpContext& ctx, const SwiGluGrad& grad);
void SwiGluQuantize(const OpContext& ctx, const SwiGluQuantizeDesc& desc);
void Quantize(const OpContext& ctx, const QuantizeDesc& desc);
void Dequantize(const OpContext& ctx, const DequantizeDesc& desc);
void RequantizeTransposed(const OpContext& ctx, std::span<const RequantizeDesc> descs);
void GroupedGemm(const OpContext& ctx, std::span<const GemmDesc> descs);
void GroupedFp8Gemm(const OpContext& ctx, std::span<const Fp8GemmDesc> descs);
std::string ProductImplementation(DType in);

}  // namespace cpu
}  // namespace jevons

#endif  // JEVONS_KERNELS_CPU_CPU_OPS_H_
