// Damaged files are refused with an integrity error that names the file; never a crash.
#include <cstring>
#include <filesystem>
#include <limits>

#include "data/index/indexed_dataset.h"
#include "tests/data/test_data.h"

namespace jevons {
namespace {

constexpr size_t kLengths = 34;  // where the array begins; 4 sequences
constexpr size_t kPointers = kLengths + 4 * 4;
constexpr size_t kDocuments = kPointers + 4 * 8;
constexpr size_t kIndexBytes = kDocuments + 5 * 8;

class CorruptIndexTest : public ::testing::Test {
 protected:
  void SetUp() override {
    WriteDataset(folder_ / "set", {{1, 2, 3}, {}, {4, 5}, {6}}, 100);
    idx_ = ReadBytes(folder_ / "set.idx");
    bin_ = ReadBytes(folder_ / "set.bin");
    std::filesystem::remove(folder_ / "set.sums");  // as beside other programs' files: block_sums_test.cc has them
    ASSERT_EQ(idx_.size(), kIndexBytes);
  }

  absl::Status OpenWith(const std::string& idx, const std::string& bin) {
    WriteBytes(folder_ / "set.idx", idx);
    WriteBytes(folder_ / "set.bin", bin);
    const absl::StatusOr<IndexedDataset> dataset = IndexedDataset::Open(folder_ / "set", 100);
    if (!dataset.ok()) return dataset.status();
    for (int64_t d = 0; d < dataset->documents(); ++d) {  // what opens must be safe to read
      std::vector<int32_t> tokens(static_cast<size_t>(dataset->DocumentLength(d)));
      JEVONS_RETURN_IF_ERROR(dataset->Read(dataset->DocumentStart(d), tokens));
    }
    return absl::OkStatus();
  }

  template <typename T>
  absl::Status OpenWithField(size_t offset, T value) {
    std::string idx = idx_;
    std::memcpy(idx.data() + offset, &value, sizeof(value));
    return OpenWith(idx, bin_);
  }

  const TempFolder folder_;
  std::string idx_, bin_;
};

TEST_F(CorruptIndexTest, TheOriginalOpens) { EXPECT_TRUE(OpenWith(idx_, bin_).ok()); }

TEST_F(CorruptIndexTest, EveryTruncationOfTheIndex) {
  for (size_t size = 0; size < idx_.size(); ++size) {
    EXPECT_TRUE(Fails(OpenWith(idx_.substr(0, size), bin_), ExitCode::kIntegrity, "set.idx")) << size;
  }
}

TEST_F(CorruptIndexTest, AnIndexThatIsTooLong) {
  for (size_t extra = 1; extra < 20; ++extra) {
    EXPECT_TRUE(Fails(OpenWith(idx_ + std::string(extra, '\0'), bin_), ExitCode::kIntegrity, "set.idx")) << extra;
  }
}

TEST_F(CorruptIndexTest, EveryOtherSizeOfTheTokens) {
  for (size_t size = 0; size < bin_.size() + 10; ++size) {
    std::string bin = bin_;
    bin.resize(size);
    if (size == bin_.size()) continue;
    EXPECT_TRUE(Fails(OpenWith(idx_, bin), ExitCode::kIntegrity, "set.bin")) << size;
  }
}

TEST_F(CorruptIndexTest, EveryFlippedBitInHeaderLengthsAndPointers) {
  for (size_t bit = 0; bit < 8 * kDocuments; ++bit) {
    std::string idx = idx_;
    idx[bit / 8] = static_cast<char>(idx[bit / 8] ^ (1 << bit % 8));
    EXPECT_TRUE(Fails(OpenWith(idx, bin_), ExitCode::kIntegrity, "set.idx")) << "bit " << bit;
  }
}

TEST_F(CorruptIndexTest, EveryFlippedBitInDocumentIndicesIsRefusedOrHarmless) {
  int refused = 0;
  for (size_t bit = 8 * kDocuments; bit < 8 * kIndexBytes; ++bit) {
    std::string idx = idx_;
    idx[bit / 8] = static_cast<char>(idx[bit / 8] ^ (1 << bit % 8));
    const absl::Status status = OpenWith(idx, bin_);
    if (!status.ok()) {
      EXPECT_TRUE(Fails(status, ExitCode::kIntegrity, "set.idx"));
    }
    refused += !status.ok();
  }
  EXPECT_GE(refused, 5 * 64 - 5);  // 0 1 2 3 4: few single bits keep the order
}

TEST_F(CorruptIndexTest, FieldsAreNamed) {
  constexpr auto kBad = ExitCode::kIntegrity;
  EXPECT_TRUE(Fails(OpenWithField(0, 'X'), kBad, "field magic"));
  EXPECT_TRUE(Fails(OpenWithField(9, uint64_t{2}), kBad, "field version is 2"));
  EXPECT_TRUE(Fails(OpenWithField(17, uint8_t{9}), kBad, "field dtype is 9"));
  for (const uint64_t count : {uint64_t{5}, uint64_t{1} << 60, uint64_t{1} << 63, ~uint64_t{0}, ~uint64_t{0} / 12}) {
    EXPECT_TRUE(Fails(OpenWithField(18, count), kBad, "sequences")) << count;
    EXPECT_TRUE(Fails(OpenWithField(26, count + 1), kBad, "document indices")) << count;
  }
  EXPECT_TRUE(Fails(OpenWithField(26, uint64_t{0}), kBad, "field document indices is 0"));
  EXPECT_TRUE(Fails(OpenWithField(kLengths, int32_t{-3}), kBad, "field length[0] is -3, negative"));
  EXPECT_TRUE(Fails(OpenWithField(kLengths, std::numeric_limits<int32_t>::max()), kBad, "field length[0]"));
  EXPECT_TRUE(Fails(OpenWithField(kPointers + 16, int64_t{4}), kBad, "field pointer[2] is 4"));
  EXPECT_TRUE(Fails(OpenWithField(kPointers + 16, int64_t{-1}), kBad, "field pointer[2] is -1"));
  EXPECT_TRUE(Fails(OpenWithField(kPointers, std::numeric_limits<int64_t>::max()), kBad, "field pointer[0]"));
  EXPECT_TRUE(Fails(OpenWithField(kDocuments, int64_t{1}), kBad, "field document[0] is 1, not 0"));
  EXPECT_TRUE(Fails(OpenWithField(kDocuments + 16, int64_t{0}), kBad, "field document[2] is 0, outside 1..4"));
  EXPECT_TRUE(Fails(OpenWithField(kDocuments + 32, int64_t{5}), kBad, "field document[4] is 5"));
  EXPECT_TRUE(Fails(OpenWithField(kDocuments + 32, int64_t{3}), kBad, "field document[4], the last, is 3"));
}

TEST_F(CorruptIndexTest, MissingFilesAndFolders) {
  EXPECT_TRUE(Fails(IndexedDataset::Open(folder_ / "none", 100).status(), ExitCode::kIntegrity, "none.idx"));
  std::filesystem::remove(folder_ / "set.bin");
  EXPECT_TRUE(Fails(IndexedDataset::Open(folder_ / "set", 100).status(), ExitCode::kIntegrity, "set.bin"));
  std::filesystem::create_directory(folder_ / "set.bin");
  EXPECT_TRUE(Fails(IndexedDataset::Open(folder_ / "set", 100).status(), ExitCode::kIntegrity, "not a regular file"));
}

TEST_F(CorruptIndexTest, RandomBytesNeverOpen) {
  std::mt19937_64 random(7);
  for (int trial = 0; trial < 2000; ++trial) {
    std::string idx(random() % 200, '\0');
    for (char& byte : idx) byte = static_cast<char>(random());
    std::memcpy(idx.data(), idx_.data(), std::min<size_t>(idx.size(), random() % kPointers));  // some of it right
    if (idx == idx_) continue;
    EXPECT_FALSE(OpenWith(idx, bin_).ok());
  }
}

}  // namespace
}  // namespace jevons
