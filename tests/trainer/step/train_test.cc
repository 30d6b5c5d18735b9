// Whole runs over loopback: learning, resuming at every step on other layouts, stopping, and refusing.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "data/index/indexed_dataset.h"
#include "kernels/base/check.h"
#include "tests/support/train_run.h"
#include "tests/support/trials.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/metrics/jsonl.h"
#include "trainer/run/state.h"

namespace jevons {
namespace {

using testing::HasSubstr;

TEST_F(TrainTest, ResumesBitwiseAtEveryStepOnOtherLayouts) {
  ASSERT_TRUE(TrainOn(1, 1, Folder("straight")).ok());
  const std::string straight = Hash(Folder("straight"));
  const std::vector<std::pair<int, int>> layouts = {{2, 2}, {1, 1}, {3, 1}, {4, 4}, {2, 1}};
  for (int stop = 1; stop < 6; ++stop) {
    const std::string output = Folder("resumed" + std::to_string(stop));
    config_.mutable_train()->set_steps(stop);
    ASSERT_TRUE(TrainOn(layouts[stop - 1].first, layouts[stop - 1].second, output).ok());
    config_.mutable_train()->set_steps(6);
    const auto& second = layouts[static_cast<size_t>(stop % 5)];
    ASSERT_TRUE(TrainOn(second.first, second.second, output).ok());
    EXPECT_EQ(Hash(output), straight) << "stopped after step " << stop;
  }
}

// A run whose every step is another process's, in another schedule: each of them goes on from a checkpoint of each other one. Who
// evaluates before, between and after leaves no trace either.
TEST_F(TrainTest, EveryScheduleGoesOnFromEveryOther) {
  struct Layout {
    ScheduleType schedule;
    int pp, ranks, virtual_stages;
  };
  const std::vector<Layout> layouts = {{GPIPE, 2, 2, 1},    {ONE_F_ONE_B, 4, 4, 1}, {INTERLEAVED, 2, 2, 2}, {ZB_H1, 2, 4, 1},
                                       {DUALPIPE, 2, 2, 1}, {DUALPIPEV, 2, 2, 1},   {ONE_F_ONE_B, 1, 1, 1}};
  const size_t kinds = layouts.size();  // a prime: steps of every length visit all of them
  config_.mutable_model()->set_layers(4);
  config_.mutable_train()->set_batch_sequences(8);
  const int legs = static_cast<int>(kinds * (kinds - 1) + 1);
  config_.mutable_train()->set_steps(legs);
  ASSERT_TRUE(TrainOn(1, 1, Folder("straight")).ok());
  config_.mutable_train()->set_eval_interval(1);
  for (int leg = 0; leg < legs; ++leg) {
    const size_t stride = 1 + static_cast<size_t>(leg) / kinds;
    const Layout& layout = layouts[static_cast<size_t>(leg) * stride % kinds];
    SCOPED_TRACE(absl::StrCat("step ", leg, ", ", ScheduleType_Name(layout.schedule), ", pp ", layout.pp));
    ParallelConfig& parallel = *config_.mutable_parallel();
    parallel.set_pp(layout.pp);
    parallel.set_schedule(layout.schedule);
    parallel.set_virtual_stages(layout.virtual_stages);
    config_.mutable_train()->set_steps(leg + 1);
    ASSERT_TRUE(TrainOn(layout.ranks, 1, Folder("relay")).ok());
  }
  EXPECT_EQ(Hash(Folder("relay")), Hash(Folder("straight")));
  ReportTrials("resume", legs - 1, "all", "each of 7 layouts goes on from each other");
}

// A run that had none begins its average with the weights that it has.
TEST_F(TrainTest, AnAverageMayBeginLater) {
  config_.mutable_optimizer()->set_ema_decay(0);
  config_.mutable_train()->set_steps(3);
  ASSERT_TRUE(TrainOn(2, 2, Folder("run")).ok());
  config_.mutable_optimizer()->set_ema_decay(0.9);
  config_.mutable_train()->set_steps(4);
  config_.mutable_checkpoint()->set_keep(2);
  ASSERT_TRUE(TrainOn(3, 3, Folder("run")).ok());
  const auto open = [&](int64_t step) {
    return CheckpointReader::Open(PosixFileSystem(),
                                  CheckpointPath(PosixFileSystem(), Folder("run") + "/checkpoints", step).value())
        .value();
  };
  CheckpointReader before = open(3), after = open(4);
  EXPECT_FALSE(HasAverage(before));
  EXPECT_EQ(ExitCodeOf(UseAverage(before)), ExitCode::kUsage);
  const Shape shape = {config_.model().hidden_size()};
  std::vector<float> old(static_cast<size_t>(shape.size())), weights(old), average(old), instead(old);
  ASSERT_TRUE(before.Read("weight/model.norm.weight", DType::kF32, shape, {0, shape.size()}, old.data()).ok());
  ASSERT_TRUE(after.Read("weight/model.norm.weight", DType::kF32, shape, {0, shape.size()}, weights.data()).ok());
  ASSERT_TRUE(after.Read("ema/model.norm.weight", DType::kF32, shape, {0, shape.size()}, average.data()).ok());
  for (size_t i = 0; i < old.size(); ++i) EXPECT_EQ(average[i], old[i] + static_cast<float>(1 - 0.9) * (weights[i] - old[i]));
  EXPECT_NE(average, old);
  ASSERT_TRUE(UseAverage(after).ok());
  ASSERT_TRUE(after.Read("weight/model.norm.weight", DType::kF32, shape, {0, shape.size()}, instead.data()).ok());
  EXPECT_EQ(instead, average);
}

TEST_F(TrainTest, ResumesInBf16WithBf16Moments) {
  config_.mutable_precision()->set_compute(BF16);
  config_.mutable_optimizer()->set_moments(MOMENTS_BF16);
  ASSERT_TRUE(TrainOn(1, 1, Folder("straight")).ok());
  config_.mutable_train()->set_steps(3);
  ASSERT_TRUE(TrainOn(4, 2, Folder("resumed")).ok());
  config_.mutable_train()->set_steps(6);
  ASSERT_TRUE(TrainOn(3, 3, Folder("resumed")).ok());
  EXPECT_EQ(Hash(Folder("resumed")), Hash(Folder("straight")));
}

TEST_F(TrainTest, ASignalSavesAndTheSameCommandGoesOn) {
  ASSERT_TRUE(TrainOn(1, 1, Folder("straight")).ok());
  const std::atomic<int> stop{15};
  for (int i = 0; i < 3; ++i) {
    const absl::Status stopped = TrainOn(2, 2, Folder("stopped"), &stop);
    EXPECT_EQ(ExitCodeOf(stopped), ExitCode::kPreempted) << stopped;
  }
  ASSERT_TRUE(TrainOn(2, 2, Folder("stopped")).ok());
  EXPECT_EQ(Hash(Folder("stopped")), Hash(Folder("straight")));
}

// What is made of the weights once a step is made of a checkpoint's, too.
TEST_F(TrainTest, GoesOnAndEvaluatesInFp8) {
  config_.mutable_precision()->set_gemm(FP8_BLOCK);
  RunSummary straight, resumed;
  ASSERT_TRUE(TrainOn(1, 1, Folder("straight"), nullptr, &straight).ok());
  const std::atomic<int> stop{15};
  EXPECT_EQ(ExitCodeOf(TrainOn(1, 1, Folder("stopped"), &stop)), ExitCode::kPreempted);
  ASSERT_TRUE(TrainOn(1, 1, Folder("stopped"), nullptr, &resumed).ok());
  EXPECT_EQ(Hash(Folder("stopped")), Hash(Folder("straight")));
  EXPECT_EQ(resumed.last_validation, straight.last_validation);

  auto inputs = ResolveInputs(config_);
  ASSERT_TRUE(inputs.ok()) << inputs.status();
  const auto path = CheckpointPath(PosixFileSystem(), Folder("stopped") + "/checkpoints", config_.train().steps());
  ASSERT_TRUE(path.ok()) << path.status();
  auto reader = CheckpointReader::Open(PosixFileSystem(), *path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  const auto validation = OpenValidation(*inputs);
  ASSERT_TRUE(validation.ok()) << validation.status();
  RunLoopback(1, [&](Communicator& world) {
    Mesh mesh(world, {.world = 1, .pp = 1, .ep = 1});
    TrainStep step(inputs->config, mesh);
    ASSERT_TRUE(LoadWeights(*reader, step).ok());
    const auto result = step.Evaluate(*validation, config_.train().eval_sequences());
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->loss, straight.last_validation);
  });
}

TEST_F(TrainTest, LearnsItsText) {
  config_.mutable_model()->set_hidden_size(32);
  config_.mutable_model()->set_init_std(0.1);
  config_.mutable_model()->mutable_moe()->set_intermediate_size(16);
  config_.mutable_train()->set_steps(150);
  config_.mutable_train()->set_batch_sequences(8);
  config_.mutable_optimizer()->mutable_learning_rate()->set_peak(2e-2);
  RunSummary summary;
  ASSERT_TRUE(TrainOn(1, 1, Folder("run"), nullptr, &summary).ok());
  EXPECT_GT(summary.first_validation, 5.0);  // ln 320
  EXPECT_LT(summary.last_validation, 0.6);   // all but the numbers is always the same
  EXPECT_EQ(summary.memory.weights, summary.planned.weights);
  EXPECT_EQ(summary.memory.gradients, summary.planned.gradients);
  EXPECT_EQ(summary.memory.optimizer, summary.planned.optimizer);
  // The plan leaves out the operators' own temporaries, which count in a model this small.
  EXPECT_NEAR(summary.memory.activations, summary.planned.activations, 512 << 10);
}

TEST_F(TrainTest, NaNStopsAndNamesStepLayerAndTensor) {
  config_.mutable_optimizer()->mutable_learning_rate()->set_peak(1e30);
  config_.mutable_optimizer()->mutable_learning_rate()->set_warmup_steps(0);
  config_.mutable_checkpoint()->set_interval(1);
  const absl::Status status = TrainOn(2, 2, Folder("run"));
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kNumerical) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("step 2: "));
  EXPECT_THAT(std::string(status.message()), testing::AnyOf(HasSubstr("layer"), HasSubstr("gradient of")));
  // The save of the weights that gave it was under way: it is not committed, for the same command would stop at it again.
  EXPECT_TRUE(CommittedSteps(PosixFileSystem(), Folder("run") + "/checkpoints").value().empty());
  EXPECT_THAT(std::string(status.message()), HasSubstr("There is no checkpoint before it: the same command begins anew"));
}

// A signal had the ruined weights saved: whoever resumes is told which folder to remove, and where the run goes on then.
TEST_F(TrainTest, ACheckpointThatGivesNaNIsNamed) {
  config_.mutable_optimizer()->mutable_learning_rate()->set_warmup_steps(0);
  config_.mutable_train()->set_steps(2);
  ASSERT_TRUE(TrainOn(1, 1, Folder("run")).ok());
  config_.mutable_train()->set_steps(6);
  config_.mutable_optimizer()->mutable_learning_rate()->set_peak(1e30);
  const std::atomic<int> stop{15};
  ASSERT_EQ(ExitCodeOf(TrainOn(1, 1, Folder("run"), &stop)), ExitCode::kPreempted);
  const absl::Status status = TrainOn(1, 1, Folder("run"));
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kNumerical) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("/checkpoints/step-00000003 has these weights: remove it. The same command goes on "
                        "from step 2"));
}

// Two hosts with different copies of the data: the ranks of one would train on other samples.
TEST_F(TrainTest, RanksWithOtherDataAreRefused) {
  fs::copy(folder_ / "data", folder_ / "other", fs::copy_options::recursive);
  std::fstream file(folder_ / "other" / "train.bin", std::ios::in | std::ios::out | std::ios::binary);
  const char byte = static_cast<char>(file.get() ^ 1);
  file.seekp(0);
  file.put(byte);
  file.close();
  std::vector<absl::Status> results(3);
  RunLoopback(3, [&](Communicator& world) {
    RunConfig config = config_;
    if (world.rank() == 2) config.mutable_data()->set_path(folder_ / "other");
    const TrainOptions options{
        .inputs = ResolveInputs(config).value(), .output = Folder("run"), .meter = {}, .stop = nullptr, .labels = {}};
    results[static_cast<size_t>(world.rank())] = Train(options, world).status();
  });
  for (const absl::Status& result : results) {
    EXPECT_EQ(ExitCodeOf(result), ExitCode::kUsage);
    EXPECT_THAT(std::string(result.message()),
                testing::AllOf(testing::StartsWith("rank 2 ("), HasSubstr("the training data's files")));
  }
}

// One yardstick for the MFUs of a run, whatever the moment of a restart measures; on other devices another.
TEST_F(TrainTest, AResumeKeepsThePeakOfTheSameDevices) {
  const auto peak_after = [&](int steps, const char* source, double measured) {
    config_.mutable_train()->set_steps(steps);
    RunSummary summary;
    EXPECT_TRUE(
        TrainOn(1, 1, Folder("run"), nullptr, &summary, {.flops_per_token = 1e6, .peak_flops = measured, .peak_source = source})
            .ok());
    EXPECT_NEAR(summary.mfu, summary.tokens_per_second * 1e6 / summary.meter.peak_flops, 1e-12);
    return summary.meter.peak_flops;
  };
  EXPECT_EQ(peak_after(1, "2 x this", 5e9), 5e9);
  EXPECT_EQ(peak_after(2, "2 x this", 4e9), 5e9);
  EXPECT_EQ(peak_after(3, "4 x that", 7e9), 7e9);
}

TEST_F(TrainTest, ADamagedCheckpointIsRefusedAndAnOlderOneOffered) {
  config_.mutable_checkpoint()->set_interval(2);
  ASSERT_TRUE(TrainOn(1, 1, Folder("run")).ok());
  const auto newest = CheckpointPath(PosixFileSystem(), Folder("run") + "/checkpoints", 6);
  ASSERT_TRUE(newest.ok());
  for (const auto& entry : fs::directory_iterator(*newest)) {
    if (entry.path().extension() != ".bin") continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(100);
    const char byte = static_cast<char>(file.get() ^ 1);
    file.seekp(100);
    file.put(byte);
  }
  config_.mutable_train()->set_steps(8);
  const absl::Status status = TrainOn(1, 1, Folder("run"));
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("step-00000006"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("step-00000004"));
}

TEST_F(TrainTest, OtherDataOrAnotherModelIsRefused) {
  ASSERT_TRUE(TrainOn(1, 1, Folder("run")).ok());
  config_.mutable_train()->set_steps(8);
  config_.mutable_data()->set_seed(99);
  EXPECT_EQ(ExitCodeOf(TrainOn(1, 1, Folder("run"))), ExitCode::kUsage);
  config_.mutable_data()->set_seed(1);
  config_.mutable_model()->set_norm_eps(1e-3);
  const absl::Status model = TrainOn(1, 1, Folder("run"));
  EXPECT_EQ(ExitCodeOf(model), ExitCode::kUsage) << model;
  EXPECT_THAT(std::string(model.message()), HasSubstr("norm_eps"));
  config_.mutable_model()->set_norm_eps(1e-6);
  config_.mutable_train()->set_batch_sequences(7);
  const absl::Status batch = TrainOn(1, 1, Folder("run"));
  EXPECT_EQ(ExitCodeOf(batch), ExitCode::kUsage) << batch;
  EXPECT_THAT(std::string(batch.message()), HasSubstr("train.batch_sequences = 7"));
  config_.mutable_train()->set_batch_sequences(5);
  EXPECT_TRUE(TrainOn(1, 1, Folder("run")).ok());
}

// A checkpoint as it was written before samples could be shuffled: its config does not have the field, its sampler state not the bit.
TEST_F(TrainTest, AnOldRunGoesOnInItsOrder) {
  const auto newest_manifest = [&] {
    const auto path = CheckpointPath(PosixFileSystem(), Folder("old") + "/checkpoints", config_.train().steps());
    JEVONS_CHECK(path.ok());
    const auto bytes = ReadWholeFile(PosixFileSystem(), *path + "/" + kManifestName, kMaxManifestBytes);
    const auto manifest = UnsealManifest(*bytes, *path);
    JEVONS_CHECK(manifest.ok());
    return std::pair(*path, *manifest);
  };
  ASSERT_TRUE(TrainOn(1, 1, Folder("shuffled")).ok());
  config_.mutable_data()->set_shuffle_samples(false);
  ASSERT_TRUE(TrainOn(1, 1, Folder("in_order")).ok());
  EXPECT_NE(Hash(Folder("in_order")), Hash(Folder("shuffled")));
  config_.mutable_train()->set_steps(3);
  ASSERT_TRUE(TrainOn(1, 1, Folder("old")).ok());
  auto [path, manifest] = newest_manifest();
  std::string text = manifest.config_text();
  const std::string field = "  shuffle_samples: false\n";
  ASSERT_NE(text.find(field), std::string::npos) << text;
  manifest.set_config_text(text.erase(text.find(field), field.size()));
  ASSERT_TRUE(WriteManifest(PosixFileSystem(), path, manifest).ok());

  config_.mutable_train()->set_steps(6);
  config_.mutable_data()->set_shuffle_samples(true);
  const absl::Status other = TrainOn(2, 2, Folder("old"));
  EXPECT_EQ(ExitCodeOf(other), ExitCode::kUsage) << other;
  EXPECT_THAT(std::string(other.message()), HasSubstr("shuffle_samples was 0 in the checkpoint and is 1 now"));
  config_.mutable_data()->clear_shuffle_samples();
  testing::internal::CaptureStderr();
  ASSERT_TRUE(TrainOn(2, 2, Folder("old")).ok());
  EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::Not(HasSubstr("shuffle_samples")));
  EXPECT_EQ(Hash(Folder("old")), Hash(Folder("in_order")));
  EXPECT_THAT(newest_manifest().second.config_text(), HasSubstr(field));
}

TEST_F(TrainTest, ARunKeepsItsTokenizer) {
  std::ofstream(folder_ / "data" / "tokenizer_config.json") << "{}";
  ASSERT_TRUE(TrainOn(2, 1, Folder("run")).ok());
  const auto text = [&](const std::string& path) {
    std::ifstream file(folder_ / path);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  EXPECT_EQ(text("run/tokenizer.json"), text("data/tokenizer.json"));
  EXPECT_EQ(text("run/tokenizer_config.json"), "{}");
  const std::string checkpoint = Folder("run") + "/checkpoints/step-00000006";
  EXPECT_EQ(KeptTokenizer(checkpoint), Folder("run") + "/tokenizer.json");
  EXPECT_EQ(KeptTokenizer(checkpoint + "/"), Folder("run") + "/tokenizer.json");
  EXPECT_EQ(KeptTokenizer(Folder("data") + "/step-00000006"), "") << "tokenizer.json above it is not a run's";
  // Another one is not overwritten; a lost one is there again once the run goes on.
  config_.mutable_train()->set_steps(7);
  std::ofstream(folder_ / "run/tokenizer.json", std::ios::app) << "x";
  const absl::Status damaged = TrainOn(1, 1, Folder("run"));
  EXPECT_EQ(ExitCodeOf(damaged), ExitCode::kIntegrity) << damaged;
  EXPECT_THAT(std::string(damaged.message()), HasSubstr("run/tokenizer.json: its hash is"));
  fs::remove(folder_ / "run/tokenizer.json");
  ASSERT_TRUE(TrainOn(1, 1, Folder("run")).ok());
  EXPECT_EQ(text("run/tokenizer.json"), text("data/tokenizer.json"));
}

TEST_F(TrainTest, AnotherTokenizerIsNoticed) {
  ASSERT_TRUE(TrainOn(1, 1, Folder("run")).ok());
  config_.mutable_train()->set_steps(8);
  std::ofstream(folder_ / "data" / "tokenizer.json", std::ios::app) << "\n";
  fs::remove(folder_ / "data" / "dataset.json");  // which would say so first
  const absl::Status status = TrainOn(1, 1, Folder("run"));
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the checkpoint was trained with a tokenizer of hash"));
}

TEST_F(TrainTest, OneRunAtATimeInAFolder) {
  fs::create_directories(Folder("run"));
  const int handle = open(Folder("run").c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_EQ(flock(handle, LOCK_EX), 0);
  EXPECT_EQ(ExitCodeOf(TrainOn(2, 1, Folder("run"))), ExitCode::kUsage);
  close(handle);
  EXPECT_TRUE(TrainOn(2, 1, Folder("run")).ok());
}

TEST_F(TrainTest, TheRecordHasEveryStepOnce) {
  config_.mutable_train()->set_steps(3);
  ASSERT_TRUE(TrainOn(2, 1, Folder("run")).ok());
  config_.mutable_train()->set_steps(6);
  ASSERT_TRUE(TrainOn(1, 1, Folder("run")).ok());
  std::ifstream file(Folder("run") + "/metrics.jsonl");
  std::vector<int64_t> steps;
  for (std::string line; std::getline(file, line);) {
    const auto record = FromJsonLine(line + "\n");
    ASSERT_TRUE(record.has_value()) << line;
    if (record->values.front().first == "loss/main") steps.push_back(record->step);
  }
  EXPECT_EQ(steps, (std::vector<int64_t>{1, 2, 3, 4, 5, 6}));
}

}  // namespace
}  // namespace jevons
