#include "trainer/metrics/tensorboard.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/escaping.h"

namespace jevons {
namespace {

// Both records were computed by a separate program from the format's description.
const char kVersionHex[] = "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c";
const char kScalarHex[] =
    "1b000000000000001a0d9e1309000000000000f83f10ac022a0d0a0b0a046c6f7373150000204068997c51";

TEST(TensorBoard, Crc32cOfTheStandardsExamples) {
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8A9136AAu);  // RFC 3720, B.4
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62A8AB43u);
}

TEST(TensorBoard, RecordsAreTheGoldenBytes) {
  EXPECT_EQ(absl::BytesToHexString(FramedRecord(VersionEvent(1.5))), kVersionHex);
  EXPECT_EQ(absl::BytesToHexString(FramedRecord(ScalarEvent({300, 1.5, {{"loss", 2.5}}}))), kScalarHex);
}

TEST(TensorBoard, EachStartMakesANewFile) {
  const std::string folder = ::testing::TempDir() + "/tensorboard_test";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  auto first = EventFile::Create(folder, 1.5), second = EventFile::Create(folder, 1.5);
  ASSERT_TRUE(first.ok() && second.ok()) << first.status() << second.status();
  EXPECT_NE(first->path(), second->path());
  EXPECT_THAT(first->path(), ::testing::HasSubstr("/events.out.tfevents.1."));
  ASSERT_TRUE(first->Append({300, 1.5, {{"loss", 2.5}}}).ok());
  std::ostringstream bytes;
  bytes << std::ifstream(first->path(), std::ios::binary).rdbuf();
  EXPECT_EQ(absl::BytesToHexString(bytes.str()), std::string(kVersionHex) + kScalarHex);
  EXPECT_FALSE(EventFile::Create(folder + "/none", 1.5).ok());
}

}  // namespace
}  // namespace jevons
