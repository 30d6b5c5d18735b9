// The device's memory, where a device is played by the host: nobody can touch it but kernels, copies and library products. What the
// host's own code reads or writes there ends the program, as it would with a device.
#ifndef JEVONS_TESTS_SUPPORT_CUDA_ON_HOST_DEVICE_MEMORY_H_
#define JEVONS_TESTS_SUPPORT_CUDA_ON_HOST_DEVICE_MEMORY_H_

namespace cuda_on_host {

// While one lives, in any thread, the memory is open.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};

int& CurrentDevice();  // of UseCudaDevice: any number may be played

// cuDNN as it is played (sdpa.cc).
int& CudnnVersion();  // 91900 for 9.19.0; asked for when the library is opened
int CudnnHandles();   // made so far
int DeviceOfLastHandle();

}  // namespace cuda_on_host

#endif  // JEVONS_TESTS_SUPPORT_CUDA_ON_HOST_DEVICE_MEMORY_H_
