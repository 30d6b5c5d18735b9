// What a run's checkpoints go through in months, in random order on a disk in memory: saves, incarnations that take over while another saves,
// cut off ones that go on saving, calls that fail, power losses, damage that is set aside. After each event what was said to be committed is
// there and whole, and nothing that a cut off incarnation wrote has become a checkpoint.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/philox.h"
#include "parallel/comm/loopback.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/memory_disk.h"
#include "tests/support/trials.h"
#include "tests/trainer/checkpoint/test_state.h"
#include "trainer/checkpoint/folder.h"

namespace jevons {
namespace {

constexpr char kDirectory[] = "run/checkpoints";
constexpr int kKeep = 2, kEvents = 24;

class History {
 public:
  History(uint64_t seed, Communicator& world) : seed_(seed), world_(world), disk_(std::make_unique<MemoryDisk>()) {
    EXPECT_EQ(disk_->MakeDirectory("run"), absl::OkStatus());
    EXPECT_EQ(disk_->SyncDirectory("/"), absl::OkStatus());
    Start();
  }

  // What went wrong after which event; empty: nothing.
  std::string Run() {
    for (int event = 0; event < kEvents; ++event) {
      const std::string what = Happen();
      if (const std::string violation = Violation(); !violation.empty())
        return absl::StrFormat("event %d, %s: %s", event, what, violation);
    }
    return "";
  }

 private:
  // One that saves through a disk of which a call may fail.
  struct Incarnation {
    Incarnation(MemoryDisk& disk, int64_t first_failure, Communicator& world)
        : files(disk, {.first_failure = first_failure}), writer(files, kDirectory, world, kKeep) {}
    FaultFileSystem files;
    CheckpointWriter writer;
  };

  uint64_t Random(uint64_t below) { return RandomBits(seed_, 0, drawn_++) % below; }

  // A new incarnation, which goes on from the newest checkpoint; the one before lives on, cut off, as far as it knows.
  void Start() {
    const int64_t first_failure = Random(3) == 0 ? static_cast<int64_t>(Random(60)) : INT64_MAX;
    auto next = std::make_unique<Incarnation>(*disk_, first_failure, world_);
    if (!next->writer.TakeOver().ok()) return;  // and never has been
    cut_off_ = std::move(now_);
    now_ = std::move(next);
    const std::vector<int64_t> steps = CommittedSteps(*disk_, kDirectory).value();
    step_ = steps.empty() ? 0 : steps.back();
  }

  absl::Status SaveBy(Incarnation& one, int64_t step) { return Save(one.writer, TestState(step), world_); }

  std::string Happen() {
    switch (Random(8)) {
      case 0: Start(); return "a start";
      case 1:
        if (!cut_off_) return "nothing";
        // A step that nobody else has come to.
        if (SaveBy(*cut_off_, 1000).ok()) wrong_ = "a cut off incarnation has committed a checkpoint";
        return "a save by one that is cut off";
      case 2: {
        if (!now_) return "nothing";
        CheckpointWriter& writer = now_->writer;
        const TestState state(step_ + 1);
        if (!writer.Begin(state.Info(), state.Slices(0, 1)).ok()) return "a save that does not begin";
        Start();
        const bool taken_over = &now_->writer != &writer;
        if (!writer.Finish().ok()) return "a start while another saves";
        if (taken_over) wrong_ = "a save has outlived its incarnation";
        promised_ = ++step_;
        return "a start while another saves";
      }
      case 3: PowerLoss(); return "a power loss";
      case 4: Damage(); return "damage";
      default:
        if (!now_) return "nothing";
        if (SaveBy(*now_, step_ + 1).ok()) promised_ = ++step_;
        return "a save";
    }
  }

  void PowerLoss() {
    now_.reset();
    cut_off_.reset();
    disk_ = disk_->AfterPowerLoss([&](int count) { return static_cast<int>(Random(static_cast<uint64_t>(count))); });
    Start();
  }

  // A bit of the newest, which is found and set aside at the next start, as `supervise` does.
  void Damage() {
    const std::vector<int64_t> steps = CommittedSteps(*disk_, kDirectory).value();
    if (steps.size() < 2) return;
    const std::string path = CheckpointPath(*disk_, kDirectory, steps.back()).value();
    std::string& bytes = disk_->Contents(JoinPath(path, "rank-00000.bin"));
    bytes[Random(bytes.size())] ^= static_cast<char>(1 << Random(8));
    const NewestGood found = FindNewestGood(*disk_, kDirectory).value();
    if (found.damaged != std::vector<std::string>{path}) wrong_ = "damage was not found";
    EXPECT_TRUE(SetDamagedAside(*disk_, path).ok());
    EXPECT_EQ(disk_->SyncDirectory(kDirectory), absl::OkStatus());
    promised_ = steps[steps.size() - 2];
    Start();
  }

  std::string Violation() {
    if (!wrong_.empty()) return wrong_;
    const absl::StatusOr<std::vector<int64_t>> steps = CommittedSteps(*disk_, kDirectory);
    if (!steps.ok()) return std::string(steps.status().message());
    if (promised_ > 0 && (steps->empty() || steps->back() < promised_)) return absl::StrCat("step ", promised_, " is lost");
    for (const int64_t step : *steps) {
      if (step >= 1000) return "a checkpoint of one that was cut off";
      auto reader = CheckpointReader::Open(*disk_, CheckpointPath(*disk_, kDirectory, step).value());
      if (!reader.ok()) return std::string(reader.status().message());
      if (std::string mismatch = TestState(step).Mismatch(*reader, 1); !mismatch.empty()) return mismatch;
    }
    return "";
  }

  const uint64_t seed_;
  Communicator& world_;
  uint64_t drawn_ = 0;
  std::unique_ptr<MemoryDisk> disk_;
  std::unique_ptr<Incarnation> now_, cut_off_;
  int64_t step_ = 0, promised_ = 0;
  std::string wrong_;
};

TEST(Incarnations, OfARunNeverLoseWhatTheyPromised) {
  const auto trials = static_cast<uint64_t>(Trials(200));
  int64_t lost = 0;
  RunLoopback(1, [&](Communicator& world) {
    for (uint64_t seed = 0; seed < trials; ++seed) {
      const std::string violation = History(seed, world).Run();
      lost += !violation.empty();
      EXPECT_EQ(violation, "") << "seed " << seed;
    }
  });
  ReportTrials("incarnations", static_cast<int64_t>(trials), absl::StrFormat("0-%d", trials - 1),
               absl::StrFormat("histories of %d events; launcher and membership are not in them", kEvents), "", lost);
}

}  // namespace
}  // namespace jevons
