// What stands in for the CUDA backend in a build without it: everything that would touch a device aborts and says why.
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_fp8_layout.h"
#include "kernels/cuda/report.h"
#include "kernels/ops/registry.h"
#include "kernels/tensor/cuda_backend.h"
#include "kernels/tensor/device.h"

namespace jevons {

CudaReport ExamineCuda() {
  CudaReport report;
  report.problem = "this program was built without the CUDA backend";
  return report;
}

namespace {

[[noreturn]] void Absent(const char* what) {
  CheckFailed(__FILE__, __LINE__, what,
              "this program was built without the CUDA backend; install the CUDA toolkit and build with "
              "-DJEVONS_CUDA=ON, or choose the CPU");
}

}  // namespace

void UseCudaDevice(int) { Absent("CUDA device"); }

namespace cuda {

const OpTable& Operators() { Absent("CUDA operators"); }
const QuantizeTable& Quantization() { Absent("CUDA quantisation"); }
void GroupedGemm(const OpContext&, std::span<const GemmDesc>) { Absent("CUDA product"); }
void GroupedFp8Gemm(const OpContext&, std::span<const Fp8GemmDesc>) { Absent("CUDA product"); }
void QuantizeWeights(const OpContext&, std::span<const QuantizeWeightDesc>, QuantStats*) {
  Absent("CUDA quantisation");
}
std::string GemmImplementation() { Absent("CUDA product"); }
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
