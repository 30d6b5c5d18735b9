#include "trainer/metrics/tensorboard.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/escaping.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tensorboard_view.h"

namespace jevons {
namespace {

// Both records were computed by a separate program from the format's description.
const char kVersionHex[] = "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c";
const char kScalarHex[] = "1b000000000000001a0d9e1309000000000000f83f10ac022a0d0a0b0a046c6f7373150000204068997c51";

// By the format's description: time 1.5, step 300, session_log (7) of 2 bytes: status (1) = START (1).
const char kStartHex[] = "09000000000000f83f10ac023a020801";

TEST(TensorBoard, Crc32cOfTheStandardsExamples) {
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8A9136AAu);  // RFC 3720, B.4
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62A8AB43u);
}

TEST(TensorBoard, RecordsAreTheGoldenBytes) {
  EXPECT_EQ(absl::BytesToHexString(FramedRecord(VersionEvent(1.5))), kVersionHex);
  EXPECT_EQ(absl::BytesToHexString(FramedRecord(ScalarEvent({300, 1.5, {{"loss", 2.5}}}))), kScalarHex);
  EXPECT_EQ(absl::BytesToHexString(StartEvent(1.5, 300)), kStartHex);
}

// A start says from which step on it is the record, and its file is read after those of earlier starts, in the same second too.
TEST(TensorBoard, EachStartMakesANewFileThatReplacesLaterSteps) {
  const TempFolder temporary;
  const std::string& folder = temporary.path();
  auto first = EventFile::Create(folder, 1.5, 300), second = EventFile::Create(folder, 1.5, 301),
       third = EventFile::Create(folder, 1.25, 302);
  ASSERT_TRUE(first.ok() && second.ok() && third.ok()) << first.status() << second.status() << third.status();
  EXPECT_THAT(first->path(), ::testing::HasSubstr("/events.out.tfevents.1."));
  EXPECT_THAT(second->path(), ::testing::HasSubstr("/events.out.tfevents.2."));
  EXPECT_THAT(third->path(), ::testing::HasSubstr("/events.out.tfevents.3."));
  ASSERT_TRUE(first->Append({300, 1.5, {{"loss", 2.5}}}).ok());
  std::ostringstream bytes;
  bytes << std::ifstream(first->path(), std::ios::binary).rdbuf();
  EXPECT_EQ(absl::BytesToHexString(bytes.str()),
            std::string(kVersionHex) + absl::BytesToHexString(FramedRecord(StartEvent(1.5, 300))) + kScalarHex);
  EXPECT_FALSE(EventFile::Create(folder + "/none", 1.5, 0).ok());
}

// A validation's record has some of its step's names again; and what a start makes again, it shows once.
TEST(TensorBoard, AStepHasOneValueOfAName) {
  const TempFolder folder;
  auto first = EventFile::Create(folder.path(), 10, 0), second = EventFile::Create(folder.path(), 5, 2);
  ASSERT_TRUE(first.ok() && second.ok());
  for (const MetricsRecord& record : {MetricsRecord{1, 10, {{"loss", 3}, {"tokens", 64}}},
                                      {1, 11, {{"tokens", 65}, {"validation", 4}}},
                                      {2, 12, {{"loss", 2}, {"tokens", 128}}}})
    ASSERT_TRUE(first->Append(record).ok());
  ASSERT_TRUE(second->Append({2, 13, {{"loss", 1}}}).ok());
  const TensorBoardView view(folder.path());
  const auto shown = [&](const std::string& name) {
    std::vector<std::pair<int64_t, float>> points;
    for (const ShownPoint& point : view.points().at(name)) points.emplace_back(point.step, point.value);
    return points;
  };
  using Points = std::vector<std::pair<int64_t, float>>;
  EXPECT_EQ(shown("loss"), (Points{{1, 3}, {2, 1}}));
  EXPECT_EQ(shown("tokens"), (Points{{1, 64}}));
  EXPECT_EQ(shown("validation"), (Points{{1, 4}}));
  EXPECT_EQ(view.taken_away(), 2);
}

}  // namespace
}  // namespace jevons
