#include "kernels/cuda/gemm_lt.h"

#include <cublasLt.h>

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"

namespace jevons::cuda {
namespace {

#define JEVONS_LT_CHECK(call)                                                                             \
  do {                                                                                                    \
    if (const cublasStatus_t jevons_status = (call); jevons_status != CUBLAS_STATUS_SUCCESS) [[unlikely]] \
      ::jevons::CheckFailed(__FILE__, __LINE__, #call, "%s", cublasLtGetStatusName(jevons_status));       \
  } while (false)

// Experts bring a new number of tokens with every step; a plan that is made again is the same, and costs some microseconds.
constexpr size_t kMostPlans = 4096;

cudaDataType_t TypeOf(LtType type) {
  return type == LtType::kF32 ? CUDA_R_32F : type == LtType::kBF16 ? CUDA_R_16BF : CUDA_R_8F_E4M3;
}

// What owns one of the library's objects.
template <typename Object, cublasStatus_t (*kDestroy)(Object)>
class Owned {
 public:
  Owned() = default;
  ~Owned() {
    if (object_ != nullptr) kDestroy(object_);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  Object* out() { return &object_; }
  Object get() const { return object_; }

 private:
  Object object_ = nullptr;
};
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

// A product but for its addresses, with the algorithm that serves it.
struct Plan {
  Operation operation;
  Layout a, b, d;
  cublasLtMatmulAlgo_t algorithm;
  bool found = false;
};

// The largest power of two up to 16, which is all that TMA wants, that divides an address: algorithms are chosen by it, and so are not
// by what else an address happens to be a multiple of.
uint32_t AlignmentOf(const void* p) {
  const uintptr_t bits = reinterpret_cast<uintptr_t>(p) | 16;
  return static_cast<uint32_t>(bits & (~bits + 1));
}

using Key = std::array<int64_t, 16>;
Key KeyOf(const LtProduct& p) {
  return {p.rows,
          p.cols,
          p.k,
          p.a.pitch,
          p.b.pitch,
          p.d_pitch,
          p.a.transposed,
          p.b.transposed,
          static_cast<int64_t>(p.a.scales),
          static_cast<int64_t>(p.b.scales),
          static_cast<int64_t>(p.in),
          static_cast<int64_t>(p.out),
          p.add,
          AlignmentOf(p.a.data),
          AlignmentOf(p.b.data),
          AlignmentOf(p.d)};
}

template <typename Value>
void Set(const Operation& operation, cublasLtMatmulDescAttributes_t attribute, const Value& value) {
  JEVONS_LT_CHECK(cublasLtMatmulDescSetAttribute(operation.get(), attribute, &value, sizeof value));
}
template <typename Value>
void Set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute, const Value& value) {
  JEVONS_LT_CHECK(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof value));
}

void SetScales(const Operation& operation, const LtProduct& p) {
  const auto mode = [](LtScales scales) {
    return static_cast<int32_t>(scales == LtScales::kVectors ? CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F
                                                             : CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F);
  };
  Set(operation, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, mode(p.a.scales));
  Set(operation, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, mode(p.b.scales));
  Set(operation, CUBLASLT_MATMUL_DESC_FAST_ACCUM, int8_t{0});  // sums leave the tensor core every so many terms
}

void SetScalePointers(const Operation& operation, const LtProduct& p) {
  Set(operation, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, p.a.scale);
  Set(operation, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, p.b.scale);
}

void NewLayout(Layout& layout, LtType type, int64_t rows, int64_t cols, bool transposed, int64_t pitch) {
  if (transposed) std::swap(rows, cols);
  JEVONS_LT_CHECK(
      cublasLtMatrixLayoutCreate(layout.out(), TypeOf(type), static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), pitch));
}

class Library {
 public:
  Library() { JEVONS_LT_CHECK(cublasLtCreate(&handle_)); }
  std::mutex mutex;  // plans are found, made and given their scales under it
  cublasLtHandle_t handle() const { return handle_; }

  const Plan& PlanOf(const LtProduct& p) {
    const Key key = KeyOf(p);
    const auto found = plans_.find(key);
    if (found != plans_.end()) return *found->second;
    if (plans_.size() >= kMostPlans) plans_.clear();
    std::unique_ptr<Plan>& plan = plans_[key];
    plan = std::make_unique<Plan>();
    Prepare(p, *plan);
    return *plan;
  }

 private:
  void Prepare(const LtProduct& p, Plan& plan) const {
    JEVONS_LT_CHECK(cublasLtMatmulDescCreate(plan.operation.out(), CUBLAS_COMPUTE_32F, CUDA_R_32F));
    Set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, p.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    Set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, p.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (p.in == LtType::kE4M3) {
      SetScales(plan.operation, p);
      SetScalePointers(plan.operation, p);
    }
    NewLayout(plan.a, p.in, p.rows, p.k, p.a.transposed, p.a.pitch);
    NewLayout(plan.b, p.in, p.k, p.cols, p.b.transposed, p.b.pitch);
    NewLayout(plan.d, p.out, p.rows, p.cols, false, p.d_pitch);
    ChooseAlgorithm(p, plan);
  }

  void ChooseAlgorithm(const LtProduct& p, Plan& plan) const {
    Preference preference;
    JEVONS_LT_CHECK(cublasLtMatmulPreferenceCreate(preference.out()));
    Set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kLtWorkspaceBytes});
    // Parts of a sum over k meet in the workspace, in FP32 and in order, never in D.
    Set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, AlignmentOf(p.a.data));
    Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, AlignmentOf(p.b.data));
    Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, AlignmentOf(p.d));
    Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, AlignmentOf(p.d));
    cublasLtMatmulHeuristicResult_t best = {};
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle_, plan.operation.get(), plan.a.get(), plan.b.get(),
                                                                 plan.d.get(), plan.d.get(), preference.get(), 1, &best, &count);
    const bool refused = status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE;
    if (!refused) JEVONS_LT_CHECK(status);
    plan.found = !refused && count > 0 && best.state == CUBLAS_STATUS_SUCCESS;
    plan.algorithm = best.algo;
  }

  cublasLtHandle_t handle_ = nullptr;  // as long as the process
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

Library& TheLibrary() {
  static Library* library = new Library;
  return *library;
}

void* Workspace(const OpContext& ctx) {
  const Tensor room = LtWorkspace(ctx);
  constexpr uintptr_t kUnit = kLtWorkspaceAlignment;
  return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(room.data) + kUnit - 1) / kUnit * kUnit);
}

}  // namespace

bool RunLt(const OpContext& ctx, const LtProduct& p) {
  if (ctx.stream.device == Device::kNone) return CountLt(ctx);
  JEVONS_CHECK(ctx.scratch != nullptr, "a product on a CUDA stream needs an arena for temporaries");
  Library& library = TheLibrary();
  const std::lock_guard lock(library.mutex);
  const Plan& plan = library.PlanOf(p);
  if (!plan.found) return false;
  if (p.in == LtType::kE4M3) SetScalePointers(plan.operation, p);
  ArenaScope scope(*ctx.scratch);
  const float alpha = 1, beta = p.add ? 1 : 0;
  JEVONS_LT_CHECK(cublasLtMatmul(library.handle(), plan.operation.get(), &alpha, p.a.data, plan.a.get(), p.b.data, plan.b.get(),
                                 &beta, p.d, plan.d.get(), p.d, plan.d.get(), &plan.algorithm, Workspace(ctx), kLtWorkspaceBytes,
                                 static_cast<cudaStream_t>(ctx.stream.handle)));
  return true;
}

std::string LtVersion() {
  const size_t version = cublasLtGetVersion();
  return absl::StrFormat("%d.%d", version / 10000, version % 10000 / 100);
}

}  // namespace jevons::cuda
