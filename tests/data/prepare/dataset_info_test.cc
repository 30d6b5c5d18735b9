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
    info_.bad_documents = 3;
    info_.document_rule = "separator";
    info_.document_separator = "<|endoftext|>";
    info_.end_token = "</s>";
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
  EXPECT_EQ(VerifyFilesWithoutSums(folder_.path(), info_), status);
  info_.files["train.sums"] = {};
  EXPECT_TRUE(VerifyFilesWithoutSums(folder_.path(), info_).ok());  // checked as it is read
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/train.bin: the contents are not those of dataset.json"));
}

TEST_F(DatasetInfoTest, RefusesDamage) {
  const std::string good = ReadWholeFile(folder_ / "dataset.json");
  for (size_t size = 0; size + 2 < good.size(); size += 11) {
    folder_.Write("dataset.json", good.substr(0, size));
    ExpectDamaged("dataset.json: damaged");
  }
  folder_.Write("dataset.json", "[]");
  ExpectDamaged("not a jevons-dataset of version 1");
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string other = good;
    EXPECT_NE(other.find(from), std::string::npos) << from;
    folder_.Write("dataset.json", other.replace(other.find(from), from.size(), to));
  };
  for (const auto& [from, to, message] :
       {std::tuple("jevons-dataset", "nobodys-dataset", "not a jevons-dataset of version 1"),
        std::tuple("\"version\": 1", "\"version\": 2", "not a jevons-dataset of version 1"),
        std::tuple("\"tokens\": 2000", "\"tokens\": \"20\"",
                   "damaged: train: field \"tokens\" is \"20\", not a whole number from 0 on"),
        std::tuple("\"tokens\": 2000", "\"tokens\": 2000.5", "train: field \"tokens\" is 2000.5, not a whole number"),
        std::tuple("\"tokens\": 2000", "\"tokens\": -1", "train: field \"tokens\" is -1, not a whole number"),
        std::tuple("\"tokens\": 2000", "\"tokens\": 9223372036854775808", "train: field \"tokens\" is 9223372036854775808"),
        std::tuple("\"documents\": 1,", "", "validation: field \"documents\" is missing"),
        std::tuple("\"end_token\"", "\"end_tokens\"", "field \"end_tokens\" is not known"),
        std::tuple("\"vocab_size\": 1024", "\"vocab_size\": 1024, \"vocab_size\": 1024", "duplicate key"),
        std::tuple("\"vocab_size\": 1024", "\"vocab_size\": true", "field \"vocab_size\" is true"),
        std::tuple("\"xxh3_128\"", "\"md5\"", "files: \"train.bin\": field \"xxh3_128\" is missing"),
        std::tuple("\"files\": {", "\"files\": 1, \"f\": {", "field \"f\" is not known")}) {
    replaced(from, to);
    ExpectDamaged(message);
  }
  folder_.Write("dataset.json", good + std::string("\0{}", 3));
  ExpectDamaged("a NUL character at byte");
}

TEST_F(DatasetInfoTest, ReadsAFolderOfBeforeSomeFieldsWereRecorded) {
  std::string old = ReadWholeFile(folder_ / "dataset.json");
  const size_t from = old.find("  \"bad_documents\""), to = old.find("  \"files\"");
  folder_.Write("dataset.json", old.erase(from, to - from));
  info_.bad_documents = 0;
  info_.document_rule = info_.document_separator = info_.end_token = "";
  EXPECT_EQ(LoadDatasetInfo(folder_.path()).value(), info_);
}

TEST_F(DatasetInfoTest, SaysWhereThereIsNone) {
  const absl::Status status = LoadDatasetInfo("/no/such/folder").status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/no/such/folder/dataset.json: cannot open"));
}

}  // namespace
}  // namespace jevons
