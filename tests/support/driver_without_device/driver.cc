// A libcuda.so.1 for machines without a GPU: it takes kernels and runs none. cuDNN, which makes plans for a device that is only
// described, loads their kernels at the end; with this driver the plan is whole, and a test sees which kernels were chosen.
#include <cstring>

namespace {

constexpr int kSuccess = 0, kNoDevice = 100, kVersion = 13000;
char last_kernel[512] = "";
int something;  // what handles point to

}  // namespace

extern "C" {

// The name of the kernel last asked for.
const char* LastKernel() { return last_kernel; }

int cuDriverGetVersion(int* version) {
  *version = kVersion;
  return kSuccess;
}
int cuLibraryLoadData(void** library, const void*, void*, void*, unsigned, void*, void*, unsigned) {
  *library = &something;
  return kSuccess;
}
int cuLibraryGetKernel(void** kernel, void*, const char* name) {
  *kernel = &something;
  std::strncpy(last_kernel, name, sizeof last_kernel - 1);
  return kSuccess;
}
int cuLibraryUnload(void*) { return kSuccess; }
int cuKernelSetAttribute(int, int, void*, int) { return kSuccess; }
int cuGetErrorString(int, const char** text) {
  *text = "this driver has no device";
  return kSuccess;
}

// cuDNN wants these to be there before it makes any plan.
#define JEVONS_NO_DEVICE(name) \
  int name() { return kNoDevice; }
JEVONS_NO_DEVICE(cuCtxGetCurrent)
JEVONS_NO_DEVICE(cuCtxGetDevice)
JEVONS_NO_DEVICE(cuCtxGetLimit)
JEVONS_NO_DEVICE(cuCtxPopCurrent)
JEVONS_NO_DEVICE(cuCtxPushCurrent)
JEVONS_NO_DEVICE(cuDeviceGet)
JEVONS_NO_DEVICE(cuDeviceGetAttribute)
JEVONS_NO_DEVICE(cuDeviceGetCount)
JEVONS_NO_DEVICE(cuDevicePrimaryCtxRelease)
JEVONS_NO_DEVICE(cuDevicePrimaryCtxReset)
JEVONS_NO_DEVICE(cuDevicePrimaryCtxRetain)
JEVONS_NO_DEVICE(cuFuncGetAttribute)
JEVONS_NO_DEVICE(cuFuncSetAttribute)
JEVONS_NO_DEVICE(cuGetErrorName)
JEVONS_NO_DEVICE(cuInit)
JEVONS_NO_DEVICE(cuKernelGetAttribute)
JEVONS_NO_DEVICE(cuLaunchCooperativeKernel)
JEVONS_NO_DEVICE(cuLaunchKernel)
JEVONS_NO_DEVICE(cuLaunchKernelEx)
JEVONS_NO_DEVICE(cuLibraryLoadFromFile)
JEVONS_NO_DEVICE(cuLinkAddData)
JEVONS_NO_DEVICE(cuLinkAddData_v2)
JEVONS_NO_DEVICE(cuLinkAddFile_v2)
JEVONS_NO_DEVICE(cuLinkComplete)
JEVONS_NO_DEVICE(cuLinkCreate)
JEVONS_NO_DEVICE(cuLinkCreate_v2)
JEVONS_NO_DEVICE(cuLinkDestroy)
JEVONS_NO_DEVICE(cuMemcpyDtoH_v2)
JEVONS_NO_DEVICE(cuModuleGetFunction)
JEVONS_NO_DEVICE(cuModuleGetGlobal_v2)
JEVONS_NO_DEVICE(cuModuleLoadData)
JEVONS_NO_DEVICE(cuModuleLoadDataEx)
JEVONS_NO_DEVICE(cuModuleLoadFatBinary)
JEVONS_NO_DEVICE(cuModuleUnload)
JEVONS_NO_DEVICE(cuOccupancyMaxActiveBlocksPerMultiprocessor)
JEVONS_NO_DEVICE(cuOccupancyMaxPotentialClusterSize)
JEVONS_NO_DEVICE(cuStreamGetCtx)
JEVONS_NO_DEVICE(cuStreamSynchronize)
JEVONS_NO_DEVICE(cuTensorMapEncodeTiled)

}  // extern "C"
