// The collectives of ZeRO over any transport and device. All ranks of the group call together; data lies where the
// stream works.
#ifndef JEVONS_TESTS_PARALLEL_EXCHANGE_CHECKS_H_
#define JEVONS_TESTS_PARALLEL_EXCHANGE_CHECKS_H_

#include <cstdint>
#include <vector>

#include "kernels/tensor/dtype.h"
#include "parallel/comm/communicator.h"

namespace jevons {

// Of sums of `type`, I64 or FP32: bitwise the sum over the ranks, in their order.
void CheckReduceScatterOwned(Communicator& group, const std::vector<int64_t>& sizes, DType type, const Stream& stream = {});

void CheckAllGatherOwned(Communicator& group, const std::vector<int64_t>& sizes, int64_t element_bytes,
                         const Stream& stream = {});

// Parameters without elements; several windows of scratch.
void CheckExchangeCases(Communicator& group, const Stream& stream = {});

}  // namespace jevons

#endif  // JEVONS_TESTS_PARALLEL_EXCHANGE_CHECKS_H_
