// When and where cuDNN's handle is made, and what is left to a library that is too old: played on the host, each in a process of its
// own, since a process opens the library once.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/report.h"
#include "tests/kernels/cuda/cuda_test.h"
#include "tests/support/cuda_on_host/device_memory.h"

namespace jevons {
namespace {

void Attend(bool documents) {
  DeviceCase c(Device::kCuda, Addresses::kAligned);
  const std::vector<int32_t> start(20, 0);
  AttentionDesc desc{.heads = 2,
                     .nope_dim = 16,
                     .rope_dim = 8,
                     .value_dim = 16,
                     .sequence_length = 20,
                     .scale = 0.2f,
                     .q = c.Make(DType::kBF16, 20, 48).Fill(1).tensor(),
                     .kv = c.Make(DType::kBF16, 20, 64).Fill(2).tensor(),
                     .k_rope = c.Make(DType::kBF16, 20, 8).Fill(3).tensor(),
                     .document_start = documents ? c.MakeVector(DType::kI32, start).tensor().Reshape({20}) : Tensor(),
                     .o = c.Make(DType::kBF16, 20, 32).tensor(),
                     .lse = c.Make(DType::kF32, 20, 2).tensor()};
  if (documents) desc.documents = 1, desc.longest_document = 20;
  Attention(c.ctx(), desc);
}

// Ends the process that a death test made: 0 if all that was expected held.
[[noreturn]] void End() { std::exit(testing::Test::HasFailure() ? 1 : 0); }

TEST(CudnnHandleTest, IsMadeOnTheDeviceInUseAtTheFirstAttention) {
  EXPECT_EXIT(
      {
        EXPECT_EQ(ExamineCuda().cudnn_problem, "");
        EXPECT_EQ(cuda::CudnnText(), "cuDNN 9.19.0");
        EXPECT_EQ(cuda_on_host::CudnnHandles(), 0);
        UseCudaDevice(1);
        Attend(false);
        Attend(true);
        EXPECT_EQ(cuda_on_host::CudnnHandles(), 1);
        EXPECT_EQ(cuda_on_host::DeviceOfLastHandle(), 1);
        EXPECT_EQ(cuda::ServedSoFar().cudnn, 2);
        End();
      },
      testing::ExitedWithCode(0), "");
}

TEST(CudnnHandleTest, AnOlderLibraryGetsNoDocuments) {
  EXPECT_EXIT(
      {
        cuda_on_host::CudnnVersion() = 91701;
        EXPECT_EQ(cuda::CudnnText(), "cuDNN 9.17.1, which is not used for documents: those want 9.18.0");
        Attend(false);
        Attend(true);
        Attend(true);
        EXPECT_EQ(cuda::ServedSoFar().cudnn, 1);
        EXPECT_EQ(cuda::ServedSoFar().plain_attention, 2);
        EXPECT_EQ(cuda::ServedSoFar().fallbacks, 2);
        End();
      },
      testing::ExitedWithCode(0), "documents want cuDNN 9.18.0, this is 9.17.1.; slower kernels serve\n$");
}

TEST(ReportTest, RanksOfADeviceShareWhatIsFreeAndLeaveRoomForLibraries) {
  constexpr int64_t kGiB = int64_t{1} << 30;
  EXPECT_EQ(cuda::RoomOfRank(80 * kGiB, 1), 78 * kGiB);
  EXPECT_EQ(cuda::RoomOfRank(80 * kGiB, 4), 18 * kGiB);
  EXPECT_EQ(cuda::RoomOfRank(1 * kGiB, 1), 0);
}

}  // namespace
}  // namespace jevons
