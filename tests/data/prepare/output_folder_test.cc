#include "data/prepare/output_folder.h"

#include "gmock/gmock.h"
#include "kernels/base/status.h"
#include "tests/data/prepare/temp_folder.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

void WriteTo(const std::string& folder, const std::string& name, const std::string& contents) {
  std::ofstream(folder + "/" + name) << contents;
}

// Puts a small dataset at `path`.
void MakeDataset(const std::string& path, Overwrite overwrite, const std::string& contents) {
  auto output = OutputFolder::Create(path, overwrite);
  ASSERT_TRUE(output.ok()) << output.status();
  WriteTo(output->staging(), "dataset.json", contents);
  WriteTo(output->staging(), "train.bin", contents);
  ASSERT_TRUE(output->Commit().ok());
}

void ExpectRefused(const std::string& path, Overwrite overwrite, const std::string& message) {
  const absl::Status status = OutputFolder::Create(path, overwrite).status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage);
  EXPECT_THAT(std::string(status.message()), HasSubstr(message));
}

TEST(OutputFolderTest, AppearsWithCommitOnly) {
  const TempFolder folder;
  const std::string path = folder / "deep/er/data/";  // parents are made; a slash at the end is no other folder
  {
    auto output = OutputFolder::Create(path, Overwrite::kNo);
    ASSERT_TRUE(output.ok()) << output.status();
    WriteTo(output->staging(), "train.bin", "half");
    EXPECT_FALSE(fs::exists(path));
  }
  EXPECT_TRUE(fs::is_empty(folder / "deep/er"));
  MakeDataset(path, Overwrite::kNo, "one");
  EXPECT_EQ(ReadWholeFile(path + "train.bin"), "one");
  EXPECT_FALSE(fs::exists(folder / "deep/er/data.partial"));
}

TEST(OutputFolderTest, ReplacesADatasetOnRequestOnly) {
  const TempFolder folder;
  const std::string path = folder / "data";
  fs::create_directory(path);  // an empty folder is no obstacle
  MakeDataset(path, Overwrite::kNo, "one");
  ExpectRefused(path, Overwrite::kNo, "already holds a dataset");
  MakeDataset(path, Overwrite::kYes, "two");
  EXPECT_EQ(ReadWholeFile(path + "/train.bin"), "two");
  EXPECT_FALSE(fs::exists(path + ".partial"));
  {
    auto output = OutputFolder::Create(path, Overwrite::kYes);  // given up: the old one stays
    ASSERT_TRUE(output.ok());
    WriteTo(output->staging(), "train.bin", "three");
  }
  EXPECT_EQ(ReadWholeFile(path + "/train.bin"), "two");
}

TEST(OutputFolderTest, NeverRemovesWhatIsNotItsOwn) {
  const TempFolder folder;
  const std::string path = folder / "data";
  fs::create_directory(path);
  WriteTo(path, "thesis.txt", "years of work");
  ExpectRefused(path, Overwrite::kYes, "not just a dataset (it holds \"thesis.txt\")");
  fs::remove(path + "/thesis.txt");
  WriteTo(path, "train.bin", "a dataset made by hand, without dataset.json");
  ExpectRefused(path, Overwrite::kYes, "it holds \"train.bin\"");
  ExpectRefused(folder.Write("file", ""), Overwrite::kYes, "is not a folder");
  ExpectRefused("", Overwrite::kYes, "name a folder");
  ExpectRefused("/", Overwrite::kYes, "name a folder");
  fs::create_directory(folder / "other.partial");
  WriteTo(folder / "other.partial", "notes", "mine");
  ExpectRefused(folder / "other", Overwrite::kYes, "other.partial: is in the way and holds \"notes\"");
}

TEST(OutputFolderTest, RemovesWhatADeadProcessLeft) {
  const TempFolder folder;
  fs::create_directory(folder / "data.partial");
  WriteTo(folder / "data.partial", "train.bin.partial", "torn");
  WriteTo(folder / "data.partial", "validation.idx", "stale");
  MakeDataset(folder / "data", Overwrite::kNo, "one");
  EXPECT_FALSE(fs::exists(folder / "data/validation.idx"));
  EXPECT_FALSE(fs::exists(folder / "data/train.bin.partial"));
}

TEST(OutputFolderTest, OneProcessAtATime) {
  const TempFolder folder;
  auto first = OutputFolder::Create(folder / "data", Overwrite::kNo);
  ASSERT_TRUE(first.ok());
  WriteTo(first->staging(), "dataset.json", "first");
  ExpectRefused(folder / "data", Overwrite::kNo, "another process is preparing this output");
  ASSERT_TRUE(first->Commit().ok());
  EXPECT_EQ(ReadWholeFile(folder / "data/dataset.json"), "first");
}

}  // namespace
}  // namespace jevons
