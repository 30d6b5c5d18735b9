#include "data/prepare/corpus.h"

#include <filesystem>
#include <numeric>
#include <system_error>
#include <utility>

#include "kernels/base/status.h"

namespace jevons {
namespace {

constexpr size_t kBatchBytes = size_t{1} << 20;

int64_t TotalSize(const Corpus& corpus) {
  const std::vector<int64_t> sizes = FileSizes(corpus);
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
}

}  // namespace

std::vector<int64_t> FileSizes(const Corpus& corpus) {
  std::vector<int64_t> sizes;
  for (const InputFile& file : corpus.files) {
    std::error_code error;
    const auto size = std::filesystem::file_size(file.path, error);
    sizes.push_back(error ? 0 : static_cast<int64_t>(size));
  }
  return sizes;
}

CorpusReader::CorpusReader(const Corpus& corpus, const std::string& label)
    : corpus_(corpus), progress_(label, "MiB", TotalSize(corpus) >> 20) {}

absl::StatusOr<std::optional<DocumentBatch>> CorpusReader::Next() {
  for (; file_ < corpus_.files.size(); ++file_) {
    const InputFile& input = corpus_.files[file_];
    if (!reader_) {
      JEVONS_ASSIGN_OR_RETURN(reader_, DocumentReader::Open(input, corpus_.rule, corpus_.separator));
    }
    DocumentBatch batch{&input, static_cast<int64_t>(file_), {}};
    for (size_t bytes = 0; bytes < kBatchBytes;) {
      JEVONS_ASSIGN_OR_RETURN(std::optional<RawDocument> document, reader_->Next());
      if (!document) break;
      bytes += document->bytes.size() + sizeof(RawDocument);
      batch.documents.push_back(*std::move(document));
    }
    progress_.Update((bytes_before_ + reader_->file_position()) >> 20);
    if (!batch.documents.empty()) return batch;
    bytes_before_ += reader_->file_position();
    reader_.reset();
  }
  return std::nullopt;
}

}  // namespace jevons
