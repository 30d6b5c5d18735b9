#include "trainer/metrics/jsonl.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "kernels/base/status.h"
#include "tests/support/temp_folder.h"
#include "trainer/metrics/patient_log.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

MetricsRecord Record(int64_t step) { return {step, 1000.0 + step, {{"loss", 1.0 / step}, {"load/max", 2.0}}}; }

class JsonlTest : public ::testing::Test {
 protected:
  void Write(const std::string& text) { std::ofstream(path_, std::ios::binary) << text; }
  std::string Read() const {
    std::ostringstream text;
    text << std::ifstream(path_, std::ios::binary).rdbuf();
    return text.str();
  }
  const TempFolder folder_;
  const std::string path_ = folder_ / "metrics.jsonl";
};

TEST_F(JsonlTest, WritesALinePerRecordAtOnce) {
  auto log = MetricsLog::Open(path_, 0);
  ASSERT_TRUE(log.ok()) << log.status();
  ASSERT_TRUE(log->Append({12, 1.5, {{"loss", 5.25}, {"bad", std::nan("")}, {"worse", INFINITY}}}).ok());
  EXPECT_EQ(Read(), "{\"step\":12,\"time\":1.5,\"loss\":5.25,\"bad\":null,\"worse\":null}\n");
  ASSERT_TRUE(log->Append({13, 2, {{"a \"name\"\n\xff", 1e-300}}}).ok());
  const std::string text = Read();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);  // odd names do not break the lines
}

// A NaN that was written is not passed over for an older number.
TEST_F(JsonlTest, NullIsNan) {
  const auto record = FromJsonLine("{\"step\":3,\"time\":1,\"loss\":null,\"rate\":2.5,\"note\":\"x\"}\n");
  ASSERT_TRUE(record.has_value());
  ASSERT_EQ(record->values.size(), 2u);
  EXPECT_EQ(record->values[0].first, "loss");
  EXPECT_TRUE(std::isnan(record->values[0].second));
  EXPECT_EQ(record->values[1].second, 2.5);
  EXPECT_EQ(record->texts, (std::vector<std::pair<std::string, std::string>>{{"note", "x"}}));
}

TEST_F(JsonlTest, NumbersKeepEveryBit) {
  const MetricsRecord record{7, 0.1, {{"x", 0.1 + 0.2}, {"y", 1e300}, {"z", 5e-324}}, {{"reason", "\"NaN\""}}};
  const auto again = FromJsonLine(ToJsonLine(record));
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->step, 7);
  EXPECT_EQ(again->wall_time, 0.1);
  EXPECT_EQ(again->values, record.values);
  EXPECT_EQ(again->texts, record.texts);
}

TEST_F(JsonlTest, ResumeCutsTheStepsBeyondTheCheckpoint) {
  {
    auto log = MetricsLog::Open(path_, 0);
    ASSERT_TRUE(log.ok());
    EXPECT_FALSE(log->lost().has_value());
    for (int step = 1; step <= 5; ++step) ASSERT_TRUE(log->Append(Record(step)).ok());
  }
  auto log = MetricsLog::Open(path_, 3);
  ASSERT_TRUE(log.ok()) << log.status();
  ASSERT_TRUE(log->lost().has_value());
  EXPECT_EQ(log->lost()->step, 5);
  EXPECT_EQ(log->lost()->wall_time, 1005);
  EXPECT_EQ(Read(), ToJsonLine(Record(1)) + ToJsonLine(Record(2)) + ToJsonLine(Record(3)));
  ASSERT_TRUE(log->Append(Record(4)).ok());
  EXPECT_EQ(Read(), ToJsonLine(Record(1)) + ToJsonLine(Record(2)) + ToJsonLine(Record(3)) + ToJsonLine(Record(4)));
}

TEST_F(JsonlTest, ATornLastLineIsCutAtEveryLength) {
  const std::string first = ToJsonLine(Record(1)), second = ToJsonLine(Record(2));
  for (size_t length = 0; length < second.size(); ++length) {
    Write(first + second.substr(0, length));
    ASSERT_TRUE(MetricsLog::Open(path_, 9).ok()) << length;
    EXPECT_EQ(Read(), first) << length;
  }
  Write(first + "{\"step\": 2, garbage\n");
  ASSERT_TRUE(MetricsLog::Open(path_, 9).ok());
  EXPECT_EQ(Read(), first);
}

TEST_F(JsonlTest, AForeignLineInTheMiddleIsRefusedAndLeftAlone) {
  const std::string text = ToJsonLine(Record(1)) + "hello\n" + ToJsonLine(Record(2));
  Write(text);
  const auto log = MetricsLog::Open(path_, 9);
  ASSERT_FALSE(log.ok());
  EXPECT_EQ(ExitCodeOf(log.status()), ExitCode::kIntegrity);
  EXPECT_THAT(std::string(log.status().message()), HasSubstr("/metrics.jsonl:2: "));
  EXPECT_EQ(Read(), text);
}

TEST_F(JsonlTest, WhatIsNotARecord) {
  for (const char* line : {"", "[]", "1", "{}", "{\"step\":\"1\"}", "{\"step\":1.5}", "null", "{\"step\":"}) {
    EXPECT_FALSE(FromJsonLine(line).has_value()) << line;
  }
  EXPECT_FALSE(FromJsonLine(std::string("{\"step\":1}\0\0{\"step\":2}", 22)).has_value()) << "a hole left by a crash";
}

TEST_F(JsonlTest, AFolderThatDoesNotExistIsAnError) {
  const std::string path = folder_ / "none/metrics.jsonl";
  EXPECT_THAT(std::string(MetricsLog::Open(path, 0).status().message()), HasSubstr(path));
}

// A limit on the size of files stands for a full disk: the write stops in the middle of the piece.
TEST_F(JsonlTest, ARecordThatDoesNotFitLeavesNoPartAndTheNextOneDoes) {
  auto log = MetricsLog::Open(path_, 0);
  ASSERT_TRUE(log.ok() && log->Append(Record(1)).ok());
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto previous = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit full = {ToJsonLine(Record(1)).size() + 10, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
  const absl::Status status = log->Append(Record(2));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, previous);
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kFailure);
  EXPECT_THAT(std::string(status.message()), HasSubstr(path_ + ": cannot write "));
  EXPECT_EQ(Read(), ToJsonLine(Record(1)));
  ASSERT_TRUE(log->Append(Record(3)).ok());
  EXPECT_EQ(Read(), ToJsonLine(Record(1)) + ToJsonLine(Record(3)));
}

// Takes nothing while it is full.
struct FullLog {
  bool full = false;
  std::vector<int64_t> steps = {};
  absl::Status Append(const MetricsRecord& record) {
    if (full) return FailureError("full");
    steps.push_back(record.step);
    return absl::OkStatus();
  }
};

struct View {
  FullLog& disk;
  absl::Status Append(const MetricsRecord& record) { return disk.Append(record); }
};

TEST(PatientLogTest, WhatCannotBeWrittenWaitsInOrder) {
  FullLog disk;
  PatientLog<View> log(View{disk});
  EXPECT_TRUE(log.Append(Record(1)).ok());
  disk.full = true;
  EXPECT_FALSE(log.Append(Record(2)).ok());
  EXPECT_FALSE(log.Append(Record(3)).ok());
  EXPECT_EQ(log.waiting(), 2u);
  disk.full = false;
  EXPECT_TRUE(log.Append(Record(4)).ok());
  EXPECT_EQ(disk.steps, (std::vector<int64_t>{1, 2, 3, 4}));
  EXPECT_EQ(log.waiting(), 0u);
}

TEST(PatientLogTest, OnlySoManyWait) {
  FullLog disk{.full = true};
  PatientLog<View> log(View{disk});
  const auto most = static_cast<int64_t>(PatientLog<View>::kMost);
  for (int64_t step = 1; step <= most + 5; ++step) EXPECT_FALSE(log.Append(Record(step)).ok());
  EXPECT_EQ(log.waiting(), PatientLog<View>::kMost);
  disk.full = false;
  EXPECT_TRUE(log.Append(Record(most + 6)).ok());
  EXPECT_EQ(disk.steps.front(), 7);
  EXPECT_EQ(disk.steps.back(), most + 6);
}

}  // namespace
}  // namespace jevons
