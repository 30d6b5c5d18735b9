// The functions of kernels/cuda/hopper.cuh on the host: barriers, copies and matrix products as PTX describes them, done at once.
// Addresses of shared memory are numbers; a copy runs when it is asked for, so a stage that is filled while somebody still reads it
// shows as wrong sums. Products are those of kernels/fp8/tensor_core.h.
#ifndef JEVONS_TESTS_SUPPORT_CUDA_ON_HOST_HOPPER_ON_HOST_H_
#define JEVONS_TESTS_SUPPORT_CUDA_ON_HOST_HOPPER_ON_HOST_H_

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "kernels/cuda/gemm_wgmma_plan.h"

namespace jevons::cuda {

uint32_t SharedAddress(const void* p);

void InitBarrier(uint32_t barrier, uint32_t arrivals);
inline void PublishBarriers() {}
void ArriveExpecting(uint32_t barrier, uint32_t bytes);
void ArriveAt(uint32_t barrier, uint32_t rank);
void Send(int word, uint32_t to, uint32_t barrier, uint32_t rank);
void WaitFor(uint32_t barrier, uint32_t parity);

inline void ClusterSync() { cuda_on_host::SyncCluster(); }
inline uint32_t ClusterRank() { return cuda_on_host::ClusterRank(); }

inline void PrefetchMap(const CUtensorMap*) {}
void CopyBox(uint32_t to, const CUtensorMap* map, int x, int y, uint32_t barrier);
void CopyBoxToBlocks(uint32_t to, const CUtensorMap* map, int x, int y, uint32_t barrier, uint16_t blocks);
void CopyRun(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier);

// Stores read as late as they may, so that a box that is filled too early shows.
inline void ShowToCopies() {}
void StoreBox(const CUtensorMap* map, int x, int y, uint32_t from);
void CommitStores();
void WaitForStores(size_t groups);
template <int kGroups>
void WaitForStores() {
  WaitForStores(kGroups);
}

template <int kRegisters>
void GiveRegistersDownTo() {}
template <int kRegisters>
void TakeRegistersUpTo() {}

inline void BeginProducts() {}
inline void CommitProducts() {}
inline void WaitForProducts() {}
template <int kSums>
void FenceSums(float (&)[kSums]) {}
void MultiplyAdd(float* d, int sums, uint64_t a, uint64_t b, bool add);
template <int kSums>
void MultiplyAdd(float (&d)[kSums], uint64_t a, uint64_t b, bool add) {
  MultiplyAdd(d, kSums, a, b, add);
}

}  // namespace jevons::cuda

#endif  // JEVONS_TESTS_SUPPORT_CUDA_ON_HOST_HOPPER_ON_HOST_H_
