// What stands in for the CUDA backend in a build without it: everything that would touch a device aborts and says why. What the
// backend would take of its memory can be counted all the same.
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_fp8_layout.h"
#include "kernels/cuda/gemm_lt.h"
#include "kernels/cuda/quantize_columns.h"
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
void QuantizeWeights(const OpContext&, std::span<const QuantizeWeightDesc>, QuantStats*) {
  Absent("CUDA quantisation");
}
bool RunLt(const OpContext& ctx, const LtProduct&) {
  if (ctx.stream.device == Device::kNone) return CountLt(ctx);
  Absent("CUDA product");
}
std::string LtVersion() { Absent("CUDA product"); }
void PlainGemm(const OpContext&, const GemmDesc&) { Absent("CUDA product"); }
void PlainFp8Gemm(const OpContext&, const Fp8GemmDesc&) { Absent("CUDA product"); }
bool WgmmaServes(const Fp8GemmDesc&) { Absent("CUDA product"); }
void WgmmaFp8Gemms(const OpContext&, std::span<const Fp8GemmDesc>, int) { Absent("CUDA product"); }
void FillPaddedCodes(const OpContext&, const Tensor&, const Tensor&) { Absent("CUDA product"); }
void FillTransposedCodes(const OpContext&, const Tensor&, const Tensor&) { Absent("CUDA product"); }
void FillScales(const OpContext&, const ScaleView&, bool, int64_t, int64_t, const Tensor&) { Absent("CUDA product"); }
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
