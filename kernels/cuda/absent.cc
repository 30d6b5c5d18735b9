// What stands in for the CUDA backend in a build without it: everything that would touch a device aborts and says why. Products, which are
// counted without a device, are in absent_products.cc.
#include "kernels/cuda/absent.h"

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/report.h"
#include "kernels/tensor/cuda_backend.h"
#include "kernels/tensor/device.h"

namespace jevons {

CudaReport ExamineCuda() {
  CudaReport report;
  report.problem = "this program was built without the CUDA backend";
  return report;
}

void UseCudaDevice(int) { cuda::Absent("CUDA device"); }

namespace cuda {

const OpTable& Operators() { Absent("CUDA operators"); }
std::string CudnnText() { return ""; }
int64_t FreeDeviceBytes() { Absent("CUDA memory"); }

void* NewStream() { Absent("CUDA stream"); }
void DeleteStream(void*) { Absent("CUDA stream"); }
void SynchronizeStream(void*) { Absent("CUDA stream"); }
void SynchronizeDevice() { Absent("CUDA device"); }
void* NewEvent() { Absent("CUDA event"); }
void DeleteEvent(void*) { Absent("CUDA event"); }
void RecordEvent(void*, void*) { Absent("CUDA event"); }
void WaitForEvent(void*, void*) { Absent("CUDA event"); }
void SynchronizeEvent(void*) { Absent("CUDA event"); }
bool EventHappened(void*) { Absent("CUDA event"); }
double EventMilliseconds(void*, void*) { Absent("CUDA event"); }
void CopyBytes(void*, const void*, void*, int64_t) { Absent("CUDA copy"); }
void SetBytes(void*, void*, int, int64_t, int64_t, int64_t) { Absent("CUDA memory"); }
void* NewPinned(int64_t) { Absent("CUDA memory"); }
void DeletePinned(void*) { Absent("CUDA memory"); }
Memory::Memory(int64_t) { Absent("CUDA memory"); }
Memory::~Memory() = default;
void Memory::Back(int64_t) { Absent("CUDA memory"); }

}  // namespace cuda
}  // namespace jevons
