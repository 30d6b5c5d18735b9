// A loop over blocks, each on its own thread. The blocks are numbered, so that their results join in a fixed
// order.
#ifndef JEVONS_DATA_TOKENIZER_PARALLEL_H_
#define JEVONS_DATA_TOKENIZER_PARALLEL_H_

#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

#include "kernels/base/partition.h"

namespace jevons {

// How many blocks n items make: at least min_block items each, but for the only one, and at most one per
// thread.
inline int BlockCount(int64_t n, int64_t min_block, int threads) {
  return static_cast<int>(std::clamp<int64_t>(n / min_block, 1, std::max(threads, 1)));
}

// work(block, range of items) for each of `blocks` blocks of n items; returns when all are done.
template <typename Work>
void ForEachBlock(int64_t n, int blocks, Work work) {
  std::vector<std::jthread> threads;
  for (int block = 1; block < blocks; ++block) {
    threads.emplace_back([=, &work] { work(block, BlockOf(n, blocks, block)); });
  }
  work(0, BlockOf(n, blocks, 0));
}

}  // namespace jevons

#endif  // JEVONS_DATA_TOKENIZER_PARALLEL_H_
