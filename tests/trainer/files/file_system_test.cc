#include "trainer/files/file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/support/temp_folder.h"

namespace jevons {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

absl::Status Put(FileSystem& files, const std::string& path, const std::string& text, OpenMode mode) {
  JEVONS_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, files.Open(path, mode));
  JEVONS_RETURN_IF_ERROR(WriteAll(*file, Bytes(text), path));
  JEVONS_RETURN_IF_ERROR(file->Fsync());
  return file->Close();
}

std::string Get(FileSystem& files, const std::string& path, int64_t offset, size_t size) {
  const std::unique_ptr<File> file = files.Open(path, OpenMode::kRead).value();
  std::string text(size, '?');
  EXPECT_EQ(ReadExactly(*file, offset, std::as_writable_bytes(std::span(text)), path), absl::OkStatus());
  return text;
}

TEST(PosixFileSystem, WritesAppendsReads) {
  FileSystem& files = PosixFileSystem();
  const TempFolder directory;
  const std::string path = directory.path() + "/file";
  EXPECT_EQ(Put(files, path, "first contents", OpenMode::kWrite), absl::OkStatus());
  EXPECT_EQ(Put(files, path, "abc", OpenMode::kWrite), absl::OkStatus());
  EXPECT_EQ(Put(files, path, "defg", OpenMode::kAppend), absl::OkStatus());
  EXPECT_EQ(files.Stat(path).value()->bytes, 7);
  EXPECT_EQ(Get(files, path, 2, 4), "cdef");

  const std::unique_ptr<File> file = files.Open(path, OpenMode::kRead).value();
  std::byte beyond[4];
  const absl::Status status = ReadExactly(*file, 5, beyond, path);
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(path), HasSubstr("ends at byte 7")));
}

TEST(RemoveTree, LeavesWhatLinksPointTo) {
  const TempFolder directory;
  FileSystem& files = PosixFileSystem();
  const std::string tree = directory.path() + "/tree", outside = directory.path() + "/outside";
  ASSERT_TRUE(MakeDirectories(files, tree).ok());
  ASSERT_TRUE(MakeDirectories(files, outside + "/kept").ok());
  ASSERT_EQ(symlink(outside.c_str(), (tree + "/link").c_str()), 0);
  EXPECT_EQ(RemoveTree(files, tree), absl::OkStatus());
  EXPECT_FALSE(files.Stat(tree)->has_value());
  EXPECT_TRUE(files.Stat(outside + "/kept")->has_value());
}

TEST(PosixFileSystem, DirectoriesAndTrees) {
  FileSystem& files = PosixFileSystem();
  const TempFolder directory;
  const std::string deep = directory.path() + "/a/b/c/";
  EXPECT_EQ(MakeDirectories(files, deep), absl::OkStatus());
  EXPECT_EQ(MakeDirectories(files, deep), absl::OkStatus());
  EXPECT_TRUE(files.Stat(deep).value()->is_directory);
  EXPECT_EQ(Put(files, deep + "x", "1", OpenMode::kWrite), absl::OkStatus());
  EXPECT_EQ(Put(files, directory.path() + "/a/y", "2", OpenMode::kWrite), absl::OkStatus());
  EXPECT_THAT(files.List(directory.path() + "/a").value(), ElementsAre("b", "y"));
  EXPECT_FALSE(files.RemoveDirectory(directory.path() + "/a").ok());
  EXPECT_EQ(RemoveTree(files, directory.path() + "/a"), absl::OkStatus());
  EXPECT_EQ(files.Stat(directory.path() + "/a").value(), std::nullopt);
  EXPECT_EQ(RemoveTree(files, directory.path() + "/a"), absl::OkStatus());
}

TEST(PosixFileSystem, ErrorsNamePathActionReasonAndRemedy) {
  FileSystem& files = PosixFileSystem();
  const absl::Status status = files.Open("/nowhere/at/all", OpenMode::kRead).status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kFailure);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("/nowhere/at/all: cannot open"), HasSubstr("No such file"), HasSubstr("check the path")));
  EXPECT_FALSE(files.SyncDirectory("/nowhere").ok());
  EXPECT_FALSE(files.Rename("/nowhere/a", "/nowhere/b").ok());
  EXPECT_FALSE(files.Remove("/nowhere/a").ok());
  EXPECT_FALSE(files.List("/nowhere").ok());
  EXPECT_FALSE(files.MakeDirectory("/nowhere/a").ok());
  EXPECT_FALSE(files.Stat("/dev/null").ok());
  EXPECT_FALSE(MakeDirectories(files, "/dev/null/a").ok());
}

TEST(PosixFileSystem, AFullDiskIsAnErrorAtTheWrite) {
  const std::unique_ptr<File> full = PosixFileSystem().Open("/dev/full", OpenMode::kAppend).value();
  const absl::Status status = WriteAll(*full, Bytes("x"), "/dev/full");
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kFailure);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("No space left"), HasSubstr("free space")));
}

TEST(Paths, JoinAndParent) {
  EXPECT_EQ(JoinPath("a", "b"), "a/b");
  EXPECT_EQ(JoinPath("a/", "b"), "a/b");
  EXPECT_EQ(JoinPath("", "b"), "b");
  EXPECT_EQ(ParentPath("a/b/c"), "a/b");
  EXPECT_EQ(ParentPath("a/b/c//"), "a/b");
  EXPECT_EQ(ParentPath("/a"), "/");
  EXPECT_EQ(ParentPath("a"), ".");
}

}  // namespace
}  // namespace jevons
