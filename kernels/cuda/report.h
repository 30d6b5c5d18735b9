// What a program tells of the CUDA backend beside CudaReport: who serves its products and attention, the version of cuDNN, the memory
// that is left. In a build without the backend there is nothing to tell.
#ifndef JEVONS_KERNELS_CUDA_REPORT_H_
#define JEVONS_KERNELS_CUDA_REPORT_H_

#include <cstdint>
#include <string>

namespace jevons::cuda {

// Calls of this process so far, by who served them.
struct Served {
  int64_t wgmma = 0, cublaslt = 0, plain = 0;  // products
  int64_t cudnn = 0, plain_attention = 0;      // attention, forward and backward
  int64_t fallbacks = 0;                       // of all: by a slower implementation, since the one meant for it refused
};
Served ServedSoFar();
// "products: 12 by wgmma, 40 by cublaslt, 0 by plain; attention: 4 by cudnn, 0 by plain; 0 fell back to a slower one"
std::string ServedText(const Served& served);

void CountServed(int64_t Served::*who, int64_t count = 1);
// One more fallback. The first of a kind is told in the log: "<what>; slower kernels serve".
void CountFallback(const std::string& what);

// "cuDNN 9.19.0", with what that version is not trusted with; empty where it cannot be opened.
std::string CudnnText();

// Free bytes of this process's device.
int64_t FreeDeviceBytes();

// Of a device's free memory, what a plan may not use: modules of cuBLASLt and cuDNN, which are loaded with the first call, and
// NCCL's buffers for the communicators of the mesh.
inline constexpr int64_t kLibraryBytes = int64_t{2} << 30;
// What each of the ranks that share a device may plan with, when all have made their contexts.
constexpr int64_t RoomOfRank(int64_t free_bytes, int ranks) {
  const int64_t room = free_bytes / ranks - kLibraryBytes;
  return room > 0 ? room : 0;
}

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_REPORT_H_
