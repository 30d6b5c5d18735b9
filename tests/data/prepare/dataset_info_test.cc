#include "data/prepare/dataset_info.h"

#include "gmock/gmock.h"
#include "kernels/base/status.h"
#include "tests/data/prepare/temp_folder.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

class DatasetInfoTest : public testing::Test {
 protected:
  DatasetInfoTest() {
    info_.vocab_size = 1024;
    info_.train = {10, 2000, 8000};
    info_.validation = {1, 100, 400};
    info_.seed = ~uint64_t{0};
    info_.validation_fraction = 0.1;
    info_.files["train.bin"] = DescribeFile(folder_.Write("train.bin", "abc")).value();
    EXPECT_TRUE(SaveDatasetInfo(folder_.path(), info_).ok());
  }
  void ExpectDamaged(absl::string_view message) {
    const absl::Status status = LoadDatasetInfo(folder_.path()).status();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(message)));
  }

  TempFolder folder_;
  DatasetInfo info_;
};

TEST_F(DatasetInfoTest, SaveThenLoadIsTheSame) {
  EXPECT_EQ(LoadDatasetInfo(folder_.path()).value(), info_);
  EXPECT_TRUE(VerifyDataset(folder_.path(), info_).ok());
  EXPECT_EQ(info_.files["train.bin"].xxh3_128, "06b05ab6733a618578af5f94892f3950");  // XXH3-128 of "abc"
}

TEST_F(DatasetInfoTest, NoticesAChangedSize) {
  folder_.Write("train.bin", "abcd");
  ExpectDamaged("/train.bin: has 4 bytes, dataset.json says 3");
  std::filesystem::remove(folder_ / "train.bin");
  ExpectDamaged("/train.bin: No such file");
}

TEST_F(DatasetInfoTest, VerifyNoticesAChangedByte) {
  folder_.Write("train.bin", "abd");
  EXPECT_TRUE(LoadDatasetInfo(folder_.path()).ok());
  const absl::Status status = VerifyDataset(folder_.path(), info_);
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("/train.bin: the contents are not those of dataset.json"));
}

TEST_F(DatasetInfoTest, RefusesDamage) {
  const std::string good = ReadWholeFile(folder_ / "dataset.json");
  for (size_t size = 0; size + 2 < good.size(); size += 11) {
    folder_.Write("dataset.json", good.substr(0, size));
    ExpectDamaged("dataset.json: damaged");
  }
  folder_.Write("dataset.json", "[]");
  ExpectDamaged("damaged");
  std::string other = good;
  other.replace(other.find("jevons-dataset"), 6, "nobody");
  folder_.Write("dataset.json", other);
  ExpectDamaged("not a jevons-dataset of version 1");
  other = good;
  other.replace(other.find("\"tokens\": 2000"), 14, "\"tokens\": \"20\"");
  folder_.Write("dataset.json", other);
  ExpectDamaged("damaged");
}

TEST_F(DatasetInfoTest, SaysWhereThereIsNone) {
  const absl::Status status = LoadDatasetInfo("/no/such/folder").status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/no/such/folder/dataset.json: cannot open"));
}

}  // namespace
}  // namespace jevons
