// Datasets for tests: small, and made so that a token tells where it came from.
#ifndef JEVONS_TESTS_DATA_TEST_DATA_H_
#define JEVONS_TESTS_DATA_TEST_DATA_H_

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "data/index/indexed_dataset.h"
#include "gtest/gtest.h"
#include "kernels/base/status.h"
#include "tests/support/temp_folder.h"

namespace jevons {

inline constexpr int64_t kTestVocab = 1 << 20;  // large enough that tokens are four bytes

using Documents = std::vector<std::vector<int32_t>>;

inline std::string ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void WriteBytes(const std::string& path, const std::string& bytes) {
  std::filesystem::remove(path);  // some file systems flush a file that is overwritten: slow
  std::ofstream(path, std::ios::binary) << bytes;
}

inline void WriteDataset(const std::string& prefix, const Documents& documents, int64_t vocab_size = kTestVocab) {
  absl::StatusOr<IndexedDatasetWriter> writer = IndexedDatasetWriter::Create(prefix, vocab_size);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const std::vector<int32_t>& document : documents) ASSERT_TRUE(writer->AddDocument(document).ok());
  ASSERT_TRUE(writer->Finish().ok());
}

// `count` documents of 0..max_length tokens, numbered on from `first` through all of them. At least one
// token.
inline Documents NumberedDocuments(int64_t count, int64_t max_length, uint64_t seed, int32_t first = 0) {
  std::mt19937_64 random(seed);
  Documents documents(static_cast<size_t>(count));
  for (std::vector<int32_t>& document : documents) {
    document.resize(random() % static_cast<uint64_t>(max_length + 1));
    for (int32_t& token : document) token = first++;
  }
  if (documents.back().empty()) documents.back().push_back(first);
  return documents;
}

inline std::vector<int32_t> Join(const Documents& documents) {
  std::vector<int32_t> tokens;
  for (const std::vector<int32_t>& document : documents) tokens.insert(tokens.end(), document.begin(), document.end());
  return tokens;
}

inline ::testing::AssertionResult Fails(const absl::Status& status, ExitCode code, const std::string& text) {
  if (status.ok()) return ::testing::AssertionFailure() << "succeeded; expected an error about " << text;
  if (ExitCodeOf(status) != code || status.message().find(text) == absl::string_view::npos) {
    return ::testing::AssertionFailure() << "exit code " << static_cast<int>(ExitCodeOf(status)) << ": " << status;
  }
  return ::testing::AssertionSuccess();
}

}  // namespace jevons

#endif  // JEVONS_TESTS_DATA_TEST_DATA_H_
