#include <xxhash.h>

#include <cstring>
#include <vector>

#include "data/index/block_sums.h"
#include "data/index/index_layout.h"
#include "data/index/indexed_dataset.h"
#include "data/prepare/dataset_info.h"
#include "data/prepare/json_line.h"
#include "data/tokenizer/tokenizer.h"
#include "kernels/base/check.h"
#include "tests/fuzz/targets.h"
#include "tests/support/temp_folder.h"

namespace jevons {
namespace {

constexpr int64_t kVocabulary = 300;

// Right checksums of what may be wrong.
void PutSums(const std::string& prefix, const std::string& bin, const std::string& idx) {
  auto file = OutputFile::Create(index_layout::SumsPath(prefix));
  BlockSummer sums;
  sums.Append(std::as_bytes(std::span(bin)));
  JEVONS_CHECK(file.ok() && sums.Write(*file, XXH3_64bits(idx.data(), idx.size())).ok() && file->Close().ok());
}

// u8 0: no .sums, 1: right ones, else what follows the .bin; u16 bytes of .idx, u16 bytes of .bin; .idx, .bin, .sums.
bool Index(const std::string& input) {
  static const TempFolder folder;
  constexpr size_t kHeader = 5;
  if (input.size() < kHeader) return false;
  uint16_t idx_bytes = 0, bin_bytes = 0;
  std::memcpy(&idx_bytes, input.data() + 1, sizeof idx_bytes);
  std::memcpy(&bin_bytes, input.data() + 3, sizeof bin_bytes);
  const std::string idx = input.substr(kHeader, idx_bytes), bin = input.substr(kHeader + idx.size(), bin_bytes);
  const std::string prefix = folder / "x";
  PutFile(PosixFileSystem(), index_layout::IdxPath(prefix), idx);
  PutFile(PosixFileSystem(), index_layout::BinPath(prefix), bin);
  std::remove(index_layout::SumsPath(prefix).c_str());
  if (input[0] == 1) PutSums(prefix, bin, idx);
  if (input[0] > 1) PutFile(PosixFileSystem(), index_layout::SumsPath(prefix), input.substr(kHeader + idx.size() + bin.size()));
  const auto dataset = IndexedDataset::Open(prefix, kVocabulary);
  if (!dataset.ok()) return false;
  JEVONS_CHECK(dataset->DocumentStart(dataset->documents()) == dataset->tokens());
  int64_t tokens = 0;
  for (int64_t d = 0; d < dataset->documents(); ++d) tokens += dataset->DocumentLength(d);
  JEVONS_CHECK(tokens == dataset->tokens());
  std::vector<int32_t> read(static_cast<size_t>(tokens));
  if (!dataset->Read(0, read).ok()) return false;
  for (const int32_t token : read) JEVONS_CHECK(token >= 0 && token < kVocabulary);
  return true;
}

bool DatasetJson(const std::string& input) {
  static const TempFolder folder;
  folder.Write("tokenizer.json", "{}");
  folder.Write(kDatasetInfoFile, input);
  const auto info = LoadDatasetInfo(folder.path());
  if (!info.ok()) return false;
  JEVONS_CHECK(SaveDatasetInfo(folder.path(), *info).ok());
  const auto again = LoadDatasetInfo(folder.path());
  JEVONS_CHECK(again.ok() && *again == *info, "%s", input.c_str());
  return true;
}

bool TokenizerJson(const std::string& input) {
  const auto tokenizer = Tokenizer::FromJson(input, "tokenizer.json", EndToken::kOptional);
  if (!tokenizer.ok()) return false;
  const std::string text = tokenizer->ToJson();
  const auto again = Tokenizer::FromJson(text, "again", EndToken::kOptional);
  JEVONS_CHECK(again.ok(), "%s\n%s", std::string(again.status().message()).c_str(), text.c_str());
  JEVONS_CHECK(again->ToJson() == text, "%s", text.c_str());
  const std::string words = "It's 1234, \u00e9\u4e2d\u6587 \xff\xc0 <a>\r\n\tabcabc";
  const std::vector<int32_t> ids = tokenizer->Encode(words, {.specials = SpecialText::kRecognized, .add_bos = true});
  JEVONS_CHECK(
      tokenizer->Decode(ids).ok() && again->Encode(words, {.specials = SpecialText::kRecognized, .add_bos = true}) == ids, "%s",
      text.c_str());
  return true;
}

bool JsonLine(const std::string& input) { return JsonLineField(input, "text").ok(); }

constexpr FuzzTarget kTargets[] = {
    {"index", Index}, {"dataset_json", DatasetJson}, {"tokenizer_json", TokenizerJson}, {"json_line", JsonLine}};

}  // namespace

std::span<const FuzzTarget> DataTargets() { return kTargets; }

}  // namespace jevons
