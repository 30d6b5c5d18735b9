// Hopper's instructions for asynchronous copies, barriers in shared memory and matrix products, as functions (PTX ISA 8.0,
// sections 9.7.13 to 9.7.15). Addresses are of shared memory unless said.
#ifndef JEVONS_KERNELS_CUDA_HOPPER_CUH_
#define JEVONS_KERNELS_CUDA_HOPPER_CUH_

#include <cuda.h>

#include "kernels/cuda/gemm_wgmma_plan.h"

#ifndef __CUDACC__
#include <hopper_on_host.h>  // compiled as C++ by tests that run kernels on the host
#else

namespace jevons::cuda {

__device__ __forceinline__ uint32_t SharedAddress(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// Barriers: a phase ends when all arrivals have come and all announced bytes.
__device__ __forceinline__ void InitBarrier(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
// Makes them known to the cluster and to the copy engine.
__device__ __forceinline__ void PublishBarriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ __forceinline__ void ArriveExpecting(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// At the same barrier of block `rank` of the cluster. It says that a stage has been read, and nothing that this thread wrote: so it
// does without the release to the whole cluster, for which the compiler would fence the GPU's memory after each stage.
__device__ __forceinline__ void ArriveAt(uint32_t barrier, uint32_t rank) {
  asm volatile(
      "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n}\n" ::"r"(barrier),
      "r"(rank)
      : "memory");
}
// A word to the same place of block `rank` of the cluster, whose barrier awaits one arrival: this is it.
__device__ __forceinline__ void Send(int word, uint32_t to, uint32_t barrier, uint32_t rank) {
  asm volatile(
      "{\n.reg .b32 there, awaited;\nmapa.shared::cluster.u32 there, %1, %3;\n"
      "mapa.shared::cluster.u32 awaited, %2, %3;\n"
      "mbarrier.arrive.expect_tx.shared::cluster.b64 _, [awaited], 4;\n"
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.s32 [there], %0, [awaited];\n}\n" ::"r"(word),
      "r"(to), "r"(barrier), "r"(rank)
      : "memory");
}
// Until the phase of this parity has ended. What the copy engine wrote is then there to be read.
__device__ __forceinline__ void WaitFor(uint32_t barrier, uint32_t parity) {
  uint32_t ended;
  do {
    asm volatile(
        "{\n.reg .pred ended;\nmbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2;\n"
        "selp.u32 %0, 1, 0, ended;\n}\n"
        : "=r"(ended)
        : "r"(barrier), "r"(parity)
        : "memory");
  } while (ended == 0);
}

// The whole cluster; every thread of both blocks must come.
__device__ __forceinline__ void ClusterSync() {
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}
__device__ __forceinline__ uint32_t ClusterRank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// Has the copy engine fetch the description of a tensor that it will soon copy from.
__device__ __forceinline__ void PrefetchMap(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
// The box of a tensor at (x, y), x along its rows, to `to`; the bytes count at `barrier`. Beyond the tensor it is zero.
__device__ __forceinline__ void CopyBox(uint32_t to, const CUtensorMap* map, int x, int y, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], "
      "[%2];" ::"r"(to),
      "l"(map), "r"(barrier), "r"(x), "r"(y)
      : "memory");
}
// The same to the same places of the blocks of the cluster whose bits are set.
__device__ __forceinline__ void CopyBoxToBlocks(uint32_t to, const CUtensorMap* map, int x, int y, uint32_t barrier,
                                                uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
      "[%1, {%3, %4}], [%2], "
      "%5;" ::"r"(to),
      "l"(map), "r"(barrier), "r"(x), "r"(y), "h"(blocks)
      : "memory");
}
// `bytes` (a multiple of 16) that follow each other in global memory.
__device__ __forceinline__ void CopyRun(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from),
               "r"(bytes), "r"(barrier)
               : "memory");
}

// What this thread wrote to shared memory is there for the copy engine to read, once the others know by a barrier.
__device__ __forceinline__ void ShowToCopies() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// The box at `from` to (x, y) of a tensor; what lies beyond the tensor goes nowhere.
__device__ __forceinline__ void StoreBox(const CUtensorMap* map, int x, int y, uint32_t from) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map), "r"(from), "r"(x), "r"(y)
               : "memory");
}
// The stores of this thread since the last one of these are a group, which may have none.
__device__ __forceinline__ void CommitStores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until all this thread's groups but the last kGroups have read their boxes.
template <int kGroups>
__device__ __forceinline__ void WaitForStores() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kGroups) : "memory");
}

// Registers of a thread of this warpgroup from here on; all its warps must come.
template <int kRegisters>
__device__ __forceinline__ void GiveRegistersDownTo() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void TakeRegistersUpTo() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Matrix products of a warpgroup run on their own between BeginProducts and the end of WaitForProducts.
__device__ __forceinline__ void BeginProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void CommitProducts() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void WaitForProducts() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }

// Products write these registers when the compiler does not see it: none may be read or written between here and the next fence.
template <int kSums>
__device__ __forceinline__ void FenceSums(float (&d)[kSums]) {
#pragma unroll
  for (int i = 0; i < kSums; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// d += a b^T or d = a b^T for 64 rows, 2 kSums columns and 32 terms.
#define JEVONS_32(d, i)                                                                                                       \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7]), \
      "+f"(d[i + 8]), "+f"(d[i + 9]), "+f"(d[i + 10]), "+f"(d[i + 11]), "+f"(d[i + 12]), "+f"(d[i + 13]), "+f"(d[i + 14]),    \
      "+f"(d[i + 15]), "+f"(d[i + 16]), "+f"(d[i + 17]), "+f"(d[i + 18]), "+f"(d[i + 19]), "+f"(d[i + 20]), "+f"(d[i + 21]),  \
      "+f"(d[i + 22]), "+f"(d[i + 23]), "+f"(d[i + 24]), "+f"(d[i + 25]), "+f"(d[i + 26]), "+f"(d[i + 27]), "+f"(d[i + 28]),  \
      "+f"(d[i + 29]), "+f"(d[i + 30]), "+f"(d[i + 31])
#define JEVONS_NAMES_32                                                    \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define JEVONS_NAMES_64                                                                \
  JEVONS_NAMES_32                                                                      \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define JEVONS_NAMES_96                                                                \
  JEVONS_NAMES_64                                                                      \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define JEVONS_MULTIPLY(columns, names, a_name, b_name, add_name, ...)                                            \
  asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, " add_name ", 0;\nwgmma.mma_async.sync.aligned.m64n" columns \
               "k32.f32.e4m3.e4m3 {" names "}, " a_name ", " b_name ", add, 1, 1;\n}\n"                           \
               : __VA_ARGS__                                                                                      \
               : "l"(a), "l"(b), "r"(static_cast<int>(add)))
template <int kSums>
__device__ __forceinline__ void MultiplyAdd(float (&d)[kSums], uint64_t a, uint64_t b, bool add) {
  static_assert(kSums == 32 || kSums == 64 || kSums == 96);
  if constexpr (kSums == 32) JEVONS_MULTIPLY("64", JEVONS_NAMES_32, "%32", "%33", "%34", JEVONS_32(d, 0));
  if constexpr (kSums == 64) JEVONS_MULTIPLY("128", JEVONS_NAMES_64, "%64", "%65", "%66", JEVONS_32(d, 0), JEVONS_32(d, 32));
  if constexpr (kSums == 96)
    JEVONS_MULTIPLY("192", JEVONS_NAMES_96, "%96", "%97", "%98", JEVONS_32(d, 0), JEVONS_32(d, 32), JEVONS_32(d, 64));
}
#undef JEVONS_MULTIPLY
#undef JEVONS_NAMES_96
#undef JEVONS_NAMES_64
#undef JEVONS_NAMES_32
#undef JEVONS_32

}  // namespace jevons::cuda

#endif
#endif  // JEVONS_KERNELS_CUDA_HOPPER_CUH_
