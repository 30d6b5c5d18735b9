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

}  // namespace cuda_on_host

#endif  // JEVONS_TESTS_SUPPORT_CUDA_ON_HOST_DEVICE_MEMORY_H_
