// dataset.json: what a prepared folder holds. It is written last, so a folder that has it is complete.
#ifndef JEVONS_DATA_PREPARE_DATASET_INFO_H_
#define JEVONS_DATA_PREPARE_DATASET_INFO_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace jevons {

inline constexpr char kDatasetInfoFile[] = "dataset.json";
inline constexpr char kTokenizerFile[] = "tokenizer.json";

struct SplitInfo {
  int64_t documents = 0;
  int64_t tokens = 0;  // with the end-of-sentence token of each document
  int64_t bytes = 0;   // of UTF-8 text: what bits per byte divide by
  bool operator==(const SplitInfo&) const = default;
};

struct FileRecord {
  int64_t bytes = 0;
  std::string xxh3_128;  // 32 hexadecimal digits
  bool operator==(const FileRecord&) const = default;
};

struct DatasetInfo {
  int64_t vocab_size = 0;  // of tokenizer.json, all tokens
  SplitInfo train;
  SplitInfo validation;  // all 0: there is none, and no validation.bin
  uint64_t seed = 0;     // and the fraction: how the validation documents were chosen
  double validation_fraction = 0;
  int64_t bad_documents = 0;       // left out, as `--on-bad-line skip` asked for
  std::string document_rule;       // of plain text, and its separator; empty if the folder is of before they were recorded
  std::string document_separator;  // of rule "separator"
  std::string end_token;           // the text of the token that ends each document; empty likewise
  std::map<std::string, FileRecord> files;  // by name in the folder, all but dataset.json
  bool operator==(const DatasetInfo&) const = default;
};

// Reads FOLDER/dataset.json and compares the files' sizes with it. Integrity error if there is none, it is damaged, has a field that is
// not known or a value that cannot be, or a file is missing or of another size.
absl::StatusOr<DatasetInfo> LoadDatasetInfo(const std::string& folder);
absl::Status SaveDatasetInfo(const std::string& folder, const DatasetInfo& info);

// Size and hash of a file as it is.
absl::StatusOr<FileRecord> DescribeFile(const std::string& path);

// Reads every file and compares its hash; an integrity error names the first that differs.
absl::Status VerifyDataset(const std::string& folder, const DatasetInfo& info);
// Only those that nobody checks as they are read: the tokens of a folder from before there were .sums (data/index/FORMAT.md).
absl::Status VerifyFilesWithoutSums(const std::string& folder, const DatasetInfo& info);

}  // namespace jevons

#endif  // JEVONS_DATA_PREPARE_DATASET_INFO_H_
