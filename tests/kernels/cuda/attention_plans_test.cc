// cuDNN's plans for an H100, made without one: the library takes a description of the device, chooses its kernels for it and says
// what memory they need. Kernels are loaded into a driver that runs none (tests/support/driver_without_device).
#include <dlfcn.h>

#include <memory>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/attention_cudnn.h"

namespace jevons::cuda {
namespace {

using ::testing::HasSubstr;

// As cuDNN 9 describes an H100 SXM: limits of compute capability 9.0 (CUDA Programming Guide, "Technical Specifications per Compute
// Capability"), 132 multiprocessors, 50 MiB of L2 (NVIDIA H100 data sheet).
constexpr char kH100[] = R"({
  "deviceName": "NVIDIA H100 80GB HBM3", "deviceVer": 900, "driverVer": 13000, "cudaDeviceId": 0, "pciDeviceId": 0,
  "multiProcessorCount": 132, "smClockRateKHz": 1980000, "memClockRateKHz": 2619000, "l2CacheSize": 52428800,
  "totalGlobalMem": 85899345920, "warpSize": 32, "regsPerBlock": 65536, "maxRegistersPerSM": 65536,
  "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64], "maxThreadsPerBlock": 1024,
  "maxThreadsPerSM": 2048, "maxCtasPerSM": 32, "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448,
  "reservedSharedMemoryPerBlock": 1024, "isTccDriver": 0, "supportCoopLaunch": 1})";

struct Sizes {
  int64_t sequences, length, heads, nope, rope, value;
  int64_t documents = 0;
};

// A call's tensors at addresses that nobody reads.
class Call {
 public:
  explicit Call(const Sizes& s) {
    const int64_t rows = s.sequences * s.length, dk = s.nope + s.rope;
    desc_ = {.heads = s.heads,
             .nope_dim = s.nope,
             .rope_dim = s.rope,
             .value_dim = s.value,
             .sequence_length = s.length,
             .scale = 0.1f,
             .q = Of(rows, s.heads * dk),
             .kv = Of(rows, s.heads * (s.nope + s.value)),
             .k_rope = Of(rows, s.rope),
             .document_start = s.documents > 0 ? Tensor(room_, DType::kI32, {rows}) : Tensor(),
             .documents = s.documents,
             .longest_document = s.documents > 0 ? s.length : 0,
             .o = Of(rows, s.heads * s.value),
             .lse = Tensor(room_, DType::kF32, {rows, s.heads})};
    grad_ = {.d_o = desc_.o, .dq = desc_.q, .dkv = desc_.kv, .dk_rope = desc_.k_rope};
  }

  absl::StatusOr<std::unique_ptr<AttentionGraph>> Plan(bool backward, size_t part = 0) {
    shape_ = PlanOf(desc_, backward).parts[part].shape;
    const Tensor keys = Of(shape_.rows, shape_.heads * (desc_.nope_dim + desc_.rope_dim));
    CudnnRoom group;
    group.keys = group.d_keys = keys;
    group.stats = Tensor(room_, DType::kF32, {shape_.rows, shape_.heads});
    return AttentionGraph::Make(shape_, OperandsOf(desc_, backward ? &grad_ : nullptr, group, 0), {.description = kH100});
  }
  size_t BackwardParts() const { return PlanOf(desc_, true).parts.size(); }
  const GraphShape& shape() const { return shape_; }  // of the last plan

 private:
  Tensor Of(int64_t rows, int64_t cols) { return Tensor(room_, DType::kBF16, {rows, cols}); }

  alignas(16) char room_[16] = {};
  AttentionDesc desc_;
  AttentionGrad grad_;
  GraphShape shape_;
};

class AttentionPlansTest : public ::testing::Test {
 protected:
  void SetUp() override {
    static const std::string* problem = new std::string(OpenCudnn());
    if (!problem->empty()) GTEST_SKIP() << *problem;
    void* driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver != nullptr) last_kernel_ = reinterpret_cast<const char* (*)()>(dlsym(driver, "LastKernel"));
    ASSERT_NE(last_kernel_, nullptr) << "libcuda.so.1 is not the driver without a device: run this by ctest";
  }
  std::string LastKernel() const { return last_kernel_(); }

 private:
  const char* (*last_kernel_)() = nullptr;
};

constexpr Sizes kSizes[] = {
    {1, 4096, 128, 128, 64, 128},      // DeepSeek-V3
    {1, 4096, 128, 128, 64, 128, 16},  // with documents
    {4, 2048, 16, 128, 64, 128},       // several sequences, few heads
    {4, 4096, 16, 128, 64, 128, 100},  // many, and long
    {2, 256, 4, 32, 16, 32},           // small heads
    {2, 256, 4, 32, 16, 32, 7},        //
    {3, 200, 3, 64, 32, 64},           // no tile is whole
};

TEST_F(AttentionPlansTest, ForwardRunsOnTensorCoresOfHopper) {
  for (const Sizes& sizes : kSizes) {
    Call call(sizes);
    const auto graph = call.Plan(false);
    ASSERT_TRUE(graph.ok()) << graph.status();
    EXPECT_THAT(LastKernel(), HasSubstr("sm90_flash_fprop_wgmma"));
    EXPECT_LE((*graph)->workspace_bytes(), WorkspaceBytes(call.shape()));
  }
}

// Deterministic, within the gigabyte that calls are cut for and what grows with tokens alone.
TEST_F(AttentionPlansTest, BackwardRunsOnTensorCoresOfHopperInBoundedMemory) {
  for (const Sizes& sizes : kSizes) {
    Call call(sizes);
    for (size_t part = 0; part < call.BackwardParts(); ++part) {
      const auto graph = call.Plan(true, part);
      ASSERT_TRUE(graph.ok()) << graph.status();
      EXPECT_THAT(LastKernel(), HasSubstr("sm90_flash_bprop_wgmma"));
      const int64_t asked = (*graph)->workspace_bytes(), planned = WorkspaceBytes(call.shape());
      EXPECT_LE(asked, planned);
      EXPECT_GT(asked, planned / 2);
      EXPECT_LT(planned, int64_t{9} << 27);
    }
  }
}

TEST_F(AttentionPlansTest, ARefusalSaysWhy) {
  const auto graph = Call({1, 256, 2, 256, 64, 128}).Plan(true);
  ASSERT_FALSE(graph.ok());
  EXPECT_THAT(std::string(graph.status().message()), HasSubstr("less than or equal to 256"));
}

}  // namespace
}  // namespace jevons::cuda
