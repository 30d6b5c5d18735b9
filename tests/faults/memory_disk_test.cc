// The disk that the other tests trust.
#include "tests/support/memory_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/support/fault_file_system.h"

namespace jevons {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

absl::Status Append(FileSystem& files, const std::string& path, const std::string& text, bool sync) {
  JEVONS_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, files.Open(path, OpenMode::kAppend));
  JEVONS_RETURN_IF_ERROR(WriteAll(*file, std::as_bytes(std::span(text)), path));
  if (sync) JEVONS_RETURN_IF_ERROR(file->Fsync());
  return file->Close();
}

// The contents of `path` in all states after a power loss; "-" where it is missing.
std::set<std::string> Outcomes(MemoryDisk& disk, const std::string& path) {
  std::set<std::string> outcomes;
  disk.ForEachPowerLoss(
      1000, 1, [&](MemoryDisk& survivor) { outcomes.insert(survivor.Stat(path).value() ? survivor.Contents(path) : "-"); });
  return outcomes;
}

TEST(MemoryDisk, AFileNeedsItsFsyncAndItsName) {
  MemoryDisk disk;
  ASSERT_EQ(Append(disk, "f", "new", false), absl::OkStatus());
  EXPECT_THAT(Outcomes(disk, "f"), UnorderedElementsAre("-", "", std::string(3, '\0'), "new"));
  ASSERT_EQ(Append(disk, "f", "", true), absl::OkStatus());
  EXPECT_THAT(Outcomes(disk, "f"), UnorderedElementsAre("-", "new"));
  ASSERT_EQ(disk.SyncDirectory("/"), absl::OkStatus());
  EXPECT_THAT(Outcomes(disk, "f"), ElementsAre("new"));
}

TEST(MemoryDisk, BlocksAreTornApart) {
  MemoryDisk disk;
  const std::string a(4096, 'a'), b(4096, 'b');
  ASSERT_EQ(Append(disk, "f", "", true), absl::OkStatus());
  ASSERT_EQ(disk.SyncDirectory("/"), absl::OkStatus());
  ASSERT_EQ(Append(disk, "f", a + b, false), absl::OkStatus());
  const std::set<std::string> outcomes = Outcomes(disk, "f");
  EXPECT_EQ(outcomes.size(),
            7u);  // 3 * 3, but the second block without the first shows the first as zeros either way
  EXPECT_TRUE(outcomes.count(std::string(4096, '\0') + b));
  EXPECT_TRUE(outcomes.count(a));
}

TEST(MemoryDisk, ARenameHappensWhollyOrNot) {
  MemoryDisk disk;
  ASSERT_EQ(disk.MakeDirectory("old"), absl::OkStatus());
  ASSERT_EQ(Append(disk, "old/f", "data", true), absl::OkStatus());
  ASSERT_EQ(disk.SyncDirectory("old"), absl::OkStatus());
  ASSERT_EQ(disk.SyncDirectory("/"), absl::OkStatus());
  ASSERT_EQ(disk.Rename("old", "new"), absl::OkStatus());
  int seen = disk.ForEachPowerLoss(10, 1, [&](MemoryDisk& survivor) {
    const bool is_old = survivor.Stat("old/f").value().has_value();
    EXPECT_NE(is_old, survivor.Stat("new/f").value().has_value());
  });
  EXPECT_EQ(seen, 2);
}

TEST(MemoryDisk, AFailedFsyncForgets) {
  MemoryDisk disk;
  FaultFileSystem files(disk,
                        {.first_failure = 2, .on_failed_sync = [&](const std::string& path) { disk.ForgetUnsynced(path); }});
  EXPECT_FALSE(Append(files, "f", "lost", true).ok());
  EXPECT_EQ(files.failed(), 1);
  EXPECT_EQ(Append(files, "f", " kept", true), absl::OkStatus());
  ASSERT_EQ(disk.SyncDirectory("/"), absl::OkStatus());
  EXPECT_EQ(disk.Contents("f"), "lost kept");
  EXPECT_THAT(Outcomes(disk, "f"), ElementsAre(std::string(4, '\0') + " kept"));
}

}  // namespace
}  // namespace jevons
