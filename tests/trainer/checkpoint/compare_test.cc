// Hashes and differences of states, and what to do about a damaged one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "parallel/comm/loopback.h"
#include "tests/support/memory_disk.h"
#include "tests/trainer/checkpoint/test_state.h"

namespace jevons {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// One tensor "w" F32 [2, 3] and one "bias" I64 [2], saved and opened.
struct Small {
  std::vector<float> w = {0, 1, 2, 3, 4, 5};
  std::vector<int64_t> bias = {7, 8};
  CheckpointInfo info = {.step = 3, .config_text = "c", .sampler_state = "s", .cost_state = "$", .labels = {}};
  std::string w_name = "w";

  CheckpointReader Open() {
    RunLoopback(1, [&](Communicator& world) {
      CheckpointWriter writer(disk, "checkpoints", world, 1);
      EXPECT_EQ(
          writer.Begin(info, {{w_name, DType::kF32, {2, 3}, {0, 6}, w.data()}, {"bias", DType::kI64, {2}, {0, 2}, bias.data()}}),
          absl::OkStatus());
      EXPECT_TRUE(writer.Finish().ok());
    });
    const std::string path = CheckpointPath(disk, "checkpoints", info.step).value();
    return CheckpointReader::Open(disk, path).value();
  }

  MemoryDisk disk;
};

// Diff of two states, of which one is changed; also: the hashes differ where the states do.
std::string DiffAfter(const std::function<void(Small&)>& change) {
  Small a, b;
  change(b);
  CheckpointReader reader_a = a.Open(), reader_b = b.Open();
  std::string diff = Diff(reader_a, reader_b).value();
  EXPECT_EQ(StateHash(reader_a).value() == StateHash(reader_b).value(), diff == "identical");
  return diff;
}

TEST(Diff, IdenticalWhereNothingOfTheStateDiffers) {
  EXPECT_EQ(DiffAfter([](Small&) {}), "identical");
  EXPECT_EQ(DiffAfter([](Small& b) { b.info.cost_state = "more"; }), "identical");
  EXPECT_EQ(DiffAfter([](Small& b) { b.info.config_text = "other"; }), "identical");
  EXPECT_EQ(DiffAfter([](Small& b) { b.info.labels["isa"] = "x"; }), "identical");
}

TEST(Diff, NamesTheFirstDifference) {
  EXPECT_EQ(DiffAfter([](Small& b) { b.w[5] = 5.5f, b.w[4] = 4.25f; }),
            "w [1, 1]: 4 (bits 0x40800000) against 4.25 (bits 0x40880000); 1 of 2 tensors differ");
  EXPECT_EQ(DiffAfter([](Small& b) { b.w[0] = 1, b.bias[1] = 9; }), "bias [1]: 8 against 9; 2 of 2 tensors differ");
  EXPECT_EQ(DiffAfter([](Small& b) { b.info.step = 4; }), "step 3 against 4");
  EXPECT_EQ(DiffAfter([](Small& b) { b.info.sampler_state = "t"; }), "the sampler's state differs");
  EXPECT_THAT(DiffAfter([](Small& b) { b.w_name = "v"; }), AllOf(HasSubstr("v: only in"), HasSubstr("2 of 3")));
}

TEST(Diff, ComparesBits) {
  EXPECT_THAT(DiffAfter([](Small& b) { b.w[0] = -0.0f; }), HasSubstr("w [0, 0]: 0 (bits 0x00000000) against -0 (bits 0x8"));
  Small a, b;
  a.w[2] = b.w[2] = std::numeric_limits<float>::quiet_NaN();
  CheckpointReader reader_a = a.Open(), reader_b = b.Open();
  EXPECT_EQ(Diff(reader_a, reader_b).value(), "identical");
}

TEST(Diff, OtherShapesAndTypes) {
  const float w[6] = {};
  MemoryDisk disk;
  const auto open = [&](int64_t step, DType dtype, const Shape& shape) {
    RunLoopback(1, [&](Communicator& world) {
      CheckpointWriter writer(disk, "checkpoints", world, 9);
      EXPECT_EQ(writer.Begin({.step = step}, {{"w", dtype, shape, {0, 6}, w}}), absl::OkStatus());
      EXPECT_TRUE(writer.Finish().ok());
    });
    return CheckpointReader::Open(disk, CheckpointPath(disk, "checkpoints", step).value()).value();
  };
  CheckpointReader base = open(1, DType::kF32, {2, 3}), other_shape = open(2, DType::kF32, {3, 2});
  CheckpointReader other_type = open(3, DType::kBF16, {2, 3});
  EXPECT_THAT(Diff(base, other_shape).value(), HasSubstr("w: F32 [2, 3] against F32 [3, 2]; 1 of 1 tensors differ"));
  EXPECT_THAT(Diff(base, other_type).value(), HasSubstr("w: F32 [2, 3] against BF16 [2, 3]"));
  EXPECT_NE(StateHash(base).value(), StateHash(other_shape).value());
}

TEST(Diff, LargeTensorsOfOtherLayouts) {
  const TestState state(1, 1500);
  MemoryDisk one, three;
  RunLoopback(1, [&](Communicator& world) {
    CheckpointWriter writer(one, "c", world, 1);
    EXPECT_EQ(Save(writer, state, world), absl::OkStatus());
  });
  RunLoopback(3, [&](Communicator& world) {
    CheckpointWriter writer(three, "c", world, 1);
    EXPECT_EQ(Save(writer, state, world), absl::OkStatus());
  });
  CheckpointReader a = CheckpointReader::Open(one, "c/step-00000001").value();
  CheckpointReader b = CheckpointReader::Open(three, "c/step-00000001").value();
  EXPECT_EQ(Diff(a, b).value(), "identical");
  EXPECT_EQ(StateHash(a).value(), StateHash(b).value());
}

class Offer : public testing::Test {
 protected:
  Offer() {
    RunLoopback(2, [&](Communicator& world) {
      CheckpointWriter writer(disk_, "run/checkpoints", world, 5);
      for (int64_t step = 1; step <= 3; ++step) EXPECT_EQ(Save(writer, TestState(step), world), absl::OkStatus());
    });
  }

  void FlipDataOf(int64_t step) {
    disk_.Contents(CheckpointPath(disk_, "run/checkpoints", step).value() + "/rank-00001.bin")[100] ^= 1;
  }

  std::string OfferAfter(const absl::Status& refused) {
    const absl::Status offer = OfferNewestGood(disk_, "run/checkpoints", refused);
    EXPECT_EQ(ExitCodeOf(offer), ExitCode::kIntegrity);
    return std::string(offer.message());
  }

  MemoryDisk disk_;
  const absl::Status refused_ = IntegrityError("step 3 is bad");
};

TEST_F(Offer, NamesTheNewestWholeOneAndTheRemedy) {
  FlipDataOf(3);
  EXPECT_EQ(OfferAfter(refused_),
            "step 3 is bad. The newest good checkpoint is run/checkpoints/step-00000002: to go on from it, "
            "remove or "
            "rename run/checkpoints/step-00000003 and run the same command again");
}

TEST_F(Offer, SkipsAllThatAreDamaged) {
  FlipDataOf(3);
  ASSERT_EQ(disk_.Remove("run/checkpoints/step-00000002/manifest.pb"), absl::OkStatus());
  EXPECT_THAT(OfferAfter(refused_), AllOf(HasSubstr("good checkpoint is run/checkpoints/step-00000001"),
                                          HasSubstr("rename run/checkpoints/step-00000003, run/checkpoints/step-00000002")));
  FlipDataOf(1);
  EXPECT_THAT(OfferAfter(refused_), AllOf(HasSubstr("step 3 is bad"), HasSubstr("No good checkpoint is left")));
}

TEST_F(Offer, SaysNoMoreWhereTheNewestIsWhole) {
  EXPECT_EQ(OfferAfter(refused_), "step 3 is bad");
  EXPECT_EQ(OfferNewestGood(disk_, "nowhere", refused_), refused_);
}

}  // namespace
}  // namespace jevons
