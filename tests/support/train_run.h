// Whole runs over loopback, on a small text.
#ifndef JEVONS_TESTS_SUPPORT_TRAIN_RUN_H_
#define JEVONS_TESTS_SUPPORT_TRAIN_RUN_H_

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <string>

#include "data/prepare/prepare.h"
#include "parallel/comm/loopback.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/run/train_loop.h"

namespace jevons {

namespace fs = std::filesystem;

class TrainTest : public testing::Test {
 protected:
  void SetUp() override {
    std::ofstream text(folder_ / "text.txt");
    for (int i = 0; i < 40; ++i) text << "the cat sat on the mat and the dog sat on the log, " << i << " times in all.\n\n";
    text.close();
    PrepareOptions options;
    options.inputs = {folder_ / "text.txt"};
    options.output = folder_ / "data";
    options.vocab_size = 280;
    options.validation_fraction = 0.1;
    options.threads = 1;
    const auto report = Prepare(options);
    ASSERT_TRUE(report.ok()) << report.status();
    config_.mutable_model()->CopyFrom(TinyModel());
    config_.mutable_model()->set_vocab_size(0);
    config_.mutable_model()->mutable_mtp()->set_depth(1);
    config_.mutable_data()->set_path(folder_ / "data");
    config_.mutable_data()->set_sequence_length(12);
    TrainConfig& train = *config_.mutable_train();
    train.set_steps(6);
    train.set_batch_sequences(5);
    train.set_batch_ramp_start(3);
    train.set_batch_ramp_tokens(120);
    train.set_eval_sequences(4);
    config_.mutable_optimizer()->mutable_learning_rate()->set_peak(3e-3);
    config_.mutable_optimizer()->mutable_learning_rate()->set_warmup_steps(2);
    config_.mutable_optimizer()->set_ema_decay(0.9);
    config_.mutable_log()->set_interval(1000);
  }

  std::string Folder(const std::string& name) const { return folder_ / name; }

  // Trains on `ranks` threads; the status of rank 0, which must be everybody's code.
  absl::Status TrainOn(int ranks, int ep, const std::string& output, const std::atomic<int>* stop = nullptr,
                       RunSummary* summary = nullptr, const Meter& meter = {}) {
    RunConfig config = config_;
    config.mutable_parallel()->set_ep(ep);
    const auto inputs = ResolveInputs(config);
    if (!inputs.ok()) return inputs.status();
    absl::Status result;
    std::set<absl::StatusCode> codes;
    std::mutex mutex;
    RunLoopback(ranks, [&](Communicator& world) {
      const TrainOptions options{.inputs = *inputs,
                                 .output = output,
                                 .meter = meter,
                                 .stop = stop,
                                 .labels = {{kTokenizerLabel, inputs->tokenizer_hash}}};
      const auto trained = Train(options, world);
      const std::lock_guard lock(mutex);
      codes.insert(trained.status().code());
      if (world.rank() != 0) return;
      result = trained.status();
      if (trained.ok() && summary != nullptr) *summary = *trained;
    });
    EXPECT_EQ(codes.size(), 1u);
    return result;
  }

  std::string Hash(const std::string& output) const {
    const auto steps = CommittedSteps(PosixFileSystem(), output + "/checkpoints");
    if (!steps.ok() || steps->empty()) return "no checkpoint";
    const auto path = CheckpointPath(PosixFileSystem(), output + "/checkpoints", steps->back());
    if (!path.ok()) return path.status().ToString();
    auto reader = CheckpointReader::Open(PosixFileSystem(), *path);
    if (!reader.ok()) return reader.status().ToString();
    const auto hash = StateHash(*reader);
    return hash.ok() ? *hash : hash.status().ToString();
  }

  const TempFolder temporary_;
  const fs::path folder_ = temporary_.path();
  RunConfig config_;
};

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_TRAIN_RUN_H_
