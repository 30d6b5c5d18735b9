// Rotary embedding in place: a pack is some neighbouring pairs of one head.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/ref/rope.h"

namespace jevons::cuda {
namespace {

struct RopeShape {
  int64_t head_dim, offset, pairs, sequence_length;
  int packs;  // of a head
  float direction;
};

template <typename S>
__global__ void TurnKernel(RowGrid grid, RopeShape shape, View<S> x, View<const float> cos, View<const float> sin) {
  constexpr int kWidth = kWidthOf<S>, kPairs = kWidth / 2;
  // The first element of a pack within its row and within the rotated part of its head.
  const auto place = [&](int64_t pack, int64_t& column, int64_t& c) {
    const int64_t head = static_cast<uint32_t>(pack) / static_cast<uint32_t>(shape.packs);
    c = (pack - head * shape.packs) * kWidth;
    column = head * shape.head_dim + shape.offset + c;
  };
  ForPacks<4>(
      grid,
      [&](int64_t row, int64_t pack) {
        int64_t column, c;
        place(pack, column, c);
        return LoadRaw<kWidth>(x.row(row) + column, 2 * shape.pairs - c, x.vector);
      },
      [&](int64_t row, int64_t pack, const RawPack<S, kWidth>& raw) {
        int64_t column, c;
        place(pack, column, c);
        const int64_t position = row % shape.sequence_length, n = shape.pairs - c / 2;
        const Pack<kPairs> cosines = Load<kPairs>(cos.row(position) + c / 2, n, cos.vector);
        const Pack<kPairs> sines = Load<kPairs>(sin.row(position) + c / 2, n, sin.vector);
        Pack<kWidth> turned = raw.Widened();
#pragma unroll
        for (int i = 0; i < kPairs; ++i)
          ref::TurnPair(cosines.v[i], shape.direction * sines.v[i], turned.v[2 * i], turned.v[2 * i + 1]);
        Store(turned, x.row(row) + column, 2 * n, x.vector);
      });
}

void Turn(const OpContext& ctx, const RopeDesc& d, float direction) {
  ForReal(d.x.dtype, [&](auto s) {
    using S = decltype(s);
    constexpr int kWidth = kWidthOf<S>;
    const int64_t packs = CeilDiv(2 * d.cos.cols(), kWidth);
    if (packs == 0) return;
    JEVONS_CHECK(d.heads * packs <= INT32_MAX, "rows of %lld heads", static_cast<long long>(d.heads));
    View<S> x = ViewOf<S>(d.x, kWidth);
    x.vector = x.vector && d.head_dim % kWidth == 0 && d.offset % kWidth == 0;
    const RopeShape shape = {.head_dim = d.head_dim,
                             .offset = d.offset,
                             .pairs = d.cos.cols(),
                             .sequence_length = d.sequence_length,
                             .packs = static_cast<int>(packs),
                             .direction = direction};
    LaunchRows(ctx, TurnKernel<S>, d.x.rows(), d.heads * packs, shape, x, ViewOf<const float>(d.cos, kWidth / 2),
               ViewOf<const float>(d.sin, kWidth / 2));
  });
}

}  // namespace

void Rope(const OpContext& ctx, const RopeDesc& desc) { Turn(ctx, desc, 1); }
void RopeBackward(const OpContext& ctx, const RopeDesc& desc) { Turn(ctx, desc, -1); }

}  // namespace jevons::cuda
