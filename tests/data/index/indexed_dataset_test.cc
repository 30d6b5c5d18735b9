// Round trips, Megatron's own bytes, and what the writer leaves on disk.
#include "data/index/indexed_dataset.h"

#include <filesystem>
#include <numeric>

#include "gmock/gmock.h"
#include "tests/data/test_data.h"

namespace jevons {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

std::vector<int32_t> ReadAll(const IndexedDataset& dataset) {
  std::vector<int32_t> tokens(static_cast<size_t>(dataset.tokens()));
  EXPECT_TRUE(dataset.Read(0, tokens).ok());
  return tokens;
}

Documents ReadDocuments(const IndexedDataset& dataset) {
  Documents documents;
  for (int64_t d = 0; d < dataset.documents(); ++d) {
    documents.emplace_back(static_cast<size_t>(dataset.DocumentLength(d)));
    EXPECT_TRUE(dataset.Read(dataset.DocumentStart(d), documents.back()).ok());
  }
  return documents;
}

template <typename... T>
std::string Bytes(T... values) {
  std::string bytes;
  (bytes.append(reinterpret_cast<const char*>(&values), sizeof(values)), ...);
  return bytes;
}

const std::string kMagic("MMIDIDX\0\0", 9);

TEST(IndexedDatasetTest, RoundTripsBothWidths) {
  for (const int64_t vocab : {int64_t{65499}, int64_t{65500}}) {
    const TempFolder folder;
    const Documents documents = {{1, 2, 3}, {}, {65498}, {0, 7}, {}};
    WriteDataset(folder / "set", documents, vocab);
    const auto dataset = IndexedDataset::Open(folder / "set", vocab);
    ASSERT_TRUE(dataset.ok()) << dataset.status();
    EXPECT_EQ(dataset->token_type(), vocab == 65499 ? TokenType::kU16 : TokenType::kI32);
    EXPECT_EQ(dataset->documents(), 5);
    EXPECT_EQ(dataset->tokens(), 6);
    EXPECT_EQ(ReadDocuments(*dataset), documents);
  }
}

TEST(IndexedDatasetTest, RoundTripsManyDocumentsAcrossBufferFlushes) {
  const TempFolder folder;
  const Documents documents = NumberedDocuments(3000, 400, 1);
  WriteDataset(folder / "set", documents);
  const auto dataset = IndexedDataset::Open(folder / "set", kTestVocab);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_GT(dataset->tokens() * 4, 2 << 20);
  EXPECT_EQ(ReadAll(*dataset), Join(documents));
}

TEST(IndexedDatasetTest, ZeroIsASize) {
  const TempFolder folder;
  for (const Documents& documents : {Documents{}, Documents{{}}}) {
    WriteDataset(folder / "set", documents);
    const auto dataset = IndexedDataset::Open(folder / "set", kTestVocab);
    ASSERT_TRUE(dataset.ok()) << dataset.status();
    EXPECT_EQ(dataset->documents(), static_cast<int64_t>(documents.size()));
    EXPECT_EQ(dataset->tokens(), 0);
  }
}

TEST(IndexedDatasetTest, WritesMegatronsBytes) {
  const TempFolder folder;
  WriteDataset(folder / "set", {{1, 2, 3}, {4}}, 1000);
  EXPECT_EQ(ReadBytes(folder / "set.bin"), std::string("\1\0\2\0\3\0\4\0", 8));
  EXPECT_EQ(ReadBytes(folder / "set.idx"), kMagic + Bytes(uint64_t{1}, uint8_t{8}, uint64_t{2}, uint64_t{3}) +
                                               Bytes(int32_t{3}, int32_t{1}) + Bytes(int64_t{0}, int64_t{6}) +
                                               Bytes(int64_t{0}, int64_t{1}, int64_t{2}));
}

// Two sequences in the first document, none in the second, one in the third: as Megatron writes split
// sentences.
std::string SplitIndex(uint8_t dtype, int64_t bytes) {
  return kMagic + Bytes(uint64_t{1}, dtype, uint64_t{3}, uint64_t{4}) + Bytes(int32_t{2}, int32_t{1}, int32_t{2}) +
         Bytes(int64_t{0}, 2 * bytes, 3 * bytes) + Bytes(int64_t{0}, int64_t{2}, int64_t{2}, int64_t{3});
}

template <typename T>
void ExpectReadsSplitIndex(uint8_t dtype) {
  const TempFolder folder;
  WriteBytes(folder / "set.idx", SplitIndex(dtype, sizeof(T)));
  WriteBytes(folder / "set.bin", Bytes<T, T, T, T, T>(5, 6, 7, 8, 100));
  const auto dataset = IndexedDataset::Open(folder / "set", 101);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_EQ(dataset->sequences(), 3);
  EXPECT_EQ(ReadDocuments(*dataset), (Documents{{5, 6, 7}, {}, {8, 100}})) << "dtype " << int{dtype};
}

TEST(IndexedDatasetTest, ReadsEveryIntegerTypeAndSeveralSequencesPerDocument) {
  ExpectReadsSplitIndex<uint8_t>(1);
  ExpectReadsSplitIndex<int8_t>(2);
  ExpectReadsSplitIndex<int16_t>(3);
  ExpectReadsSplitIndex<int32_t>(4);
  ExpectReadsSplitIndex<int64_t>(5);
  ExpectReadsSplitIndex<uint16_t>(8);
}

TEST(IndexedDatasetTest, RefusesFloatingPointTokensAndModes) {
  const TempFolder folder;
  WriteBytes(folder / "set.bin", std::string(40, '\0'));
  WriteBytes(folder / "set.idx", SplitIndex(6, 8));
  EXPECT_TRUE(Fails(IndexedDataset::Open(folder / "set", 10).status(), ExitCode::kIntegrity, "dtype is 6"));
  WriteBytes(folder / "set.idx", SplitIndex(5, 8) + std::string(3, '\0'));
  EXPECT_TRUE(Fails(IndexedDataset::Open(folder / "set", 10).status(), ExitCode::kIntegrity, "modes"));
}

TEST(IndexedDatasetTest, FindsTokensOutsideTheVocabularyWhenRead) {
  const TempFolder folder;
  WriteDataset(folder / "set", {{1, 2}, {9, 3}}, 10);
  const auto dataset = IndexedDataset::Open(folder / "set", 9);
  ASSERT_TRUE(dataset.ok());
  std::vector<int32_t> two(2);
  EXPECT_TRUE(dataset->Read(0, two).ok());
  EXPECT_THAT(two, ElementsAre(1, 2));
  EXPECT_TRUE(Fails(dataset->Read(1, two), ExitCode::kIntegrity, "set.bin: token 2 (byte 4)"));

  WriteBytes(folder / "wide.idx", SplitIndex(5, 8));  // a 64-bit token must not be cut to a legal one
  WriteBytes(folder / "wide.bin", Bytes(int64_t{1}, int64_t{1}, (int64_t{1} << 32) + 1, int64_t{-1}, int64_t{0}));
  const auto wide = IndexedDataset::Open(folder / "wide", 9);
  ASSERT_TRUE(wide.ok());
  EXPECT_TRUE(Fails(wide->Read(1, two), ExitCode::kIntegrity, "token 2 (byte 16)"));
  EXPECT_TRUE(Fails(wide->Read(3, two), ExitCode::kIntegrity, "token 3 (byte 24)"));
}

TEST(IndexedDatasetTest, WriterRefusesWhatTheFormatCannotSay) {
  const TempFolder folder;
  EXPECT_TRUE(Fails(IndexedDatasetWriter::Create(folder / "set", 0).status(), ExitCode::kUsage, "vocab_size is 0"));
  EXPECT_TRUE(Fails(IndexedDatasetWriter::Create(folder / "none/set", 9).status(), ExitCode::kFailure, "none/set"));
  auto writer = IndexedDatasetWriter::Create(folder / "set", 9);
  ASSERT_TRUE(writer.ok());
  EXPECT_TRUE(Fails(writer->AddDocument(std::vector{3, 9}), ExitCode::kUsage, "document 0, token 1: id 9"));
  EXPECT_TRUE(Fails(writer->AddDocument(std::vector{-1}), ExitCode::kUsage, "id -1"));
  EXPECT_EQ(writer->documents(), 0);
}

TEST(IndexedDatasetTest, AnAbandonedWriterLeavesTheOldDatasetAlone) {
  const TempFolder folder;
  WriteDataset(folder / "set", {{1}}, 9);
  {
    auto writer = IndexedDatasetWriter::Create(folder / "set", 9);
    ASSERT_TRUE(writer.ok() && writer->AddDocument(std::vector{2, 3}).ok());
    const IndexedDatasetWriter moved = *std::move(writer);
    EXPECT_EQ(moved.tokens(), 2);
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 3) << "partial files remain";
  EXPECT_EQ(ReadDocuments(*IndexedDataset::Open(folder / "set", 9)), Documents{{1}});
  WriteDataset(folder / "set", {{2, 3}}, 9);
  EXPECT_EQ(ReadDocuments(*IndexedDataset::Open(folder / "set", 9)), (Documents{{2, 3}}));
}

TEST(IndexedDatasetTest, AFailedFinishLeavesNoIndexBesideForeignTokens) {
  const TempFolder folder;
  WriteDataset(folder / "set", {{1}}, 9);
  std::filesystem::remove(folder / "set.bin");
  std::filesystem::create_directories(folder / "set.bin/full");  // what a rename cannot replace
  auto writer = IndexedDatasetWriter::Create(folder / "set", 9);
  ASSERT_TRUE(writer.ok() && writer->AddDocument(std::vector{2, 3}).ok());
  EXPECT_TRUE(Fails(writer->Finish(), ExitCode::kFailure, "set.bin"));
  EXPECT_FALSE(std::filesystem::exists(folder / "set.idx"));
}

TEST(IndexedDatasetTest, TheFingerprintFollowsLengthsAndTokensOnly) {
  const TempFolder folder;
  const auto fingerprint = [&](const std::string& name, const Documents& documents) {
    WriteDataset(folder / name, documents);
    return IndexedDataset::Open(folder / name, kTestVocab)->fingerprint();
  };
  const uint64_t original = fingerprint("a", {{1, 2}, {3}});
  EXPECT_EQ(fingerprint("b", {{1, 2}, {3}}), original);
  EXPECT_NE(fingerprint("b", {{1}, {2, 3}}), original);
  EXPECT_NE(fingerprint("b", {{1, 2}, {4}}), original);
  Documents large = NumberedDocuments(10, 200000, 3);
  const uint64_t before = fingerprint("b", large);
  for (std::vector<int32_t>& document : large) std::reverse(document.begin(), document.end());
  EXPECT_NE(fingerprint("b", large), before);
}

}  // namespace
}  // namespace jevons
