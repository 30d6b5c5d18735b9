// Whatever changes in a prepared dataset is found before it is used.
#include <filesystem>

#include "data/index/indexed_dataset.h"
#include "tests/data/test_data.h"

namespace jevons {
namespace {

class BlockSumsTest : public ::testing::Test {
 protected:
  // 75,000 tokens of four bytes: five blocks, the last of them short.
  void SetUp() override {
    for (int32_t d = 0; d < 3; ++d) {
      documents_.emplace_back();
      for (int32_t i = 0; i < 25000; ++i) documents_.back().push_back((i * 7919 + d * 104729) % kTestVocab);
    }
    WriteDataset(folder_ / "set", documents_);
  }

  absl::Status ReadAllOf(const std::string& file, const std::string& bytes) {
    const std::string original = ReadBytes(folder_ / file);
    WriteBytes(folder_ / file, bytes);
    const absl::Status status = OpenAndReadAll();
    WriteBytes(folder_ / file, original);
    return status;
  }

  absl::Status OpenAndReadAll() {
    JEVONS_ASSIGN_OR_RETURN(const IndexedDataset dataset, IndexedDataset::Open(folder_ / "set", kTestVocab));
    std::vector<int32_t> tokens(static_cast<size_t>(dataset.tokens()));
    return dataset.Read(0, tokens);
  }

  static std::string Flipped(std::string bytes, size_t bit) {
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    return bytes;
  }

  const TempFolder folder_;
  Documents documents_;
};

TEST_F(BlockSumsTest, TheOriginalReads) {
  EXPECT_TRUE(OpenAndReadAll().ok());
  EXPECT_TRUE(IndexedDataset::Open(folder_ / "set", kTestVocab)->has_sums());
}

TEST_F(BlockSumsTest, EveryFlippedBitIsFound) {
  const std::string bin = ReadBytes(folder_ / "set.bin"), idx = ReadBytes(folder_ / "set.idx"),
                    sums = ReadBytes(folder_ / "set.sums");
  ASSERT_EQ(sums.size(), 40u + 5 * 8);
  for (size_t bit = 0; bit < bin.size() * 8; bit += 997)
    EXPECT_TRUE(Fails(ReadAllOf("set.bin", Flipped(bin, bit)), ExitCode::kIntegrity, "set.bin")) << bit;
  EXPECT_TRUE(Fails(ReadAllOf("set.bin", Flipped(bin, bin.size() * 8 - 1)), ExitCode::kIntegrity, "set.bin"));
  for (size_t bit = 0; bit < idx.size() * 8; ++bit)
    EXPECT_TRUE(Fails(ReadAllOf("set.idx", Flipped(idx, bit)), ExitCode::kIntegrity, "set.idx")) << bit;
  for (size_t bit = 0; bit < sums.size() * 8; ++bit)
    EXPECT_TRUE(Fails(ReadAllOf("set.sums", Flipped(sums, bit)), ExitCode::kIntegrity, "set.sums")) << bit;
  for (size_t size = 0; size < sums.size(); ++size)
    EXPECT_TRUE(Fails(ReadAllOf("set.sums", sums.substr(0, size)), ExitCode::kIntegrity, "set.sums")) << size;
}

TEST_F(BlockSumsTest, OnlyWhatIsReadIsChecked) {
  std::string bin = ReadBytes(folder_ / "set.bin");
  bin[65536 * 2 + 10] ^= 1;  // in the third block: tokens 32,768 to 49,151
  WriteBytes(folder_ / "set.bin", bin);
  const auto dataset = IndexedDataset::Open(folder_ / "set", kTestVocab);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  std::vector<int32_t> tokens(32768), one(1);
  EXPECT_TRUE(dataset->Read(0, tokens).ok());
  EXPECT_TRUE(dataset->Read(49152, one).ok());
  EXPECT_TRUE(Fails(dataset->Read(49151, one), ExitCode::kIntegrity, "set.bin: bytes 131072 to 196607"));
  EXPECT_TRUE(Fails(dataset->Read(32767, std::span(tokens).first(2)), ExitCode::kIntegrity, "set.bin: bytes 131072 to 196607"));
}

TEST_F(BlockSumsTest, SumsOfAnotherFile) {
  WriteDataset(folder_ / "other", {documents_[0]});
  EXPECT_TRUE(Fails(ReadAllOf("set.sums", ReadBytes(folder_ / "other.sums")), ExitCode::kIntegrity, "of a .bin of 100000 bytes"));
}

TEST_F(BlockSumsTest, NoSumsNoCheck) {
  std::filesystem::remove(folder_ / "set.sums");
  const auto dataset = IndexedDataset::Open(folder_ / "set", kTestVocab);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_FALSE(dataset->has_sums());
}

TEST_F(BlockSumsTest, NothingHasNoBlocks) {
  WriteDataset(folder_ / "set", {});
  EXPECT_TRUE(OpenAndReadAll().ok());
}

}  // namespace
}  // namespace jevons
