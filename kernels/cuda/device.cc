#include "kernels/tensor/device.h"

#include <cuda.h>
#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include <algorithm>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/report.h"
#include "kernels/tensor/cuda_backend.h"

namespace jevons {
namespace cuda {
namespace {

cudaStream_t StreamOf(void* handle) { return static_cast<cudaStream_t>(handle); }
cudaEvent_t EventOf(void* handle) { return static_cast<cudaEvent_t>(handle); }
size_t Unsigned(int64_t n) { return static_cast<size_t>(n); }

// The driver's functions for memory that grows in place. They are looked up where they are needed, so the program neither links
// to libcuda nor fails to start where there is no driver.
struct Driver {
  PFN_cuMemGetAllocationGranularity_v10020 granularity;
  PFN_cuMemAddressReserve_v10020 reserve;
  PFN_cuMemAddressFree_v10020 free;
  PFN_cuMemCreate_v10020 create;
  PFN_cuMemRelease_v10020 release;
  PFN_cuMemMap_v10020 map;
  PFN_cuMemUnmap_v10020 unmap;
  PFN_cuMemSetAccess_v10020 set_access;
  PFN_cuGetErrorString_v6000 error_string;
};

template <typename Function>
void LookUp(const char* name, unsigned version, Function& function) {
  void* address = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  JEVONS_CUDA_CHECK(cudaGetDriverEntryPointByVersion(name, &address, version, cudaEnableDefault, &found));
  JEVONS_CHECK(found == cudaDriverEntryPointSuccess && address != nullptr,
               "the NVIDIA driver lacks %s; install one for CUDA 12 or later", name);
  function = reinterpret_cast<Function>(address);
}

const Driver& TheDriver() {
  static const Driver driver = [] {
    Driver d = {};
    LookUp("cuMemGetAllocationGranularity", 10020, d.granularity);
    LookUp("cuMemAddressReserve", 10020, d.reserve);
    LookUp("cuMemAddressFree", 10020, d.free);
    LookUp("cuMemCreate", 10020, d.create);
    LookUp("cuMemRelease", 10020, d.release);
    LookUp("cuMemMap", 10020, d.map);
    LookUp("cuMemUnmap", 10020, d.unmap);
    LookUp("cuMemSetAccess", 10020, d.set_access);
    LookUp("cuGetErrorString", 6000, d.error_string);
    return d;
  }();
  return driver;
}

void CheckDriver(CUresult result, const char* call, int64_t bytes) {
  if (result == CUDA_SUCCESS) return;
  const char* text = nullptr;
  TheDriver().error_string(result, &text);
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  CheckFailed(__FILE__, __LINE__, call, "%s: %lld bytes; the device has %zu of %zu free",
              text != nullptr ? text : "unknown error", static_cast<long long>(bytes), free, total);
}

int CurrentDevice() {
  int device = 0;
  JEVONS_CUDA_CHECK(cudaGetDevice(&device));
  return device;
}

CUmemAllocationProp MemoryOfThisDevice() {
  CUmemAllocationProp prop = {};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  prop.location.id = CurrentDevice();
  return prop;
}

// Memory grows by so much at a time: large enough that a step's first run maps seldom, small beside a device.
constexpr int64_t kGrowth = int64_t{64} << 20;

int64_t RoundUp(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

void* NewStream() {
  cudaStream_t stream = nullptr;
  JEVONS_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}
void DeleteStream(void* stream) { JEVONS_CUDA_CHECK(cudaStreamDestroy(StreamOf(stream))); }
void SynchronizeStream(void* stream) { JEVONS_CUDA_CHECK(cudaStreamSynchronize(StreamOf(stream))); }
void SynchronizeDevice() { JEVONS_CUDA_CHECK(cudaDeviceSynchronize()); }

void* NewEvent() {
  cudaEvent_t event = nullptr;
  JEVONS_CUDA_CHECK(cudaEventCreate(&event));
  return event;
}
void DeleteEvent(void* event) { JEVONS_CUDA_CHECK(cudaEventDestroy(EventOf(event))); }
void RecordEvent(void* event, void* stream) { JEVONS_CUDA_CHECK(cudaEventRecord(EventOf(event), StreamOf(stream))); }
void WaitForEvent(void* stream, void* event) {
  JEVONS_CUDA_CHECK(cudaStreamWaitEvent(StreamOf(stream), EventOf(event), cudaEventWaitDefault));
}
void SynchronizeEvent(void* event) { JEVONS_CUDA_CHECK(cudaEventSynchronize(EventOf(event))); }

bool EventHappened(void* event) {
  const cudaError_t state = cudaEventQuery(EventOf(event));
  if (state == cudaErrorNotReady) {
    cudaGetLastError();  // "not ready" is an answer, not an error to be found later
    return false;
  }
  JEVONS_CUDA_CHECK(state);
  return true;
}

double EventMilliseconds(void* begin, void* end) {
  float milliseconds = 0;
  JEVONS_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, EventOf(begin), EventOf(end)));
  return double{milliseconds};
}

void CopyBytes(void* stream, const void* from, void* to, int64_t bytes) {
  JEVONS_CUDA_CHECK(cudaMemcpyAsync(to, from, Unsigned(bytes), cudaMemcpyDefault, StreamOf(stream)));
}

void SetBytes(void* stream, void* to, int value, int64_t rows, int64_t width, int64_t pitch) {
  if (rows == 1) {  // a pitch is at most 2^31 - 1; a row may be longer
    JEVONS_CUDA_CHECK(cudaMemsetAsync(to, value, Unsigned(width), StreamOf(stream)));
    return;
  }
  JEVONS_CUDA_CHECK(cudaMemset2DAsync(to, Unsigned(pitch), value, Unsigned(width), Unsigned(rows), StreamOf(stream)));
}

void* NewPinned(int64_t bytes) {
  void* data = nullptr;
  JEVONS_CUDA_CHECK(cudaHostAlloc(&data, Unsigned(bytes), cudaHostAllocPortable));
  return data;
}
void DeletePinned(void* data) { JEVONS_CUDA_CHECK(cudaFreeHost(data)); }

Memory::Memory(int64_t capacity) {
  JEVONS_CUDA_CHECK(cudaFree(nullptr));  // makes the runtime's context current: the driver's functions need one
  size_t granularity = 0;
  const CUmemAllocationProp prop = MemoryOfThisDevice();
  CheckDriver(TheDriver().granularity(&granularity, &prop, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED), "cuMemGetAllocationGranularity",
              0);
  JEVONS_CHECK(granularity > 0 && kGrowth % static_cast<int64_t>(granularity) == 0, "pages of %zu bytes", granularity);
  reserved_ = RoundUp(std::max<int64_t>(capacity, 1), kGrowth);
  CUdeviceptr address = 0;
  CheckDriver(TheDriver().reserve(&address, Unsigned(reserved_), 0, 0, 0), "cuMemAddressReserve", reserved_);
  base_ = reinterpret_cast<char*>(address);
}

void Memory::Back(int64_t bytes) {
  if (bytes <= backed_) return;
  JEVONS_CHECK(bytes <= reserved_, "%lld of %lld bytes", static_cast<long long>(bytes), static_cast<long long>(reserved_));
  const int64_t grow = RoundUp(bytes, kGrowth) - backed_;
  const CUmemAllocationProp prop = MemoryOfThisDevice();
  CUmemAccessDesc access = {};
  access.location = prop.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  // Piece by piece of one size, so that they are unmapped by the same steps.
  for (int64_t end = backed_ + grow; backed_ < end; backed_ += kGrowth) {
    const auto at = reinterpret_cast<CUdeviceptr>(base_ + backed_);
    CUmemGenericAllocationHandle memory = 0;
    CheckDriver(TheDriver().create(&memory, Unsigned(kGrowth), &prop, 0), "cuMemCreate", kGrowth);
    CheckDriver(TheDriver().map(at, Unsigned(kGrowth), 0, memory, 0), "cuMemMap", kGrowth);
    CheckDriver(TheDriver().release(memory), "cuMemRelease", kGrowth);  // the mapping keeps it alive
    CheckDriver(TheDriver().set_access(at, Unsigned(kGrowth), &access, 1), "cuMemSetAccess", kGrowth);
  }
}

Memory::~Memory() {
  SynchronizeDevice();  // kernels may still use it
  for (int64_t at = 0; at < backed_; at += kGrowth)
    CheckDriver(TheDriver().unmap(reinterpret_cast<CUdeviceptr>(base_ + at), Unsigned(kGrowth)), "cuMemUnmap", kGrowth);
  CheckDriver(TheDriver().free(reinterpret_cast<CUdeviceptr>(base_), Unsigned(reserved_)), "cuMemAddressFree", reserved_);
}

}  // namespace cuda

namespace {

CudaDevice DescribeDevice(int index) {
  cudaDeviceProp prop = {};
  JEVONS_CUDA_CHECK(cudaGetDeviceProperties(&prop, index));
  return {.name = prop.name,
          .major = prop.major,
          .minor = prop.minor,
          .multiprocessors = prop.multiProcessorCount,
          .memory_bytes = static_cast<int64_t>(prop.totalGlobalMem)};
}

}  // namespace

CudaReport ExamineCuda() {
  CudaReport report;
  report.built = true;
  report.cudnn_problem = cuda::CudnnProblem();
  cudaDriverGetVersion(&report.driver_version);
  cudaRuntimeGetVersion(&report.runtime_version);
  int count = 0;
  const cudaError_t state = cudaGetDeviceCount(&count);
  if (state != cudaSuccess || count == 0) {
    cudaGetLastError();
    report.problem = report.driver_version == 0 ? "no NVIDIA driver"
                     : state != cudaSuccess     ? cudaGetErrorString(state)
                                                : "no NVIDIA GPU";
    return report;
  }
  bool fits = false;
  for (int i = 0; i < count; ++i) {
    report.devices.push_back(DescribeDevice(i));
    fits = fits || (report.devices[i].major == 9 && report.devices[i].minor == 0);
  }
  if (!fits) report.problem = "no device of compute capability 9.0 (Hopper), for which this program was built";
  return report;
}

int64_t cuda::FreeDeviceBytes() {
  size_t free = 0, total = 0;
  JEVONS_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  return static_cast<int64_t>(free);
}

void UseCudaDevice(int index) { JEVONS_CUDA_CHECK(cudaSetDevice(index)); }

}  // namespace jevons
