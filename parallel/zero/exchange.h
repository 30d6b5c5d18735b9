// The two collectives of ZeRO stage 1, over one group of ranks (dp for dense parameters, edp for experts).
#ifndef JEVONS_PARALLEL_ZERO_EXCHANGE_H_
#define JEVONS_PARALLEL_ZERO_EXCHANGE_H_

#include <span>
#include <vector>

#include "kernels/ops/context.h"
#include "parallel/comm/communicator.h"
#include "parallel/zero/ownership.h"

namespace jevons {

// What either call takes of ops.scratch at most, give or take alignment, unless windows of 256 elements need more.
// On the host a window stays in the caches; on a device it must be worth a launch.
inline constexpr int64_t kExchangeScratchBytes = int64_t{8} << 20;
inline constexpr int64_t kExchangeScratchBytesOnDevice = int64_t{256} << 20;

// So much at most, over `ranks` ranks.
int64_t ExchangeScratchBytes(const Stream& stream, int ranks);

// Both work where ops.stream does: gradients, results, parameters and scratch lie on its device, and on a device nothing
// waits for it: what the stream is given afterwards finds the result.

// Sums over the ranks, in place. sums[p]: this rank's [elements of parameter p], all of one type; afterwards OwnedSlices(...) of
// this rank hold the totals, and the rest is scratch. I64: exact, whatever the order. FP32: in the order of ranks. A parameter may
// have no elements. Collective.
void ReduceScatterOwned(Communicator& group, std::span<const Tensor> sums, const OpContext& ops);

// Every rank's owned slices to everyone: params[p] points to the whole parameter p (element_bytes per
// element), of which this rank has written its own slices. Collective.
void AllGatherOwned(Communicator& group, std::span<void* const> params, std::span<const int64_t> sizes, int64_t element_bytes,
                    const OpContext& ops);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_ZERO_EXCHANGE_H_
