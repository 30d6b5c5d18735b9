#include "trainer/metrics/tensorboard.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/escaping.h"
#include "tests/support/temp_folder.h"

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

}  // namespace
}  // namespace jevons
